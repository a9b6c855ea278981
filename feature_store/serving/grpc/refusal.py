"""How a problem is told over gRPC: a status code, a sentence, and details for machines in the messages of `google.rpc`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from feature_store.serving.problem import KINDS, Problem

DOMAIN = "feature-store"
DETAILS = "grpc-status-details-bin"
"""The trailer that libraries for rich errors look for."""

CODES: Mapping[str, grpc.StatusCode] = {
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "unknown-name": grpc.StatusCode.NOT_FOUND,
    "value-refused": grpc.StatusCode.FAILED_PRECONDITION,
    "too-large": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "internal": grpc.StatusCode.INTERNAL,
    "store-unavailable": grpc.StatusCode.UNAVAILABLE,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Kind of problem -> code. The other kinds are those of HTTP alone."""

SHOWN = 1_000
"""Characters of a text: clients take a few kilobytes of trailers, and refuse the answer if there are more."""


def code_of(problem: Problem) -> grpc.StatusCode:
    """The code of a problem."""
    return CODES.get(problem.kind, grpc.StatusCode.INTERNAL)


async def refuse(context: grpc.aio.ServicerContext, problem: Problem) -> NoReturn:
    """End a call with a problem."""
    code, said = code_of(problem), _short(problem.detail)
    reason = problem.kind.replace("-", "_").upper()
    told = {"title": KINDS[problem.kind].title, **{name: _text(value) for name, value in problem.fields.items()}}
    status = Status(code=code.value[0], message=said)
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN, metadata=told))
    if "Retry-After" in problem.headers:
        again = RetryInfo()
        again.retry_delay.FromSeconds(int(problem.headers["Retry-After"]))
        status.details.add().Pack(again)
    await context.abort(code, said, ((DETAILS, status.SerializeToString()),))
    raise AssertionError("a call that was ended goes on")


def _text(value: object) -> str:
    return _short(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
