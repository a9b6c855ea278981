"""The dataflow: wiring only. What it does is `feature_store.fold`."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from feature_store_deploy.streams.failure import noting_failure
from feature_store_deploy.streams.sources import LogSource, TickSource, shard_key

from feature_store.fold.run import Reading, ShardRunner, Start
from feature_store.online.writer import OnlineWriter

if TYPE_CHECKING:
    from feature_store_deploy.streams.context import FlowContext

logger = logging.getLogger(__name__)

EPOCH = timedelta(milliseconds=50)
TICK = timedelta(seconds=1)


def build_flow(context: FlowContext, start: Start, *, tick: timedelta = TICK) -> Dataflow:
    """The flow of one environment, beginning at `start`; the same for every process of it."""
    flow = Dataflow(f"features_{context.env}")
    readings = op.input("read_log", flow, LogSource(context, start))
    ticks = op.input("tick", flow, TickSource(start.shards, tick))
    items = op.merge("merge_ticks", readings, ticks)
    op.output("fold_shard", items, ShardSink(context, start))
    return flow


class ShardSink(FixedPartitionedSink[Reading | None, None]):
    """Folds and writes: a shard is a partition of this output, because the engine deals those out evenly.

    Stateful operators would go to workers by a hash of their key, several to one and none to another.
    """

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context, self._start = context, start

    def list_parts(self) -> list[str]:
        """Every shard; their order is that of their numbers."""
        return [shard_key(shard) for shard in range(self._start.shards)]

    def part_fn(self, item_key: str) -> int:
        """The place of a shard among the partitions."""
        return int(item_key)

    @noting_failure
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Reading | None, None]:
        """Rebuild one shard from the lake."""
        del step_id, resume_state
        return _FoldedShard(self._context, self._start, int(for_part))


class _FoldedShard(StatefulSinkPartition[Reading | None, None]):
    """One shard. Its state follows from the lake and the log, so there is nothing to snapshot."""

    def __init__(self, context: FlowContext, start: Start, shard: int) -> None:
        self._context = context
        self._runner = ShardRunner(context.compiled, start, env=context.env, partitions=start.partitions)
        with context.open_lake() as lake:
            self._runner.rebuild(lake, shard, now_us=context.clock.now_us())
        logger.info("shard %d of %d is rebuilt", shard, start.shards)
        self._writer = OnlineWriter(context.connect(), context.env, clock=context.clock)

    @noting_failure
    def write_batch(self, values: list[Reading | None]) -> None:
        """Fold what has come in since the last call (several readings make one fold; None is a tick), and write."""
        readings = [value for value in values if value is not None]
        output = self._runner.fold(readings, self._context.clock.now_us())
        if output is not None:
            writes, ready = output
            self._writer.write(writes.values, writes.commit, ready=ready)

    def snapshot(self) -> None:
        """Nothing: recovery is a rebuild."""
        return
