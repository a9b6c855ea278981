"""A client of redis-py as a transport: its pool, timeouts, retries, Sentinels and cluster are those of whoever made it.

Such a client reconnects by itself, also to another server, and says nothing of it. So the connection of a read is asked
to: whoever answers next may have lost what the one before had vouched for. A cluster's client has no such connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from feature_store.online.address import disconnect, disconnect_async
from feature_store.reader.commands import Command
from feature_store.reader.servers import Servers, servers_of, shown_client
from feature_store.reader.transport import Reply, away, checked

if TYPE_CHECKING:
    from feature_store.reader.servers import AsyncClient, Client


class ClientTransport:
    """A client of redis-py."""

    def __init__(self, client: Client, *, on_lost: Callable[[], None] = lambda: None, owned: bool = False) -> None:
        """`on_lost` is called when the client has connected again, perhaps to another server, or gives up.

        A client that is `owned` is closed with the transport; another belongs to whoever made it.
        """
        self._client: Any = client
        self._owned = owned
        self._watch = _Watch(client, servers_of(client), on_lost)

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip through the client's pipeline; one to each node of a cluster, all under way at once."""
        if not commands:
            return []
        try:
            try:
                replies = self._execute(commands)
            except self._watch.again:
                replies = self._execute(commands)
        except self._watch.failures as error:
            raise self._watch.away(error) from error
        return self._watch.checked(replies, commands)

    def exchange_each(self, requests: Iterable[Sequence[Command]]) -> Iterator[list[Reply]]:
        """As `Transport.exchange_each`, by one pipeline, whose replies come all at once."""
        sent = list(requests)
        replies = iter(self.exchange([*chain.from_iterable(sent)]))
        return (list(islice(replies, len(commands))) for commands in sent)

    def _execute(self, commands: Sequence[Command]) -> list[Reply]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        if self._watch.connections:
            pipeline.connection = self._watch.watched(self._client.connection_pool.get_connection())
        found: list[Reply] = pipeline.execute(raise_on_error=False)
        return found

    def close(self) -> None:
        if self._owned:
            disconnect(self._client)


class AsyncClientTransport:
    """A client of `redis.asyncio`."""

    def __init__(self, client: AsyncClient, *, on_lost: Callable[[], None] = lambda: None, owned: bool = False) -> None:
        """As `ClientTransport`."""
        self._client: Any = client
        self._owned = owned
        self._watch = _Watch(client, servers_of(client, asyncio=True), on_lost)

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """As `ClientTransport.exchange`."""
        if not commands:
            return []
        try:
            try:
                replies = await self._execute(commands)
            except self._watch.again:
                replies = await self._execute(commands)
        except self._watch.failures as error:
            raise self._watch.away(error) from error
        return self._watch.checked(replies, commands)

    async def _execute(self, commands: Sequence[Command]) -> list[Reply]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        if self._watch.connections:
            pipeline.connection = self._watch.watched(await self._client.connection_pool.get_connection())
        found: list[Reply] = await pipeline.execute(raise_on_error=False)
        return found

    async def close(self) -> None:
        if self._owned:
            await disconnect_async(self._client)


class _Watch:
    """Notices what a client does not say, and names it where it fails.

    Of the connections in a pool, those that are as old as one that was lost are lost with it, and no second time.
    """

    def __init__(self, client: Client | AsyncClient, servers: Servers, on_lost: Callable[[], None]) -> None:
        from redis.exceptions import ClusterDownError, RedisClusterException, RedisError
        from redis.exceptions import ConnectionError as NoConnection
        from redis.exceptions import TimeoutError as NoAnswer

        self.connections = servers is not Servers.CLUSTER
        self.failures: tuple[type[Exception], ...] = (RedisError, RedisClusterException, OSError)
        by_sentinel = hasattr(getattr(client, "connection_pool", None), "sentinel_manager")
        self.again: tuple[type[Exception], ...] = (NoConnection,) if by_sentinel else ()
        """Upon which a read is tried once more: redis-py's own retries ask the server that Sentinel had named before."""
        self._unreached = (NoConnection, NoAnswer, ClusterDownError, OSError)
        self._shown, self._servers, self._on_lost = shown_client(client), servers, on_lost
        self._losses = 0
        self._made_after: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        """Connection -> how many losses were known when it was made."""
        self._address: tuple[object, object] | None = None

    def watched(self, connection: Any) -> Any:
        """A connection from the pool, which says from now on when it is made anew."""
        connection.register_connect_callback(self.connected)
        address = (getattr(connection, "host", None), getattr(connection, "port", None))
        if address != self._address and self._servers is Servers.ONE:
            if self._address is not None:  # Sentinel has named another server
                self._lose(connection)
            self._address = address
        self._made_after.setdefault(connection, self._losses)
        return connection

    def connected(self, connection: object) -> None:
        """A connection was made anew."""
        if self._made_after.get(connection, self._losses) == self._losses:
            self._lose(connection)
        self._made_after[connection] = self._losses

    def _lose(self, connection: object) -> None:
        self._losses += 1
        self._made_after[connection] = self._losses
        self._on_lost()

    def away(self, error: Exception) -> Exception:
        """The error for servers that do not answer."""
        self._on_lost()
        return away(self._shown, str(error).partition(" : <")[0])  # behind it, redis-py shows its Sentinels' objects

    def checked(self, replies: list[Reply], commands: Sequence[Command]) -> list[Reply]:
        """The replies, if none is a refusal and no node of a cluster is away."""
        for reply in replies:
            if isinstance(reply, self._unreached):
                raise self.away(reply) from reply
        return checked(replies, commands, self._shown)
