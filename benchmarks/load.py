"""A load generator: connections with a request under way each, at full load or at a fixed rate.

It waits by `select`, which knows microseconds: an event loop's timers know milliseconds, so that requests which are due
evenly would come in bursts, and it takes less of the processors that it shares with the server.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

PATIENCE_S = 30.0
"""How long an answer may take; a connection that the server closes is not answered."""
_READ_BYTES = 1 << 18


class Connection(ABC):
    """One connection that is kept open; a request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @abstractmethod
    def ask(self, request: bytes) -> None:
        """Send a request, which is smaller than what the system takes at once."""

    @abstractmethod
    def read(self) -> bool:
        """Take what has come; whether the answer is whole. An answer that is an error raises `AssertionError`."""

    def fileno(self) -> int:
        """What `select` waits for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _received(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        assert data, "the server has closed the connection"
        return data


class HttpConnection(Connection):
    """A connection of HTTP/1.1."""

    def ask(self, request: bytes) -> None:
        """Send a request as it goes over the wire."""
        self._got = b""
        self._send(request)

    def read(self) -> bool:
        """Take what has come; whether head and body of the answer are here."""
        self._got += self._received()
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return False
        assert b" 200 " in head[:16], self._got
        return True


class GrpcConnection(Connection):
    """A connection of HTTP/2 that calls one method: no library of it costs as little as a server that is measured.

    Frames are those of RFC 9113, heads those of RFC 7541, each header a literal that is not indexed.
    """

    _DATA, _HEADERS, _RESET, _SETTINGS, _PING, _AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
    _ACK = _END_STREAM = 1
    _END_HEADERS = 4

    def __init__(self, port: int, method: str, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(port)
        wide = (1 << 30).to_bytes(4, "big")
        self._send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + self._frame(self._SETTINGS, 0, 0, b"\x00\x04" + wide)
            + self._frame(self._WINDOW, 0, 0, wide)
        )
        pairs = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "bench"),
            ("te", "trailers"),
        ]
        self._head = b"".join(map(_literal, [*pairs, ("content-type", "application/grpc"), *headers]))
        self._stream, self._got, self._answered = -1, b"", False

    def ask(self, request: bytes) -> None:
        """Send a call of a message."""
        self._stream += 2
        self._answered = False
        message = b"\x00" + len(request).to_bytes(4, "big") + request
        self._send(
            self._frame(self._HEADERS, self._END_HEADERS, self._stream, self._head)
            + self._frame(self._DATA, self._END_STREAM, self._stream, message)
        )

    def read(self) -> bool:
        """Take the frames that have come; whether the last one of the answer is here. One without a message is an error."""
        self._got += self._received()
        ended, at = False, 0
        while len(self._got) >= at + 9:
            size = int.from_bytes(self._got[at : at + 3], "big")
            if len(self._got) < at + 9 + size:
                break
            kind, flags = self._got[at + 3], self._got[at + 4]
            payload = self._got[at + 9 : at + 9 + size]
            at += 9 + size
            assert kind not in (self._RESET, self._AWAY), (kind, payload)
            if kind in (self._SETTINGS, self._PING) and not flags & self._ACK:
                self._send(self._frame(kind, self._ACK, 0, payload if kind == self._PING else b""))
            elif kind == self._DATA:
                self._answered = True
            elif kind == self._HEADERS and flags & self._END_STREAM:
                ended = True
                assert self._answered, payload
        self._got = self._got[at:]
        return ended

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(header: tuple[str, str]) -> bytes:
    return b"\x00" + b"".join(_length(len(text)) + text.encode("ascii") for text in header)


def _length(number: int) -> bytes:
    if number < 127:
        return bytes((number,))
    rest, found = number - 127, [127]
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes((*found, rest))


class Load(NamedTuple):
    """Connections to a server, and the requests that they send one after the other."""

    connect: Callable[[], Connection]
    connections: int
    requests: Sequence[bytes]

    def rate(self, seconds: float) -> float:
        """Answers a second, with a request under way on every connection all the time."""
        with self._open() as opened:
            sent = answered = 0
            began = time.perf_counter()
            for connection in opened:
                connection.ask(self.requests[sent % len(self.requests)])
                sent += 1
            while (now := time.perf_counter()) < began + seconds:
                for connection in _readable(opened, PATIENCE_S):
                    if connection.read():
                        answered += 1
                        connection.ask(self.requests[sent % len(self.requests)])
                        sent += 1
            return answered / (now - began)

    def paced(self, per_s: float, seconds: float) -> list[float]:
        """Sorted durations in µs of requests that are due at a fixed rate, from when each was due: a late one counts as slow.

        Those that are due while every connection is taken wait for one.
        """
        with self._open() as opened:
            free, due_of = deque(opened), dict[Connection, float]()  # none idles until it is closed
            taken, sent, total = list[float](), 0, int(per_s * seconds)
            began = time.perf_counter() + 0.1
            while len(taken) < total:
                now = time.perf_counter()
                while free and sent < total and (due := began + sent / per_s) <= now:
                    connection = free.popleft()
                    connection.ask(self.requests[sent % len(self.requests)])
                    due_of[connection] = due
                    sent += 1
                    now = time.perf_counter()
                idle = max(0.0, began + sent / per_s - now) if free and sent < total else PATIENCE_S
                for connection in _readable(opened, idle):
                    if connection.read():
                        taken.append((time.perf_counter() - due_of[connection]) * 1e6)
                        free.append(connection)
            return sorted(taken)

    @contextmanager
    def _open(self) -> Iterator[list[Connection]]:
        with ExitStack() as ending:
            opened = []
            for _ in range(self.connections):
                opened.append(self.connect())
                ending.callback(opened[-1].close)
            gc.collect()
            gc.freeze()  # a collection of all that this process imported would count as slow answers
            ending.callback(gc.unfreeze)
            yield opened


def _readable(connections: Sequence[Connection], patience_s: float) -> list[Connection]:
    found, _, _ = select.select(connections, (), (), patience_s)
    assert found or patience_s < PATIENCE_S, f"no answer in {PATIENCE_S} s"
    return found
