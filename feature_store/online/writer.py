"""Writes packed values: one `HSETEX` each, the commit that explains them and the ready record behind them, pipelined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import msgspec

from feature_store.clock import Clock, SystemClock
from feature_store.errors import OnlineStoreError, StoreUnavailable
from feature_store.online.commands import pack_command
from feature_store.online.commits import CommitRecord, announcement, record, withdrawal
from feature_store.online.fence import Fence
from feature_store.online.keys import ready_key
from feature_store.online.ready import ReadyRecord, encode_ready

if TYPE_CHECKING:
    from redis import Redis
    from redis.exceptions import RedisError, ResponseError

CHUNK = 500
"""Commands sent before the replies of the chunk before them are read: the server never waits for us, nor we for it."""

_PASSING = ("MISCONF", "NOREPLICAS", "BUSY")
"""How the refusals begin that redis-py has no class for and that pass: no disk, no replica, a script that runs."""


class Write(NamedTuple):
    """One packed value on its way to Redis."""

    key: str
    """The entity's hash, from `keys.features_key`."""
    field: str
    """`view@version`."""
    value: bytes
    expire_ms: int
    """Milliseconds from now; only reclaims memory."""


class _Connection(Protocol):
    """The part of redis-py's connection that takes packed commands: three times as fast as its pipeline."""

    def send_packed_command(self, command: Sequence[bytes]) -> object: ...

    def read_response(self) -> object: ...

    def disconnect(self) -> object: ...


class _Block(NamedTuple):
    """Commands that are sent at once."""

    packed: bytes
    size: int
    """How many commands."""


class OnlineWriter:
    """Writes batches for one environment; one thread at a time. With a fence, only as long as its run may."""

    def __init__(
        self, client: Redis, env: str, *, clock: Clock | None = None, chunk: int = CHUNK, fence: Fence | None = None
    ) -> None:
        self._client, self._env = client, env
        self._clock = clock or SystemClock()
        self._chunk = chunk
        self._fence = fence
        self._connection: _Connection | None = None

    def write(self, writes: Sequence[Write], *commits: CommitRecord, ready: ReadyRecord | None = None) -> int:
        """Write values, then their commit, then the ready record; returns when Redis had acknowledged all, in µs.

        Commits that say already when they became visible are written as they are.

        Raises:
            FlowSuperseded: a newer run owns the store; of what was not acknowledged nothing was written.
            StoreLost: the store lost what was written before.
            StoreUnavailable: Redis is away or has no room. Some values may have been written; writing the batch again
                is harmless, because values are absolute.
            OnlineStoreError: Redis refuses a command.
        """
        from redis.exceptions import RedisError

        try:
            self._send(self._connected(), writes, commits, ready)
        except RedisError as error:
            self.disconnect()
            raise refused(error) from error
        except BaseException:
            self.disconnect()
            raise
        if self._fence is None:
            self._release()
        return self._clock.now_us()

    def disconnect(self) -> None:
        """Give the connection up: replies may still be under way, and the server may watch keys for it."""
        if self._connection is not None:
            self._connection.disconnect()
            self._release()

    def _release(self) -> None:
        self._client.connection_pool.release(self._connection)  # type: ignore[arg-type]
        self._connection = None

    def _connected(self) -> _Connection:
        """The connection; with a fence always the same one, on which the server watches the keys of the fence."""
        if self._connection is None:
            self._connection = cast("_Connection", self._client.connection_pool.get_connection())
            if self._fence is not None:
                self._connection.send_packed_command([self._fence.watch])
                self._judge(self._connection)
        return self._connection

    def _send(
        self,
        connection: _Connection,
        writes: Sequence[Write],
        commits: Sequence[CommitRecord],
        ready: ReadyRecord | None,
    ) -> None:
        # While the server works on a chunk the next one is packed.
        under_way: _Block | None = None
        announced = [announcement(self._env, commit) for commit in commits]
        for start in range(0, len(writes), self._chunk):
            chunk = writes[start : start + self._chunk]
            packed = b"".join([*map(pack_command, announced), *map(pack_write, chunk)])
            self._finish(connection, under_way)
            under_way = self._start(connection, _Block(packed, len(announced) + len(chunk)))
            announced = []
        # The commit follows the acknowledgement of its values: a refused value leaves no commit, and nobody is told
        # that a value was visible before it was.
        self._finish(connection, under_way)
        tail = [*self._records(commits, ready), *(withdrawal(self._env, commit) for commit in commits if writes)]
        if tail:
            self._finish(connection, self._start(connection, _Block(b"".join(map(pack_command, tail)), len(tail))))

    def _start(self, connection: _Connection, block: _Block) -> _Block:
        connection.send_packed_command([block.packed if self._fence is None else self._fence.wrap(block.packed)])
        return block

    def _finish(self, connection: _Connection, block: _Block | None) -> None:
        """Read what the server says to a block; send it again if a key was touched that still says the same."""
        while block is not None:
            if self._fence is None:
                _read_replies(connection, block.size)
                return
            refused = _read_queued(connection, block.size + 2)
            done = _read_result(connection)
            self._judge(connection)
            if refused is not None:
                raise refused
            if isinstance(done, Exception):
                raise done
            if done is not None:
                _raise_first(done)
                return
            block = self._start(connection, block)

    def _judge(self, connection: _Connection) -> None:
        if self._fence is not None:
            connection.read_response()
            self._fence.check(cast("Sequence[bytes | None]", connection.read_response()))

    def _records(self, commits: Sequence[CommitRecord], ready: ReadyRecord | None) -> Iterable[Sequence[bytes]]:
        for commit in commits:
            visible_at_us = commit.visible_at_us or self._clock.now_us()
            yield record(self._env, msgspec.structs.replace(commit, visible_at_us=visible_at_us))
        if ready is not None:
            yield (b"HSET", ready_key(self._env).encode(), ready.field.encode(), encode_ready(ready))


