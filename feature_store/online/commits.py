"""What explains a value: the record of the commit that wrote it. Two places hold one, so that none is ever missing.

`under_way:<env>` holds the commit of the batch that a shard is writing, put there in one transaction with its first
values. `commits:<env>` holds it once all of them have been acknowledged. Who dies in between leaves values of a commit
under way; the next run puts its record with the others before it writes anything itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from feature_store.online.keys import commits_key, under_way_key
from feature_store.online.ready import Positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis
    from redis.client import Pipeline

COMMITS_KEPT = 200_000
"""About how many commit records stay in Redis; the archiver takes them to the lake long before."""

_FIELD = b"record"


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of a shard made visible: all events before `positions`, to whoever reads from `visible_at_us` on."""

    shard: int
    run: int
    n: int
    positions: Positions
    now_us: int = 0
    """The time of the fold: events stamped at or after it were read but wait, so no value knows them yet."""
    visible_at_us: int = 0
    """Stamped by the writer, by the clock of the flow, when Redis had acknowledged the values. 0: the writer died before,
    and there may be values that it had not written; the events are visible since a later commit."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CommitRecord).decode


def announcement(env: str, commit: CommitRecord) -> Sequence[bytes]:
    """The command that goes before the first value of a batch."""
    return (b"HSET", under_way_key(env).encode(), b"%d" % commit.shard, _encode(commit))


def record(env: str, commit: CommitRecord) -> Sequence[bytes]:
    """The command that goes behind the last value of a batch."""
    return (b"XADD", commits_key(env).encode(), b"MAXLEN", b"~", b"%d" % COMMITS_KEPT, b"*", _FIELD, _encode(commit))


def withdrawal(env: str, commit: CommitRecord) -> Sequence[bytes]:
    """The command that goes with the record of an announced batch."""
    return (b"HDEL", under_way_key(env).encode(), b"%d" % commit.shard)


def record_what_others_left(client: Redis, env: str, *, run: int, shard: int, shards: int) -> list[CommitRecord]:
    """Record what runs before this one, which owns the store, were writing in a shard when they ended; returns that.

    Some of its values may be there, so a shard writes nothing until it has read as far. Call it before the shard writes:
    its first batch takes the place of what the run before left there. What was left in shards that there are no more,
    any shard records.
    """
    key = under_way_key(env)
    left: list[CommitRecord] = []

    def change(pipe: Pipeline) -> None:
        found = cast("dict[bytes, bytes]", pipe.hgetall(key))
        left[:] = [c for c in map(_decode, found.values()) if c.run < run and (c.shard == shard or c.shard >= shards)]
        pipe.multi()
        for commit in left:
            pipe.xadd(commits_key(env), {_FIELD: _encode(commit)}, maxlen=COMMITS_KEPT, approximate=True)
            pipe.hdel(key, str(commit.shard))

    client.transaction(change, key)
    return left


def read_commits(client: Redis, env: str, *, after: str = "0-0", count: int = 1000) -> list[tuple[str, CommitRecord]]:
    """The commit records that follow a stream id, oldest first, with their ids."""
    entries = cast(
        "list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(commits_key(env), min=f"({after}", count=count)
    )
    return [(entry.decode(), _decode(fields[_FIELD])) for entry, fields in entries]
