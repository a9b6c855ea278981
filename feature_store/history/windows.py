"""Windows at every row of a spine: the events of its entities from the lake, the kernel, bucket by bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

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
    from feature_store.history.spine import SpineKeys
    from feature_store.transforms.plan import ViewPlan

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
    plan: ViewPlan,
    *,
    reading: LakeReading,
    keys: SpineKeys,
    time_us: Ints,
    served: bool,
    bucket_events: int,
) -> WindowValues:
    """The features of a view at times given by (entity, time).

    Args:
        plan: the view.
        reading: the events.
        keys: the entity of each row.
        time_us: int64[n], the time of each row.
        served: only events that had arrived by the row's time count.
        bucket_events: how many events to hold in memory at once; an entity is never divided.
    """
    order = order_by(keys.codes, time_us)
    order = order[int(np.searchsorted(keys.codes[order], 0)) :]  # null keys stand first
    codes, times = keys.codes[order], time_us[order]
    reading.cursor.register("spine_entities", keys.entities)
    source = _Events(plan, reading, times)
    parts, recomputed = [], 0
    for low, high in source.buckets(len(keys), bucket_events):
        rows = slice(*np.searchsorted(codes, (low, high)).tolist())
        found = _bucket(source, (low, high), codes[rows], times[rows], served)
        parts.append(found.values)
        recomputed += found.recomputed
    return WindowValues(values=_scatter(parts, order, len(time_us)), recomputed=recomputed)


class _Events:
    """The events of the spine's entities, with their codes, in the span of time that can matter."""

    def __init__(self, plan: ViewPlan, reading: LakeReading, times: Ints) -> None:
        self.plan, self.cursor, self._reading = plan, reading.cursor, reading
        view = plan.view
        self._first, self._last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        self._span = view.longest_window_us
        self._days = days_of(self._span, self._first, self._last)
        where = time_filter(self._span, self._first, self._last)
        events = reading.events_sql(view.source.name, days=self._days, where=where)
        on = " AND ".join(f'e."{name}" = k."{name}"' for name in view.entity.join_keys) or "TRUE"
        self.relation = f"SELECT e.*, k.{CODE} FROM ({events}) AS e JOIN spine_entities AS k ON {on}"

    def buckets(self, entities: int, bucket_events: int) -> Sequence[tuple[int, int]]:
        """Ranges of codes with about `bucket_events` events each."""
        if self._reading.has_at_most(bucket_events, self.plan.view.source.name, self._days):
            return [(0, entities)]
        counts = self.cursor.execute(
            f"SELECT {CODE}, count(*) AS n FROM ({self.relation}) GROUP BY {CODE} ORDER BY {CODE}"
        ).fetchnumpy()
        ends = np.cumsum(counts["n"])
        bucket = (ends - 1) // bucket_events
        heads = counts[CODE][np.flatnonzero(np.diff(bucket)) + 1].tolist()
        return list(pairwise([0, *heads, entities]))

    def order(self, entities: int) -> str:
        """What sorts the events by (code, time, event id); the id only where a feature depends on the order of ties."""
        tie = f", {ID}" if any(column.merge in _PICKS for column in self.plan.columns) else ""
        if self._span is None or entities * (length := self._last - self._first + self._span) >= 1 << 62:
            return f"{KEY}, {TIME}{tie}"
        # One number sorts in two thirds of the time of a pair.
        return f"{KEY} * {length} + ({TIME} - ({self._first - self._span})){tie}"


def _bucket(
    source: _Events,
    span: tuple[int, int],
    codes: Ints,
    times: Ints,
    served: bool,
) -> WindowValues:
    """The values of the entities [low, high), in the order of their queries."""
    plan, (low, high) = source.plan, span
    within = f"SELECT * FROM ({source.relation}) WHERE {CODE} >= {low} AND {CODE} < {high}"
    # Events carry the number of their entity instead of its key.
    projected = project_sql(replace(plan, key_sql=CODE), within, extra=[known_sql()] if served else [])
    listed = ", ".join([KEY, TIME, *(column.name for column in plan.columns), *([KNOWN] if served else [])])
    table = source.cursor.execute(f"SELECT {listed} FROM ({projected}) ORDER BY {source.order(high)}").to_arrow_table()
    known_us = table.column(KNOWN).to_numpy() if served else None
    history = History(event_rows(plan, table, table.column(KEY).to_numpy(), is_sorted=True))
    del table
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
