"""What the reader knows of the shards: who beats, how far they have read, and whether a missing row is an empty one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    generation: bytes | None = None
    """Of the store; one that was emptied since has another."""

    def is_old(self, now_us: int, now_s: float) -> bool:
        """Whether to read the records again."""
        return abs(now_us - self.now_us) >= MAX_AGE_US or (now_s - self.now_s) * 1e6 >= MAX_AGE_US

    def of(self, view_id: str, shard: int | None) -> Vouched | None:
        """What is known of a shard or, where that is None, of a batch view."""
        return self.records.get(view_id if shard is None else str(shard))

    def shard_of(self, entity: str, key: str) -> int:
        """The shard that keeps an entity."""
        return 0 if self.shards == 1 else shard_of(entity, key, shards=self.shards)

    def of_some_node(self) -> Readiness:
        """The same where other nodes keep the values: what is missing there may have been lost."""
        return replace(self, records={field: each._replace(complete=False) for field, each in self.records.items()})


NOTHING = Readiness(1, {}, -(2**62), 0.0)
"""Before the first read."""


class Progress:
    """How far the shards had come when a reader looked last: a store that went back is not believed.

    A server that takes over from another may lack the newest writes. Its readers notice that a connection was lost, or
    that a record went back; from then on they wait for a later record, which a flow gives only after it has found the
    store as it left it, or has written it again.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Mark] = {}
        self._floor: dict[str, _Mark] = {}
        self._lost = False

    def connection_lost(self) -> None:
        """The server that answers next may be another, or have lost something."""
        self._lost = True

    def believed(self, records: Mapping[str, ReadyRecord]) -> dict[str, ReadyRecord]:
        """The records that can be believed: all of batch views, and of shards those that have not gone back."""
        lost, self._lost = self._lost, False
        return {field: record for field, record in records.items() if self._admits(field, record, lost=lost)}

    def _admits(self, field: str, record: ReadyRecord, *, lost: bool) -> bool:
        if not field.isdigit():
            return True
        mark, seen = _Mark(record.generation, record.run, record.n, record.beat_us), self._seen.get(field)
        if seen is not None and seen.generation == mark.generation and (lost or mark < seen):
            self._floor[field] = max(seen, mark)
        floor = self._floor.get(field)
        if floor is not None and floor.generation == mark.generation and mark <= floor:
            return False
        self._floor.pop(field, None)
        self._seen[field] = mark
        return True


class _Mark(NamedTuple):
    """Which commit a record names, and when it was given."""

    generation: str
    run: int
    n: int
    beat_us: int


def parse_readiness(
    generation: bytes | None, fields: Mapping[bytes, bytes], *, progress: Progress, now_us: int, now_s: float
) -> Readiness:
    """What the hash `ready:<env>` says. Records of another generation of the store say nothing."""
    current = "" if generation is None else generation.decode(errors="replace")
    found = {field: record for field, record in parse_ready(fields).items() if record.generation == current}
    records = {field: _vouched(record) for field, record in progress.believed(found).items()}
    return Readiness(shards_of(fields), records, now_us, now_s, generation)


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
