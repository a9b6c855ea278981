"""What the reader knows of the shards: who beats, how far they have read, and whether a missing row is an empty one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from feature_store.online.keys import shard_of
from feature_store.online.ready import ReadyRecord, parse_ready, shards_of

MAX_AGE_US = 1_000_000
"""How long a record is believed before it is read again, by the reader's clock and by the machine's."""


class Vouched(NamedTuple):
    """What one ready record says, prepared for many reads."""

    complete: bool
    """What is missing is empty: caught up, in this store, on a server that does not evict."""
    known_us: int
    """All records that had arrived before are in the values."""
    beat_us: int
    run: int
    n: int
    views: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Readiness:
    """All ready records, as they stood at one moment."""

    shards: int
    records: Mapping[str, Vouched]
    now_us: int
    """When it was read, by the reader's clock,"""
    now_s: float
    """and by the machine's counter."""

    def is_old(self, now_us: int, now_s: float) -> bool:
        """Whether to read the records again."""
        return abs(now_us - self.now_us) >= MAX_AGE_US or (now_s - self.now_s) * 1e6 >= MAX_AGE_US

    def of(self, view_id: str, shard: int | None) -> Vouched | None:
        """What is known of a shard or, where that is None, of a batch view."""
        return self.records.get(view_id if shard is None else str(shard))

    def shard_of(self, entity: str, key: str) -> int:
        """The shard that keeps an entity."""
        return 0 if self.shards == 1 else shard_of(entity, key, shards=self.shards)


NOTHING = Readiness(1, {}, -(2**62), 0.0)
"""Before the first read."""


def parse_readiness(generation: bytes | None, fields: Mapping[bytes, bytes], *, now_us: int, now_s: float) -> Readiness:
    """What the hash `ready:<env>` says. Records of another generation of the store say nothing."""
    current = "" if generation is None else generation.decode()
    records = {field: _vouched(record) for field, record in parse_ready(fields).items() if record.generation == current}
    return Readiness(shards_of(fields), records, now_us, now_s)


def _vouched(record: ReadyRecord) -> Vouched:
    unread = record.oldest_unread_us
    return Vouched(
        complete=record.caught_up and not record.evicts,
        known_us=record.beat_us if unread is None else min(record.beat_us, unread),
        beat_us=record.beat_us,
        run=record.run,
        n=record.n,
        views=record.views,
    )