def pack_write(write: Write) -> bytes:
    """The command of one write in Redis' protocol."""
    key, field, value = write.key.encode(), write.field.encode(), write.value
    # An expiry in the past deletes the field and reports success.
    expire = b"%d" % max(write.expire_ms, 1)
    return (
        b"*8\r\n$6\r\nHSETEX\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n$6\r\nFIELDS\r\n$1\r\n1\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        % (len(key), key, len(expire), expire, len(field), field, len(value), value)
    )


def passes(error: RedisError) -> bool:
    """Whether what Redis, or the way to it, said may be over in a while."""
    from redis import exceptions as said

    if isinstance(error, (said.AuthenticationError, said.AuthorizationError)):
        return False
    passing = (
        said.ConnectionError, said.TimeoutError, said.OutOfMemoryError, said.ReadOnlyError, said.ClusterDownError,
        said.MasterDownError, said.TryAgainError,
    )  # fmt: skip
    return isinstance(error, passing) or str(error).startswith(_PASSING)


def refused(error: RedisError) -> OnlineStoreError:
    """The error for what Redis, or the way to it, said."""
    from redis.exceptions import ConnectionError as NoConnection

    message = f"cannot write online values: {error}"
    if not passes(error):
        return OnlineStoreError(message)
    return StoreUnavailable(f"{message}; is Redis running?" if isinstance(error, NoConnection) else message)


def _read_replies(connection: _Connection, count: int) -> None:
    read = connection.read_response
    for _ in range(count):
        read()


def _read_queued(connection: _Connection, count: int) -> ResponseError | None:
    """Read what the server says while it takes a transaction in: the first refusal, if there is one."""
    from redis.exceptions import ResponseError

    read, refused = connection.read_response, None
    for _ in range(count):
        try:
            read()
        except ResponseError as error:
            refused = refused or error
    return refused


def _read_result(connection: _Connection) -> list[object] | ResponseError | None:
    """The replies of a transaction; None if it was dropped, an error if the server refused a part of it."""
    from redis.exceptions import ResponseError

    try:
        return cast("list[object] | None", connection.read_response())
    except ResponseError as error:
        return error


def _raise_first(replies: Sequence[object]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
