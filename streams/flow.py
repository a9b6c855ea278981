"""The dataflow: wiring only. What it does is `feature_store.fold`."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from feature_store_deploy.streams.failure import noting_failure
from feature_store_deploy.streams.sources import LogSource, TickSource, shard_key

from feature_store.errors import StoreUnavailable
from feature_store.fold.drive import ShardDriver
from feature_store.fold.run import Reading, Start

if TYPE_CHECKING:
    from feature_store_deploy.streams.context import FlowContext

logger = logging.getLogger(__name__)

EPOCH = timedelta(milliseconds=50)
TICK = timedelta(seconds=1)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between two attempts to write to a store that is away."""


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
        client = context.connect()
        self._driver = ShardDriver(
            context.compiled,
            start,
            client=client,
            env=context.env,
            clock=context.clock,
            logs=context.logs(client),
            observer=context.observer,
        )
        with context.open_lake() as lake:
            self._driver.rebuild(lake, shard)
        logger.info("shard %d of %d is rebuilt", shard, start.shards)

    @noting_failure
    def write_batch(self, values: list[Reading | None]) -> None:
        """Fold what has come in since the last call (several readings make one fold; None is a tick), and write.

        While the store does not take writes, all waits.
        """
        readings, pause_s = [value for value in values if value is not None], FIRST_PAUSE_S
        while True:
            try:
                self._driver.drive(readings)
            except StoreUnavailable as error:
                if pause_s == FIRST_PAUSE_S:
                    logger.warning("the stream waits, and values grow stale: %s", error)
                readings = []
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                return

    def snapshot(self) -> None:
        """Nothing: recovery is a rebuild."""
        return
