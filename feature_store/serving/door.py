"""The way into an endpoint: who asks, what is answered, how it is counted and noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from feature_store.access.audit import AuditLog, Entry
from feature_store.errors import FeatureStoreError, KeyRefused
from feature_store.serving.guard import Caller
from feature_store.serving.local import check_local
from feature_store.serving.problem import Problem, answer, problem_of
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from feature_store.serving.guard import Guard
    from feature_store.serving.metrics import Metrics

Plain = Callable[[Request], Awaitable[Response]]
Endpoint = Callable[[Request, Caller], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets requests in."""

    guard: Guard
    metrics: Metrics
    audit: AuditLog

    def closed(self, endpoint: Endpoint, name: str) -> Plain:
        """An endpoint that takes a key, as soon as there are some; what it answers is noted."""

        async def call(request: Request) -> Response:
            caller, claimed, problem, status = None, None, "", 500
            try:
                caller = await self.guard.caller(request.headers.getlist("authorization"))
                if caller.key is None:
                    check_local(request.headers)
                response = await endpoint(request, caller)
                status = response.status_code
            except KeyRefused as error:
                claimed = error.key
                response, problem, status = _refusal(problem_of(error))
            except FeatureStoreError as error:
                response, problem, status = _refusal(problem_of(error))
            except Problem as error:
                response, problem, status = _refusal(error)
            finally:
                self.metrics.answered(name, status)
                peer = None if request.client is None else request.client.host
                self.note(name, peer=peer, caller=caller, claimed=claimed, problem=problem, status=status)
            return response

        return call

    def note(
        self, did: str, *, peer: str | None, caller: Caller | None, claimed: str | None, problem: str, status: int
    ) -> None:
        """Put on record what somebody was answered.

        Args:
            did: the operation.
            peer: where he asked from.
            caller: who he is, if he is known.
            claimed: the id of a key that is of no use.
            problem: its kind, if the answer is one.
            status: of the answer, as HTTP has it.
        """
        if not self.audit.is_on:
            return
        entry = Entry(
            at=from_us(self.guard.clock.now_us()),
            env=self.guard.env,
            did=did,
            key=None if caller is None else caller.id,
            claimed=claimed,
            peer=peer,
            what="" if caller is None else caller.what,
            rows=0 if caller is None else caller.rows,
            status=status,
            problem=problem,
        )
        self.audit.note(entry)

    def open(self, endpoint: Plain, name: str) -> Plain:
        """An endpoint for everybody: it tells nothing of what is served, and is not noted."""

        async def call(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except Problem as problem:
                response = answer(problem)
            except FeatureStoreError as error:
                response = answer(problem_of(error))
            except Exception:
                self.metrics.answered(name, 500)
                raise
            self.metrics.answered(name, response.status_code)
            return response

        return call


def _refusal(problem: Problem) -> tuple[Response, str, int]:
    return answer(problem), problem.kind, problem.status
