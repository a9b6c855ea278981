"""One call from its first word to its last: who makes it, what it is answered, how that is counted and noted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

import grpc

from feature_store.errors import FeatureStoreError, KeyRefused
from feature_store.serving.grpc.refusal import code_of, refuse
from feature_store.serving.problem import Problem, problem_of

if TYPE_CHECKING:
    from feature_store.serving.door import Door
    from feature_store.serving.guard import Caller

KEY = "authorization"
"""The metadata in which a key is sent, as in the header of HTTP."""
CANCELLED = 499
"""The status in the audit log of a call whose caller waits no longer; no answer has it."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def visit(door: Door, name: str, context: grpc.aio.ServicerContext) -> AsyncIterator[Caller]:
    """A call: it ends as its body does, and what is raised there is told as a status with details."""
    caller: Caller | None = None

    def end(code: grpc.StatusCode, *, status: int, problem: str = "", claimed: str | None = None) -> None:
        door.metrics.called(name, code.name)
        peer = _host(context.peer())
        door.note(name, peer=peer, caller=caller, claimed=claimed, problem=problem, status=status)

    try:
        metadata = context.invocation_metadata() or ()
        caller = await door.guard.caller([str(value) for each, value in metadata if each == KEY])
        yield caller
    except (asyncio.CancelledError, GeneratorExit):
        end(grpc.StatusCode.CANCELLED, status=CANCELLED)
        raise
    except Problem as error:
        problem, claimed = error, None
    except FeatureStoreError as error:
        problem, claimed = problem_of(error), error.key if isinstance(error, KeyRefused) else None
    except Exception:
        logger.exception("%s failed", name)
        problem, claimed = Problem("internal", "the server failed to answer; its log says why"), None
    else:
        end(grpc.StatusCode.OK, status=200)
        return
    end(code_of(problem), status=problem.status, problem=problem.kind, claimed=claimed)
    await refuse(context, problem)


def _host(peer: str) -> str:
    """`ipv4:127.0.0.1:5000` or `ipv6:[::1]:5000` without what is not the host."""
    scheme, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if scheme in ("ipv4", "ipv6") else peer
