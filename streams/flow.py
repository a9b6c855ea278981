"""The dataflow: wiring only. What it does is `feature_store.fold`; where it begins is `streams.context`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from feature_store.fold.rebuild import rebuild_shards
from feature_store.fold.shard import Shard, Writes
from feature_store.online.ready import ReadyRecord
from feature_store.online.writer import OnlineWriter
from feature_store.registry import view_fingerprint
from streams.sources import LogSource, Reading, TickSource

if TYPE_CHECKING:
    from streams.context import FlowContext, Start

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
    """Drives one shard. Its state lives in the lake and the log, so there is nothing to snapshot."""

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context, self._start = context, start
        self._shard: Shard | None = None
        self._behind = {
            (source, partition)
            for source in context.live_sources()
            for partition in range(context.log(context.connect(), source).partitions)
        }
        self._unread: dict[tuple[str, int], int | None] = {}
        plans = [plan for plan in context.compiled.plans.values() if plan.view.online == "stream"]
        self._plans = plans
        self._fingerprint = "|".join(view_fingerprint(plan.view) for plan in plans)

    def on_batch(self, values: list[Reading | None]) -> tuple[list[Output], bool]:
        """Fold what has come in since the last call; several readings make one fold."""
        readings = [value for value in values if value is not None]
        if self._shard is None:
            if not readings:
                return [], StatefulBatchLogic.RETAIN  # a tick does not say which shard this is
            self._shard = self._rebuild(readings[0].batch.shard)
        for reading in readings:
            place = (reading.source, reading.partition)
            self._unread[place] = reading.oldest_unread_us
            if reading.caught_up:
                self._behind.discard(place)
        catching_up = bool(self._behind)
        now_us = self._context.clock.now_us()
        writes = self._shard.fold([reading.batch for reading in readings], now_us, catching_up=catching_up)
        if catching_up:
            return [], StatefulBatchLogic.RETAIN
        return [(writes, self._ready(writes, now_us))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> None:
        """Nothing: recovery is a rebuild from the lake."""
        return

    def _rebuild(self, number: int) -> Shard:
        shard = Shard(self._plans, env=self._context.env, shard=number, run=self._start.run)
        with self._context.open_lake() as lake:
            rebuild_shards(
                self._context.compiled,
                lake,
                self._start.origin,
                shards=[shard],
                count=self._context.shards,
                now_us=self._context.clock.now_us(),
            )
        return shard

    def _ready(self, writes: Writes, now_us: int) -> ReadyRecord:
        commit = writes.commit
        unread = [arrived for arrived in self._unread.values() if arrived is not None]
        return ReadyRecord(
            field=str(commit.shard),
            generation=self._start.generation,
            fingerprint=self._fingerprint,
            views=dict(self._shard.layouts) if self._shard else {},
            run=commit.run,
            n=commit.n,
            positions=commit.positions,
            beat_us=now_us,
            oldest_unread_us=min(unread, default=None),
            evicts=self._start.evicts,
        )


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
