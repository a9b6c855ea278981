"""The flow's inputs: partitions of the logs, read, accepted and split where they are read; and ticks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from feature_store_deploy.streams.failure import noting_failure
from redis.exceptions import RedisError

from feature_store.errors import FlowSuperseded, LogUnavailable, UnknownNameError
from feature_store.fold.consumer import stream_consumer
from feature_store.fold.run import PartitionReader, Reading, Start
from feature_store.online.owner import read_owner
from feature_store.online.writer import passes

if TYPE_CHECKING:
    from feature_store_deploy.streams.context import FlowContext

logger = logging.getLogger(__name__)

POLL = timedelta(milliseconds=4)
BEAT = timedelta(seconds=1)
"""A partition without records says so this often."""

Item = tuple[str, Reading | None]
"""(shard, a reading; None is a tick)"""


def shard_key(shard: int) -> str:
    """The key by which the items of a shard are routed; keys sort as their shards do."""
    return f"{shard:05d}"


class LogSource(FixedPartitionedSource[Item, None]):
    """All partitions of all live sources, spread over the workers by Bytewax."""

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context, self._start = context, start

    @noting_failure
    def list_parts(self) -> list[str]:
        """`source/partition` of each."""
        return [f"{source}/{partition}" for source, partition in self._start.partitions]

    @noting_failure
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSourcePartition[Item, None]:
        """Open one partition where the lake ends."""
        del step_id, resume_state
        source, partition = for_part.split("/")
        return _LogPartition(self._context, self._start, source, int(partition))


class _LogPartition(StatefulSourcePartition[Item, None]):
    def __init__(self, context: FlowContext, start: Start, source: str, partition: int) -> None:
        self._context, self._start, self._partition = context, start, partition
        self._client = context.connect()
        self._log = context.log(self._client, source)
        self._answered_us, self._waiting = context.clock.now_us(), False
        self._reader = PartitionReader(
            context.compiled,
            context.open_lake(),
            self._log,
            start,
            source=source,
            partition=partition,
            observer=context.observer,
        )
        self._spoke = datetime.min.replace(tzinfo=UTC)

    @noting_failure
    def next_batch(self) -> list[Item]:
        try:
            return self._read()
        except (LogUnavailable, RedisError) as error:
            if isinstance(error, RedisError) and not passes(error):
                raise
            if not self._waiting:
                logger.warning("partition %d waits, and values grow stale: %s", self._partition, error)
            self._waiting = True
            return _keyed(self._reader.silent(self._answered_us)) if self._is_time() else []

    def _read(self) -> list[Item]:
        records = self._reader.read()
        self._answered_us, self._waiting = self._context.clock.now_us(), False
        silent = self._is_time()
        if silent:
            self._acknowledge()
        return _keyed(self._reader.take(records)) if records or silent or not self._reader.caught_up else []

    def _acknowledge(self) -> None:
        consumer, positions = (
            stream_consumer(self._context.env, self._start.run),
            {self._partition: self._reader.position},
        )
        try:
            self._log.acknowledge(consumer, positions)
        except UnknownNameError:  # a newer run has retired this one, or the server has forgotten everything
            owner = read_owner(self._client, self._context.env)
            if owner is not None and owner.run > self._start.run:
                raise FlowSuperseded(self._start.run, owner.run) from None
            self._log.rejoin(consumer, positions)
        except RedisError as error:
            if not passes(error):  # a server without room is asked again with the next beat
                raise

    def _is_time(self) -> bool:
        """Whether the partition has not spoken for long; it does now."""
        now = datetime.now(UTC)
        if now - self._spoke < BEAT:
            return False
        self._spoke = now
        return True

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + POLL

    def snapshot(self) -> None:
        return None


def _keyed(readings: Sequence[Reading]) -> list[Item]:
    return [(shard_key(reading.batch.shard), reading) for reading in readings]


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
        now = datetime.now(UTC)
        if now < self._next:
            return []
        self._next = now + self._every
        return [(shard_key(shard), None) for shard in range(self._shards)]

    def next_awake(self) -> datetime | None:
        # An input that sleeps holds back all others: no epoch ends before each of them has left it.
        return datetime.now(UTC) + POLL

    def snapshot(self) -> None:
        return None
