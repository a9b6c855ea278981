"""One shard of a run, from its rebuild to its end: waits its turn, takes over, writes, mends what the store has lost.

A run builds beside the one before it and writes nothing. When all its shards have read what the log holds, it takes the
online store over: from then on the old run writes nothing. What that one had written stays and is believed, so the new
run first reads up to where the old one had read, writes what was touched since, and vouches; everything else follows
in portions beside the events that come.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError

from feature_store.errors import StoreLost
from feature_store.fold.consumer import retire_consumers
from feature_store.fold.observed import UNOBSERVED
from feature_store.fold.rebuild import rebuild_shards, rows_since
from feature_store.fold.shard import PORTION, Shard, Writes
from feature_store.online.commits import CommitRecord, record_what_others_left
from feature_store.online.fence import Fence, Owner
from feature_store.online.owner import all_are_built, take_back, take_over
from feature_store.online.ready import Positions, ReadyRecord, read_ready
from feature_store.online.writer import OnlineWriter, refused
from feature_store.registry import view_fingerprint

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.fold.observed import Observer
    from feature_store.fold.run import Reading, Start
    from feature_store.fold.split import ShardBatch
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog
    from feature_store.transforms.compiled import Compiled

logger = logging.getLogger(__name__)

SLICE_S, QUIET_SLICE_S = 0.03, 0.2
"""How long values that nobody waits for are written before events are looked at again: while events come, and when for
`QUIET_S` none have, for then nothing but a tick each second lets more be written.
"""
QUIET_S = 1.0
BESIDE = 1_000
"""How many of those are written at once."""
COMMITS_KEPT = 10_000
"""Commit records that are written again to a store that has lost them: far more than the archiver leaves behind."""


def stream_fingerprint(compiled: Compiled) -> str:
    """What the stream computes: each stream view and its meaning."""
    plans = [plan for plan in compiled.plans.values() if plan.view.online == "stream"]
    return "|".join(
        f"{plan.view.id}={view_fingerprint(plan.view)}{'+own' if plan.view.score_own_event else ''}" for plan in plans
    )


class ShardDriver:
    """Drives one shard; one thread at a time."""

    def __init__(
        self,
        compiled: Compiled,
        start: Start,
        *,
        client: Redis,
        env: str,
        clock: Clock,
        logs: Mapping[str, EventLog],
        observer: Observer = UNOBSERVED,
    ) -> None:
        """A shard without state. `logs` are those of all sources that feed it."""
        self._observer = observer
        self._compiled, self._start, self._env, self._clock = compiled, start, env, clock
        self._client, self._logs = client, logs
        self._fingerprint = stream_fingerprint(compiled)
        self._behind = set(start.partitions)
        self._unread: dict[tuple[str, int], int | None] = {}
        self._owner = Owner(start.run, start.generation)
        self._floor: Positions | None = None
        self._before: ReadyRecord | None = None
        self._lost, self._retired = False, False
        self._rows_s = -math.inf
        self._unsent: deque[tuple[Writes, ReadyRecord | None]] = deque()
        self._commits: deque[CommitRecord] = deque(maxlen=COMMITS_KEPT)

    def rebuild(self, lake: Lake, shard: int) -> None:
        """Fill the shard with what the lake knows."""
        plans = [plan for plan in self._compiled.plans.values() if plan.view.online == "stream"]
        self._shard = Shard(plans, env=self._env, shard=shard, run=self._start.run)
        origin, count, now_us = self._start.origin, self._start.shards, self._clock.now_us()
        rebuild_shards(self._compiled, lake, origin, shards=[self._shard], count=count, now_us=now_us)
        before = self._start.read_before.get(shard, {})
        for batch in rows_since(self._compiled, lake, origin, before, shard=shard, count=count):
            self._shard.touch(batch, now_us)

    @property
    def writes(self) -> bool:
        """True once the run is the owner and the shard has read all that the run before had."""
        return self._floor is not None and self._has_reached(self._floor)

    def drive(self, readings: Sequence[Reading]) -> None:
        """Fold readings (none: a tick) and write what follows.

        Raises:
            FlowSuperseded: a newer run owns the store.
            StoreUnavailable: the store does not take writes; what was not written is, with the next call.
            OnlineStoreError: the store refuses a write.
        """
        for reading in readings:
            place = (reading.source, reading.partition)
            self._unread[place] = reading.oldest_unread_us
            if reading.caught_up:
                self._behind.discard(place)
        try:
            self._drive(readings)
        except RedisError as error:
            raise refused(error) from error

    def _drive(self, readings: Sequence[Reading]) -> None:
        batches = [reading.batch for reading in readings]
        if any(batch.views for batch in batches):
            self._rows_s = time.perf_counter()
        if not self.writes:
            self._shard.fold(batches, self._clock.now_us(), catching_up=True)
            if self._behind or not self._may_write():
                return
            self._begin_to_write()
            batches = []
        if self._lost:
            self._mend()
        if batches or not self._unsent:
            self._fold(batches, portion=PORTION if self._before is None else 0)
        self._send()
        self._retire_others()
        self._write_the_rest()

    def _may_write(self) -> bool:
        """Whether this run is the owner, or is now, and has read all that the one before had."""
        if self._floor is None:
            start, number = self._start, self._shard.shard
            if not all_are_built(self._client, self._env, start.run, shard=number, shards=start.shards):
                return False
            self._owner = take_over(self._client, self._env, start.run, shards=start.shards)
            left = record_what_others_left(self._client, self._env, run=start.run, shard=number, shards=start.shards)
            self._writer = self._new_writer()
            logger.info("run %d: shard %d of %d has taken over", start.run, number, start.shards)
            self._floor = self._inherit(left)
        return self.writes

    def _inherit(self, left: Sequence[CommitRecord]) -> Positions:
        """What the run before vouched for, if it can be believed on; returns how far that run had read.

        Of what it was writing at the end, `left`, some values may be there: it had read that far, too.
        """
        floors = [self._within_the_logs(commit.positions) for commit in left]
        found = read_ready(self._client, self._env).get(str(self._shard.shard))
        if found is not None and found.generation == self._owner.generation and found.run < self._start.run:
            found = msgspec.structs.replace(found, positions=self._within_the_logs(found.positions))
            floors.append(found.positions)
            if self._shard.shard in self._start.read_before:
                self._before = self._as_far_as_it_means_the_same(found)
        return _furthest(floors)

    def _as_far_as_it_means_the_same(self, found: ReadyRecord) -> ReadyRecord | None:
        """The record without the views that were defined otherwise; None if nothing is left."""
        same = set(self._fingerprint.split("|")) & set(found.fingerprint.split("|"))
        views = {view: layout for view, layout in found.views.items() if any(f.startswith(f"{view}=") for f in same)}
        return msgspec.structs.replace(found, views=views) if views else None

    def _begin_to_write(self) -> None:
        before = self._before
        if before is None:
            self._shard.start_over()
        else:
            self._shard.believe(before.positions, before.beat_us, views=before.views)

    def _retire_others(self) -> None:
        """Once values are written: nobody waits for this."""
        if not self._retired:
            retire_consumers(self._logs.values(), self._env, self._start.run)
            self._retired = True

    def _within_the_logs(self, positions: Positions) -> Positions:
        """Positions that can be reached: a log that lost its tail ends before."""
        return {
            source: {partition: min(at, log.end(partition)) for partition, at in positions[source].items()}
            for source, log in self._logs.items()
            if source in positions
        }

    def _has_reached(self, floor: Positions) -> bool:
        known = self._shard.positions
        return all(
            known.get(source, {}).get(partition, at) >= at
            for source, positions in floor.items()
            for partition, at in positions.items()
        )

    def _fold(self, batches: Sequence[ShardBatch], *, portion: int) -> None:
        now_us = self._clock.now_us()
        writes = self._shard.fold(batches, now_us, portion=portion)
        self._unsent.append((writes, self._ready(writes.commit, now_us)))

    def _send(self) -> None:
        while self._unsent:
            writes, ready = self._unsent[0]
            began_s = time.perf_counter()
            try:
                visible_us = self._writer.write(writes.values, writes.commit, ready=ready)
            except StoreLost as lost:
                logger.warning("shard %d: %s; all of its values are written again", self._shard.shard, lost)
                self._commits.extend(writes.commit for writes, _ in self._unsent)
                self._lost = True
                self._mend()
                return
            self._observer.committed(len(writes.values), time.perf_counter() - began_s)
            self._commits.append(msgspec.structs.replace(writes.commit, visible_at_us=visible_us))
            self._unsent.popleft()

    def _mend(self) -> None:
        """Own the store again, with nothing in it that can be believed."""
        shard, shards = self._shard.shard, self._start.shards
        while self._lost:
            self._owner = take_back(self._client, self._env, self._owner, shard=shard, shards=shards)
            self._writer.disconnect()
            self._writer = self._new_writer()
            with suppress(StoreLost):
                self._writer.write([], *self._commits)
                self._lost = False
        self._before = None
        self._unsent.clear()
        self._shard.start_over()

    def _write_the_rest(self) -> None:
        """Write what nobody waits for: all of it if somebody does, else for as long as events can wait."""
        now_s = time.perf_counter()
        until_s = now_s + (SLICE_S if now_s - self._rows_s < QUIET_S else QUIET_SLICE_S)
        while pending := self._shard.pending:
            self._fold([], portion=PORTION if self._before is None else max(1, BESIDE // len(pending)))
            self._send()
            if self._before is not None and time.perf_counter() >= until_s:
                return
        self._before = None

    def _new_writer(self) -> OnlineWriter:
        fence = Fence(self._env, self._owner, self._shard.shard)
        return OnlineWriter(self._client, self._env, clock=self._clock, fence=fence)

    def _ready(self, commit: CommitRecord, now_us: int) -> ReadyRecord | None:
        """What the shard vouches for; None as long as that is nothing.

        A value that is missing says what the run before knew, until everything has been written.
        """
        pending, before = self._shard.pending, self._before
        if pending and before is None:
            return None
        kept = {} if before is None else before.views
        unread = [arrived for arrived in self._unread.values() if arrived is not None]
        knows = before if pending and before is not None else commit
        return ReadyRecord(
            field=str(commit.shard),
            generation=self._owner.generation,
            fingerprint=self._fingerprint,
            views={
                view: id_ for view, id_ in self._shard.layouts.items() if view not in pending or kept.get(view) == id_
            },
            run=knows.run,
            n=knows.n,
            positions=commit.positions,
            beat_us=now_us,
            oldest_unread_us=min(unread, default=None),
            evicts=self._start.evicts,
        )


def _furthest(some: Sequence[Positions]) -> Positions:
    """For each partition the greatest of its positions."""
    furthest: Positions = {}
    for positions in some:
        for source, known in positions.items():
            mine = furthest.setdefault(source, {})
            mine.update({p: max(at, mine.get(p, at)) for p, at in known.items()})
    return furthest
