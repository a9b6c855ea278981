"""Bodies of requests, within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from feature_store.serving.connection import LATE
from feature_store.serving.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from feature_store.serving.limits import Limits

_END = {"Connection": "close"}
"""What is left of the body stands where the next request would."""


async def body_of(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        Problem: it is larger than the limit, and what comes beyond is not read; it does not come in time, or not to its end.
    """
    parts, size, limit = [], 0, limits.body_bytes
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise Problem("too-large", f"the body may have {limit} bytes at most", {"limit": limit}, _END)
            parts.append(part)
    except ClientDisconnect:
        raise Problem("malformed", "the connection ended before the body", headers=_END) from None
    if LATE in request.scope:
        raise Problem("too-slow", f"the body did not come within {limits.body_s:g} s", headers=_END)
    return b"".join(parts)
