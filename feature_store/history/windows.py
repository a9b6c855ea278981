"""Windows at every row of a spine: the events of its entities from the lake, the kernel, bucket by bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from feature_store.history.buckets import divide
from feature_store.history.reading import LakeReading, days_of, time_filter
from feature_store.history.served import KNOWN, known_sql, known_values
from feature_store.status import Status
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.ordering import order_by
from feature_store.transforms.project import ID, KEY, TIME, project_sql
from feature_store.transforms.rowset import Merge

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from feature_store.history.buckets import Bucket
    from feature_store.history.spine import SpineKeys
    from feature_store.history.workers import Workers
    from feature_store.transforms.plan import ViewPlan, WindowPlan

CODE = "_code"

_PICKS = (Merge.FIRST, Merge.LAST, Merge.LAST_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowValues:
    """A view's features at the rows of a spine."""

    values: Mapping[str, Values]
    """Feature -> n values in the spine's order; UNKNOWN where a join key is null."""
    recomputed: int
    """Rows with a window that held events which had not arrived yet."""


def window_values(
    plan: ViewPlan, *, reading: LakeReading, keys: SpineKeys, time_us: Ints, served: bool, workers: Workers
) -> WindowValues:
    """The features of a view at times given by (entity, time).

    Args:
        plan: the view.
        reading: the events.
        keys: the entity of each row.
        time_us: int64[n], the time of each row.
        served: only events that had arrived by the row's time count.
        workers: who computes, and how much at once. The values do not depend on it.
    """
    order = order_by(keys.codes, time_us)
    order = order[int(np.searchsorted(keys.codes[order], 0)) :]  # null keys stand first
    codes, times = keys.codes[order], time_us[order]
    reading.cursor.register("spine_entities", keys.entities)
    events = _Events(plan, reading, times, entities=len(keys), served=served)
    count = events.buckets(workers)
    if count == 1:
        parts = [_answer(plan.windows, events.rows(), codes, times, served=served)]
    else:
        order, parts = _by_bucket(events, order, codes, times, count=count, workers=workers)
    return WindowValues(
        values=_scatter([part.values for part in parts], order, len(time_us)),
        recomputed=sum(part.recomputed for part in parts),
    )


class _Events:
    """The events of the spine's entities, numbered as these are, in the span of time that can matter."""

    def __init__(self, plan: ViewPlan, reading: LakeReading, times: Ints, *, entities: int, served: bool) -> None:
        self.plan, self.reading, self.served, self._entities = plan, reading, served, entities
        self._first, self._last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        self._span = plan.view.longest_window_us
        self._days = days_of(self._span, self._first, self._last)

    @property
    def query(self) -> str:
        """SQL for the rows of partials, each with its entity's number as its key."""
        view = self.plan.view
        where = time_filter(self._span, self._first, self._last)
        events = self.reading.events_sql(view.source.name, days=self._days, where=where)
        on = " AND ".join(f'e."{name}" = k."{name}"' for name in view.entity.join_keys) or "TRUE"
        numbered = f"SELECT e.*, k.{CODE} FROM ({events}) AS e JOIN spine_entities AS k ON {on}"
        known = [known_sql()] if self.served else []
        projected = project_sql(replace(self.plan, key_sql=CODE), numbered, extra=known)
        columns = [KEY, TIME, *(column.name for column in self.plan.columns), *([KNOWN] if self.served else [])]
        return f"SELECT {', '.join([*columns, *self._tie])} FROM ({projected})"

    @property
    def order(self) -> str:
        """What sorts the rows by (entity, time, event id)."""
        if self._span is None or self._entities * (length := self._last - self._first + self._span) >= 1 << 62:
            return ", ".join([KEY, TIME, *self._tie])
        # One number sorts in two thirds of the time of a pair.
        return ", ".join([f"{KEY} * {length} + ({TIME} - ({self._first - self._span}))", *self._tie])

    @property
    def _tie(self) -> list[str]:
        """The event id, only where a feature depends on the order of ties."""
        return [ID] if any(column.merge in _PICKS for column in self.plan.columns) else []

    def buckets(self, workers: Workers) -> int:
        """How many buckets these events make."""
        source = self.plan.view.source.name
        if self.reading.has_at_most(workers.bucket_events, source, self._days):
            return 1
        return workers.buckets(self.reading.at_most(source, self._days))

    def rows(self) -> pa.Table:
        """All rows, sorted."""
        return self.reading.cursor.execute(f"{self.query} ORDER BY {self.order}").to_arrow_table()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a worker is asked for: windows over the events of one bucket."""

    plan: WindowPlan
    bucket: Bucket
    queries: Path
    """Codes and times, an int64[2, q]."""
    served: bool


def _by_bucket(
    events: _Events, order: Ints, codes: Ints, times: Ints, *, count: int, workers: Workers
) -> tuple[Ints, list[WindowValues]]:
    """The values, bucket after bucket, and the rows of the spine in that order."""
    of_bucket = codes % count
    by_bucket = np.argsort(of_bucket, kind="stable")
    bounds = np.searchsorted(of_bucket[by_bucket], np.arange(count + 1))
    with events.reading.lake.scratch() as folder:
        divided = divide(
            events.reading.cursor, events.query, by=KEY, count=count, order=events.order,
            folder=folder, memory_mb=workers.share_mb,
        )  # fmt: skip
        tasks = []
        for number, (bucket, (low, high)) in enumerate(zip(divided.buckets, pairwise(bounds.tolist()), strict=True)):
            chosen, queries = by_bucket[low:high], folder / f"queries_{number}.npy"
            np.save(queries, np.stack([codes[chosen], times[chosen]]))
            tasks.append(_Asked(plan=events.plan.windows, bucket=bucket, queries=queries, served=events.served))
        return order[by_bucket], workers.compute(_answer_bucket, tasks, events=divided.rows)


def _answer_bucket(asked: _Asked) -> WindowValues:
    codes, times = np.load(asked.queries)
    return _answer(asked.plan, asked.bucket.rows(), codes, times, served=asked.served)


def _answer(plan: WindowPlan, rows: pa.Table, codes: Ints, times: Ints, *, served: bool) -> WindowValues:
    """Windows over sorted rows, in the order of the queries, which are sorted by (code, time)."""
    known_us = rows.column(KNOWN).to_numpy() if served else None
    history = History(event_rows(plan, rows, rows.column(KEY).to_numpy(), is_sorted=True))
    del rows
    values = evaluate(plan, history, codes, time_us=times)
    if known_us is None:
        return WindowValues(values=values, recomputed=0)
    values, recomputed = known_values(plan, history, known_us, codes=codes, times=times, values=values)
    return WindowValues(values=values, recomputed=recomputed)


def _scatter(parts: Sequence[Mapping[str, Values]], order: Ints, size: int) -> dict[str, Values]:
    """Buckets one after the other, back in the spine's order."""
    scattered = {}
    for name in parts[0]:
        found = [part[name].values for part in parts]
        values = np.zeros(size, dtype=np.result_type(*found))
        values[order] = np.concatenate(found)
        status = np.full(size, np.int8(Status.UNKNOWN))
        status[order] = np.concatenate([part[name].status for part in parts])
        scattered[name] = Values(values, status)
    return scattered
