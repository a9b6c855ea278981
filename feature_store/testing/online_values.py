"""An online store of one source in a dictionary: what shards have written of its events up to a time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.fold.shard import Shard, Writes
from feature_store.fold.split import Splitter
from feature_store.online.packed import decode_row, is_valid_at, item_at, seconds_since
from feature_store.online.packing import encode_rows
from feature_store.time_rule import SECOND_US
from feature_store.transforms.plan import ViewPlan
from feature_store.transforms.project import ARRIVED, TIME

ENV = "replay"


class OnlineValues:
    """Packed values by key and view, as they stand at `until_us`."""

    def __init__(self, splitter: Splitter, plans: Sequence[ViewPlan], *, shards: int, until_us: int) -> None:
        self._splitter, self._until_us = splitter, until_us
        self._shards = [Shard(plans, env=ENV, shard=number, run=1) for number in range(shards)]
        self._values: dict[tuple[str, str], tuple[bytes, int]] = {}

    def fold(self, batches: Sequence[pa.Table], dice: random.Random, *, early: bool) -> None:
        """Fold micro-batches at random times; with `early` the last write may lie long before the values are read."""
        spans = [span for batch in batches for span in _spans(batch) if span[0] < self._until_us]
        # Every event has arrived and its time has passed.
        settled = max((max(time + 1, min(arrived, self._until_us)) for time, arrived in spans), default=self._until_us)
        first = min((time for time, _ in spans), default=settled)
        last = dice.choice([self._until_us, dice.randint(settled, self._until_us)]) if early else self._until_us
        times = sorted(dice.randint(first, last) for _ in batches)
        for batch, now_us in zip(batches, times, strict=True):
            for part in self._splitter.split(batch, {0: 0}):
                self._keep(self._shards[part.shard].fold([part], now_us), now_us)
        self._tick(last)

    def streamed(self, view_id: str, key: str) -> bytes | None:
        """The value that the stream serves; one that has ceased to be valid is written anew first, as by a tick."""
        value = self._live(view_id, key)
        if value is None:
            return None
        row = decode_row(value)
        if not is_valid_at(row.from_us, row.until_s, self._until_us):
            self._tick(self._until_us)
            value = self._live(view_id, key)
        return value

    def published(self, plan: ViewPlan, key: str) -> bytes | None:
        """The row of a batch view at this time; None where no window has an event."""
        for shard in self._shards:
            shard.start_at({})
        self._tick(self._until_us)
        value = self._live(plan.view.id, key)
        if value is None:
            return None
        row, step_us = decode_row(value), self._until_us
        if row.age_us is None:
            return None
        newest_us = row.from_us - row.age_us
        items = [item_at(item, seconds_since(row.from_us, step_us)) for item in row.items]
        columns = [[[item] if type(item) is list else item] for item in items]
        return encode_rows(row.layout_id, 1, step_us // SECOND_US, [step_us], [step_us - newest_us], [0], columns)[0]

    def _live(self, view_id: str, key: str) -> bytes | None:
        value, expires_us = self._values.get((view_id, key), (None, 0))
        return value if expires_us > self._until_us else None

    def _tick(self, now_us: int) -> None:
        for shard in self._shards:
            self._keep(shard.fold([], now_us), now_us)

    def _keep(self, writes: Writes, now_us: int) -> None:
        for write in writes.values:
            self._values[write.field, write.key] = (write.value, now_us + write.expire_ms * 1000)


def known_by(batches: Sequence[pa.Table], time_us: int) -> list[pa.Table]:
    """The batches without the events that had not arrived by a time."""
    return [batch.filter(pc.less_equal(batch.column(ARRIVED), time_us)) for batch in batches]


def _spans(batch: pa.Table) -> Iterator[tuple[int, int]]:
    """(event time, arrival) of every event."""
    yield from zip(batch.column(TIME).to_pylist(), batch.column(ARRIVED).to_pylist(), strict=True)
