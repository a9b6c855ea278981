"""Bodies of requests, within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.serving.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request


async def body_of(request: Request, *, limit: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: it is larger than the limit; what comes beyond is not read.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Problem("too-large", f"the body may have {limit} bytes at most", {"limit": limit})
        parts.append(part)
    return b"".join(parts)
