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
            caller, refused, problem, status = None, None, "", 500
            try:
                caller = await self.guard.caller(request.headers.getlist("authorization"))
                response = await endpoint(request, caller)
                status = response.status_code
            except KeyRefused as error:
                refused = error.key
                response, problem, status = _refusal(problem_of(error))
            except FeatureStoreError as error:
                response, problem, status = _refusal(problem_of(error))
            except Problem as error:
                response, problem, status = _refusal(error)
            finally:
                self.metrics.answered(name, status)
                if self.audit.is_on:
                    self.audit.note(_entry(self, request, name, caller, refused, problem, status))
            return response

        return call

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


def _entry(
    door: Door, request: Request, did: str, caller: Caller | None, refused: str | None, problem: str, status: int
) -> Entry:
    return Entry(
        at=from_us(door.guard.clock.now_us()),
        env=door.guard.env,
        did=did,
        key=None if caller is None else caller.id,
        claimed=refused,
        peer=None if request.client is None else request.client.host,
        what="" if caller is None else caller.what,
        rows=0 if caller is None else caller.rows,
        status=status,
        problem=problem,
    )
