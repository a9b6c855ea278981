"""The dataflow: wiring only. What it does is `feature_store.fold`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from feature_store_deploy.streams.sources import LogSource, TickSource

from feature_store.fold.run import Reading, ShardRunner, Start
from feature_store.fold.shard import Writes
from feature_store.online.ready import ReadyRecord
from feature_store.online.writer import OnlineWriter

if TYPE_CHECKING:
    from feature_store_deploy.streams.context import FlowContext

EPOCH = timedelta(milliseconds=50)
TICK = timedelta(seconds=1)

Output = tuple[Writes, ReadyRecord]


def build_flow(context: FlowContext, start: Start, *, tick: timedelta = TICK) -> Dataflow:
    """The flow of one environment, beginning at `start`; the same for every process of it."""
    flow = Dataflow(f"features_{context.env}")
    readings = op.input("read_log", flow, LogSource(context, start))
    ticks = op.input("tick", flow, TickSource(context.shards, tick))
    items = op.merge("merge_ticks", readings, ticks)
    writes = op.stateful_batch("fold_shard", items, lambda _: FoldLogic(context, start))
    op.output("write_online", op.map("drop_key", writes, lambda keyed: keyed[1]), OnlineSink(context))
    return flow


class FoldLogic(StatefulBatchLogic[Reading | None, Output, None]):
    """One shard. Its state follows from the lake and the log, so there is nothing to snapshot."""

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context = context
        self._runner = ShardRunner(context.compiled, start, env=context.env, partitions=start.partitions)

    def on_batch(self, values: list[Reading | None]) -> tuple[list[Output], bool]:
        """Fold what has come in since the last call; several readings make one fold."""
        readings = [value for value in values if value is not None]
        if not self._runner.rebuilt:
            if not readings:
                return [], StatefulBatchLogic.RETAIN  # a tick does not say which shard this is
            with self._context.open_lake() as lake:
                self._runner.rebuild(lake, readings[0].batch.shard, now_us=self._context.clock.now_us())
        output = self._runner.fold(readings, self._context.clock.now_us())
        return [] if output is None else [output], StatefulBatchLogic.RETAIN

    def snapshot(self) -> None:
        """Nothing: recovery is a rebuild."""
        return


class OnlineSink(DynamicSink[Output]):
    """Writes to Redis from the worker that folded."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Output]:
        """A writer of this worker's own."""
        del step_id, worker_index, worker_count
        return _OnlineSinkPartition(OnlineWriter(self._context.connect(), self._context.env, clock=self._context.clock))


class _OnlineSinkPartition(StatelessSinkPartition[Output]):
    def __init__(self, writer: OnlineWriter) -> None:
        self._writer = writer

    def write_batch(self, items: list[Output]) -> None:
        for writes, ready in items:
            self._writer.write(writes.values, writes.commit, ready=ready)
