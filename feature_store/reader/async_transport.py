"""One round trip to Redis for asyncio. A URL gets one connection of our own, which all tasks share.

Redis answers in order, so requests that are under way at the same time need no connection each: every batch of commands
is written at once, and replies are dealt out as they come. Checking a connection out of a pool costs more than Redis does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from feature_store.errors import OnlineStoreError
from feature_store.online.address import SENTINEL, connect_async
from feature_store.reader.client_transport import AsyncClientTransport
from feature_store.reader.commands import Command, Pack, packed
from feature_store.reader.transport import Address, Reply, away, checked, parse_url

if TYPE_CHECKING:
    import hiredis

    from feature_store.reader.servers import AsyncClient


class AsyncTransport(Protocol):
    """Sends commands and returns their replies, in order."""

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip.

        Raises:
            OnlineStoreError: Redis cannot be reached or refuses a command.
        """

    async def close(self) -> None:
        """Give connections back."""


def transport_to(
    url: str | AsyncClient, *, timeout_s: float, on_lost: Callable[[], None] = lambda: None
) -> AsyncTransport:
    """A connection of our own to a URL, redis-py's where Sentinels are asked, or the client that is given."""
    if isinstance(url, str) and url.startswith(SENTINEL):
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        once_more, waits = Retry(NoBackoff(), 1), {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        return AsyncClientTransport(connect_async(url, retry=once_more, **waits), on_lost=on_lost, owned=True)
    if isinstance(url, str):
        return AsyncSocketTransport(url, timeout_s=timeout_s, on_lost=on_lost)
    return AsyncClientTransport(url, on_lost=on_lost)


class AsyncSocketTransport:
    """A connection of our own, opened when it is needed and shared by the tasks of one event loop."""

    def __init__(self, url: str, *, timeout_s: float, on_lost: Callable[[], None] = lambda: None) -> None:
        """`on_lost` is called when the connection turns out to be of no use, before another one is asked."""
        self.address = parse_url(url)
        self._timeout_s, self._on_lost = timeout_s, on_lost
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip; tried again once on a new connection if the old one turns out to be closed."""
        if not commands:
            return []
        connection = self._connection
        if connection is None or connection.closed or connection.loop is not asyncio.get_running_loop():
            connection = await self._open(lost=connection)
        try:
            replies = await connection.exchange(commands, self._timeout_s)
        except TimeoutError as error:
            self._connection = None
            self._on_lost()
            await connection.abandon()
            raise self._away(f"no answer within {self._timeout_s:g} s") from error
        except OSError:
            connection = await self._open(lost=connection)
            try:
                replies = await connection.exchange(commands, self._timeout_s)
            except OSError as error:
                raise self._away(str(error) or f"no answer within {self._timeout_s:g} s") from error
        return checked(replies, commands, self.address.shown)

    async def close(self) -> None:
        """Close the connection, also one that is being opened: no socket is left. Each takes `timeout_s` at most."""
        if self._opening is not None and self._opening.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._opening])
        if self._connection is not None:
            await self._connection.close(self._timeout_s)

    async def _open(self, *, lost: _Connection | None) -> _Connection:
        """A connection in the place of one that is lost: one for all who need it at the same time."""
        loop = asyncio.get_running_loop()
        if self._connection is not None and self._connection is not lost and not self._connection.closed:
            return self._connection
        if self._opening is None or self._opening.done() or self._opening.get_loop() is not loop:
            if lost is not None:
                self._on_lost()
            self._opening = loop.create_task(self._connect(lost))
        return await asyncio.shield(self._opening)

    async def _connect(self, lost: _Connection | None) -> _Connection:
        if lost is not None:
            await lost.abandon()
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await _connected(self.address)
                await self._greet(connection)
        except TimeoutError as error:
            raise self._away(f"no connection within {self._timeout_s:g} s") from error
        except OSError as error:
            raise self._away(error) from error
        self._connection = connection
        return connection

    async def _greet(self, connection: _Connection) -> None:
        hello = self.address.hello
        try:
            checked(await connection.exchange(hello, self._timeout_s) if hello else [], hello, self.address.shown)
        except BaseException:  # also of whoever waits no longer
            await connection.abandon()
            raise

    def _away(self, why: object) -> OnlineStoreError:
        return away(self.address.shown, why)


async def _connected(address: Address) -> _Connection:
    loop = asyncio.get_running_loop()
    if address.path is not None:
        return (await loop.create_unix_connection(_Connection, address.path))[1]
    return (await loop.create_connection(_Connection, address.host, address.port, ssl=address.tls))[1]


class _Connection(asyncio.Protocol):
    """A connection and those who wait for replies on it, in the order in which they asked."""

    def __init__(self) -> None:
        import hiredis

        self._pack = cast("Pack", hiredis.pack_command)
        self._reader: hiredis.Reader = hiredis.Reader()
        self._waiting: deque[_Asked] = deque()
        self._unsent: list[bytes] = []
        self._broken: type[Exception] = hiredis.ProtocolError
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._gone: asyncio.Future[None] = self.loop.create_future()
        """Done with the turn of the loop that closes the socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def exchange(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """Send all, then wait for as many replies; an error reply is an exception among them.

        What is asked within one turn of the loop is written at once: a write costs more than all that is written.
        """
        if self.closed:
            raise ConnectionResetError("the server closed the connection")
        asked = _Asked(len(commands), self.loop)
        self._waiting.append(asked)
        if not self._unsent:
            self.loop.call_soon(self._send)
        self._unsent.append(packed(commands, self._pack))
        expiring = self.loop.call_later(timeout_s, asked.expire)
        try:
            return await asked.done
        finally:
            expiring.cancel()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self.closed:
            self._transport.write(b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        try:
            self._deal_out(data)
        except self._broken as error:
            self._transport.abort()
            self._fail(ConnectionAbortedError(f"what came is no reply of a Redis: {error}"))

    def _deal_out(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        while waiting and (reply := reader.gets()) is not False:
            asked = waiting[0]
            asked.replies.append(reply)
            if len(asked.replies) == asked.count:
                waiting.popleft()
                if not asked.done.done():  # else whoever asked has gone
                    asked.done.set_result(asked.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set_result(None)
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection"))

    def _fail(self, error: OSError) -> None:
        self.closed = True
        while self._waiting:
            done = self._waiting.popleft().done
            if not done.done():
                done.set_exception(error)

    async def close(self, within_s: float) -> None:
        """Send what is unsent and take leave, for which TLS waits for the server; one that hangs is abandoned in time."""
        self.closed = True
        try:
            if self.loop is asyncio.get_running_loop():
                self._transport.close()
                await asyncio.wait([self._gone], timeout=within_s)
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Close the socket, whatever the server does; return when it is gone."""
        self.closed = True
        if not self.loop.is_closed():
            self._transport.abort()
        if self.loop is asyncio.get_running_loop():
            await asyncio.wait([self._gone])


class _Asked:
    """Commands that were sent, and the replies to them so far."""

    __slots__ = ("count", "done", "replies")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.count = count
        self.replies: list[Reply] = []
        self.done: asyncio.Future[list[Reply]] = loop.create_future()

    def expire(self) -> None:
        """Wait no longer."""
        if not self.done.done():
            self.done.set_exception(TimeoutError())
