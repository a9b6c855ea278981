"""Writes packed values: one `HSETEX` each, the commit that explains them and the ready record behind them, pipelined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import msgspec

from feature_store.clock import Clock, SystemClock
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import commits_key, ready_key
from feature_store.online.ready import Positions, ReadyRecord, encode_ready

if TYPE_CHECKING:
    from redis import Redis

CHUNK = 500
"""Commands sent before the replies of the chunk before them are read: the server never waits for us, nor we for it."""

COMMITS_KEPT = 200_000
"""About how many commit records stay in Redis; the archiver takes them to the lake long before."""

_FIELD = b"record"


class Write(NamedTuple):
    """One packed value on its way to Redis."""

    key: str
    """The entity's hash, from `keys.features_key`."""
    field: str
    """`view@version`."""
    value: bytes
    expire_ms: int
    """Milliseconds from now; only reclaims memory."""


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of a shard made visible: all events before `positions`, to whoever reads from `visible_at_us` on."""

    shard: int
    run: int
    n: int
    positions: Positions
    now_us: int = 0
    """The time of the fold: events stamped at or after it were read but wait, so no value knows them yet."""
    visible_at_us: int = 0
    """Stamped by the writer, by the clock of the flow, when Redis had acknowledged the values."""


class _Connection(Protocol):
    """The part of redis-py's connection that takes packed commands: three times as fast as its pipeline."""

    def send_packed_command(self, command: Sequence[bytes]) -> object: ...

    def read_response(self) -> object: ...

    def disconnect(self) -> object: ...


class OnlineWriter:
    """Writes batches for one environment; one thread at a time."""

    def __init__(self, client: Redis, env: str, *, clock: Clock | None = None, chunk: int = CHUNK) -> None:
        self._client, self._env = client, env
        self._clock = clock or SystemClock()
        self._chunk = chunk

    def write(
        self, writes: Sequence[Write], commit: CommitRecord | None = None, *, ready: ReadyRecord | None = None
    ) -> int:
        """Write values, then their commit, then the ready record; returns when Redis had acknowledged all, in µs.

        Raises:
            OnlineStoreError: Redis is away or refuses a command. Some values may have been written; writing the
                batch again is harmless, because values are absolute.
        """
        from redis.exceptions import RedisError

        try:
            pooled = self._client.connection_pool.get_connection()
        except RedisError as error:
            raise OnlineStoreError(f"cannot write online values: {error}; is Redis running?") from error
        connection = cast("_Connection", pooled)
        try:
            self._send(connection, writes, commit, ready)
        except RedisError as error:
            # Replies may still be under way: this connection is of no more use to anybody.
            connection.disconnect()
            raise OnlineStoreError(f"cannot write online values: {error}") from error
        finally:
            self._client.connection_pool.release(pooled)
        return self._clock.now_us()

    def _send(
        self,
        connection: _Connection,
        writes: Sequence[Write],
        commit: CommitRecord | None,
        ready: ReadyRecord | None,
    ) -> None:
        unread = 0
        for start in range(0, len(writes), self._chunk):
            chunk = writes[start : start + self._chunk]
            connection.send_packed_command([b"".join(map(pack_write, chunk))])
            _read_replies(connection, unread)
            unread = len(chunk)
        # The commit follows the acknowledgement of its values: a refused value leaves no commit, and nobody is told
        # that a value was visible before it was.
        _read_replies(connection, unread)
        tail = list(self._records(commit, ready))
        if tail:
            connection.send_packed_command([b"".join(map(pack_command, tail))])
            _read_replies(connection, len(tail))

    def _records(self, commit: CommitRecord | None, ready: ReadyRecord | None) -> Iterable[Sequence[bytes]]:
        if commit is not None:
            record = msgspec.msgpack.encode(msgspec.structs.replace(commit, visible_at_us=self._clock.now_us()))
            limit = (b"MAXLEN", b"~", b"%d" % COMMITS_KEPT)
            yield (b"XADD", commits_key(self._env).encode(), *limit, b"*", _FIELD, record)
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


def pack_command(arguments: Sequence[bytes]) -> bytes:
    """Any command in Redis' protocol."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments))


def read_commits(client: Redis, env: str, *, after: str = "0-0", count: int = 1000) -> list[tuple[str, CommitRecord]]:
    """The commit records that follow a stream id, oldest first, with their ids."""
    entries = cast(
        "list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(commits_key(env), min=f"({after}", count=count)
    )
    decode = msgspec.msgpack.Decoder(CommitRecord).decode
    return [(entry.decode(), decode(fields[_FIELD])) for entry, fields in entries]


def _read_replies(connection: _Connection, count: int) -> None:
    read = connection.read_response
    for _ in range(count):
        read()
