"""How far the stream has come with a source: who is alive, what the values know, what waits in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from feature_store.errors import LogTailLost
from feature_store.online.keys import generation_key, owner_key, ready_key
from feature_store.online.ready import ReadyRecord, parse_ready, shards_of

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.log.protocol import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouchers:
    """What the shards of the stream say of themselves, in the store as it is."""

    begun: bool
    """Whether a stream has ever written to this store."""
    shards: int
    records: Mapping[int, ReadyRecord]
    """By shard; one that is missing vouches for nothing: it never began, catches up, or its store was emptied."""

    @property
    def silent(self) -> tuple[int, ...]:
        """Shards that vouch for nothing."""
        return tuple(shard for shard in range(self.shards) if shard not in self.records)

    @property
    def speaking(self) -> list[ReadyRecord]:
        """The records of the shards that there are."""
        return [self.records[shard] for shard in range(self.shards) if shard in self.records]

    @property
    def watermark_us(self) -> int | None:
        """What had arrived by then is in all values; None unless every shard vouches."""
        return None if self.silent else min(map(_known_us, self.speaking))

    def reached(self, source: str) -> dict[int, int]:
        """Partition of a source's log -> the next offset that some shard has not read; those that one of them knows."""
        slowest: dict[int, int] = {}
        for record in self.speaking:
            for partition, position in record.positions.get(source, {}).items():
                slowest[partition] = min(position, slowest.get(partition, position))
        return slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamProgress:
    """How far the stream has come with one source."""

    begun: bool
    shards: int
    silent: tuple[int, ...]
    """Shards that vouch for nothing."""
    run: int | None
    """The newest run among the shards that vouch; None: nobody does."""
    beat_us: int | None
    """The oldest heartbeat among them, by the clock of the flow."""
    watermark_us: int | None
    """What had arrived by then is in all values; None unless every shard vouches."""
    positions: Mapping[int, int]
    """Partition -> the next offset that some shard has not read; where nobody has read, the begin of the log."""
    lag: int
    """Records of the log that some shard has not read."""
    advanced: int = 0
    """Records that were read since the positions that were asked about."""
    waiting_us: int | None = None
    """When the oldest record arrived that waits for a stream which has never begun; None: it has, or nothing waits."""


def read_vouchers(client: Redis, env: str) -> Vouchers:
    """What the shards say now, by one round trip.

    Raises:
        RedisError: Redis does not answer.
    """
    with client.pipeline(transaction=False) as pipe:
        pipe.get(generation_key(env))
        pipe.hgetall(ready_key(env))
        pipe.exists(owner_key(env))
        generation, fields, begun = cast("tuple[bytes | None, dict[bytes, bytes], int]", pipe.execute())
    current = "" if generation is None else generation.decode(errors="replace")
    found = {name: record for name, record in parse_ready(fields).items() if name.isdigit()}
    records = {int(name): record for name, record in found.items() if record.generation == current}
    return Vouchers(begun=bool(begun), shards=shards_of(fields), records=records)


def stream_progress(
    vouchers: Vouchers, log: EventLog, source: str, *, since: Mapping[int, int] | None = None
) -> StreamProgress:
    """How far the stream has come with a source, beside its log.

    Args:
        vouchers: what the shards say.
        log: of the source.
        source: its name.
        since: positions of an earlier look, for `advanced`.

    Raises:
        LogError: the log cannot be read, or has lost its tail.
    """
    records, reached = vouchers.speaking, vouchers.reached(source)
    behind = {p: reached[p] if p in reached else log.begin(p) for p in range(log.partitions)}
    lags = {p: log.lag(p, at) for p, at in behind.items()}
    return StreamProgress(
        begun=vouchers.begun,
        shards=vouchers.shards,
        silent=vouchers.silent,
        run=max((record.run for record in records), default=None),
        beat_us=min((record.beat_us for record in records), default=None),
        watermark_us=vouchers.watermark_us,
        positions=behind,
        lag=sum(lags.values()),
        advanced=sum(max(_lag_then(log, p, at) - lags[p], 0) for p, at in (since or {}).items() if p in lags),
        waiting_us=None if vouchers.begun else _oldest_us(log, {p: at for p, at in behind.items() if lags[p]}),
    )


def _oldest_us(log: EventLog, positions: Mapping[int, int]) -> int | None:
    """When the first record at or after some positions arrived."""
    first = [record for p, at in positions.items() for record in log.read(p, at, max_records=1)]
    return min((record.arrived_us for record in first), default=None)


def _lag_then(log: EventLog, partition: int, position: int) -> int:
    """What was unread, of what the log has now, at an earlier position; 0 if the log has lost that."""
    try:
        return log.lag(partition, position)
    except LogTailLost:
        return 0


def _known_us(record: ReadyRecord) -> int:
    unread = record.oldest_unread_us
    return record.beat_us if unread is None else min(record.beat_us, unread)
