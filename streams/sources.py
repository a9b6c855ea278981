"""The flow's inputs: one partition of a log, read, accepted and split where it is read; and ticks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from feature_store.errors import LogTailLost
from feature_store.fold.rebuild import open_intake
from feature_store.fold.split import ShardBatch, Splitter

if TYPE_CHECKING:
    from feature_store.log.protocol import LogRecord
    from streams.context import FlowContext, Start

MAX_RECORDS = 10_000
POLL = timedelta(milliseconds=4)
BEAT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a partition says of itself with every batch: the shard is fresh if all of them are."""

    source: str
    partition: int
    batch: ShardBatch
    oldest_unread_us: int | None
    """Arrival of the oldest record that was not read yet, as far as known; None: everything was read."""
    caught_up: bool
    """Everything that the log held when the flow started has been read."""


Item = tuple[str, Reading | None]
"""(shard, a reading; None is a tick)"""


class LogSource(FixedPartitionedSource[Item, None]):
    """All partitions of all live sources, spread over the workers by Bytewax."""

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context, self._start = context, start

    def list_parts(self) -> list[str]:
        """`source/partition` of each."""
        client = self._context.connect()
        return [
            f"{source}/{partition}"
            for source in self._context.live_sources()
            for partition in range(self._context.log(client, source).partitions)
        ]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSourcePartition[Item, None]:
        """Open one partition where the lake ends."""
        del step_id, resume_state
        source, partition = for_part.split("/")
        return _LogPartition(self._context, self._start, source, int(partition))


class _LogPartition(StatefulSourcePartition[Item, None]):
    def __init__(self, context: FlowContext, start: Start, source: str, partition: int) -> None:
        self._source, self._partition, self._clock = source, partition, context.clock
        self._log = context.log(context.connect(), source)
        # Stays open: ids of events older than those in memory are looked up there.
        self._lake = context.open_lake()
        self._intake = open_intake(
            context.compiled, self._lake, source, origin=start.origin, now_us=context.clock.now_us()
        )
        self._splitter = Splitter(source, context.compiled.plans_of(source), shards=context.shards)
        begin = self._log.begin(partition)
        self._position = start.origin.positions[source].get(partition, begin)
        self._target = self._log.end(partition)
        self._consumer = f"stream:{context.env}"
        self._log.register(self._consumer, {partition: self._position})
        self._spoke = datetime.min.replace(tzinfo=UTC)

    def next_batch(self) -> list[Item]:
        records = self._read()
        now = datetime.now(UTC)
        if not records and (now - self._spoke).total_seconds() < BEAT_S:
            return []
        if (now - self._spoke).total_seconds() >= BEAT_S:
            # The lake's position is what a restart needs; this one only keeps the trimmer behind the running flow.
            self._log.acknowledge(self._consumer, {self._partition: self._position})
            self._spoke = now
        accepted = self._intake.accept(self._partition, records, start=self._position)
        self._position = accepted.end
        unread = records[-1].arrived_us if len(records) == MAX_RECORDS else None
        return [
            (
                str(batch.shard),
                Reading(
                    source=self._source,
                    partition=self._partition,
                    batch=batch,
                    oldest_unread_us=unread,
                    caught_up=self._position >= self._target,
                ),
            )
            for batch in self._splitter.split(accepted.events, {self._partition: self._position})
        ]

    def _read(self) -> list[LogRecord]:
        try:
            return self._log.read(self._partition, self._position, max_records=MAX_RECORDS)
        except LogTailLost as lost:
            self._position = lost.resume
            return self._log.read(self._partition, self._position, max_records=MAX_RECORDS)

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + POLL

    def snapshot(self) -> None:
        return None


class TickSource(FixedPartitionedSource[Item, None]):
    """A tick for every shard, so that values near their end are written anew and the shard's heart beats."""

    def __init__(self, shards: int, every: timedelta) -> None:
        self._shards, self._every = shards, every

    def list_parts(self) -> list[str]:
        """One partition."""
        return ["ticks"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSourcePartition[Item, None]:
        """The one ticker of the flow."""
        del step_id, for_part, resume_state
        return _Ticker(self._shards, self._every)


class _Ticker(StatefulSourcePartition[Item, None]):
    def __init__(self, shards: int, every: timedelta) -> None:
        self._shards, self._every = shards, every
        self._next = datetime.now(UTC)

    def next_batch(self) -> list[Item]:
        self._next = datetime.now(UTC) + self._every
        return [(str(shard), None) for shard in range(self._shards)]

    def next_awake(self) -> datetime | None:
        return self._next

    def snapshot(self) -> None:
        return None
