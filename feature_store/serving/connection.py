"""A connection of the HTTP server that waits for nobody without end, and keeps nothing without end.

Uvicorn bounds neither the headers of a request nor the time in which they must have come, and reads on what is left of a
body that nobody wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from feature_store.serving.limits import Limits
from feature_store.serving.problem import KINDS, Problem, answer

if TYPE_CHECKING:
    import asyncio

LATE = "feature_store.late"
"""In the scope of a request whose body ends where it had come to when its time was over."""


class Connection(HttpToolsProtocol):
    """Uvicorn's, with limits to what comes before a request is answered, and after."""

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Joined(transport, self.loop)))
        self._in_head = True
        self._heads = self._head_bytes = self._unwanted_bytes = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._wait(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head, heads = self._in_head, self._heads
        super().data_received(data)
        if not self._in_head and self._waiting is None:
            self._wait(self.limits.body_s)
        all_of_it = was_in_head and self._in_head and heads == self._heads
        if not all_of_it or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.limits.head_bytes:
            limit = self.limits.head_bytes
            self._refuse(Problem("headers-too-large", f"address and headers may have {limit} bytes", {"limit": limit}))
        elif self._waiting is None:
            self._wait(self.limits.head_s)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._heads += 1
        self._wait_no_longer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._unwanted_bytes = True, 0
        self._wait_no_longer()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:  # a client may go on for a while until it looks at the answer
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > self.limits.body_bytes:
                self.transport.abort()
        super().on_body(body)

    def _wait(self, seconds: float) -> None:
        self._waiting = self.loop.call_later(seconds, self._give_up)

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(Problem("too-slow", f"address and headers did not come within {self.limits.head_s:g} s"))
        elif self.cycle.response_complete:
            self.transport.close()
        else:  # whoever reads the body answers
            self.cycle.scope[LATE] = True  # type: ignore[literal-required]
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _refuse(self, problem: Problem) -> None:
        """Answer before there is a request, and end."""
        told = answer(problem)
        headers = b"".join(b"%s: %s\r\n" % each for each in told.raw_headers)
        status = f"HTTP/1.1 {problem.status} {KINDS[problem.kind].title}\r\n".encode()
        self.transport.write(b"%s%sconnection: close\r\n\r\n%s" % (status, headers, bytes(told.body)))
        self.transport.close()


class Joined:
    """A transport that writes at once what is written in one turn of the loop: an answer's head and its body."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._unsent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write with what else is written until the loop's next turn."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def close(self) -> None:
        """Close when everything is written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))


def within(limits: Limits) -> type[Connection]:
    """Connections with such limits."""
    return type("Connection", (Connection,), {"limits": limits})
