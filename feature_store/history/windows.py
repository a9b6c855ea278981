"""Windows at every row of a spine: the events of its entities from the lake, the kernel, bucket by bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from feature_store.history.served import KNOWN, known_sql, known_values
from feature_store.status import Status
from feature_store.time_rule import from_us
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.ordering import order_by
from feature_store.transforms.project import ID, KEY, TIME, project_sql

if TYPE_CHECKING:
    import duckdb

    from feature_store.declare.view import FeatureView
    from feature_store.history.spine import SpineKeys
    from feature_store.lake import Lake
    from feature_store.transforms.plan import ViewPlan

CODE = "_code"


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
    lake: Lake,
    snapshot: int,
    keys: SpineKeys,
    time_us: Ints,
    served: bool,
    bucket_events: int,
) -> WindowValues:
    """The features of a view at times given by (entity, time).

    Args:
        plan: the view.
        lake: the events.
        snapshot: as of which the lake is read.
        keys: the entity of each row.
        time_us: int64[n], the time of each row.
        served: only events that had arrived by the row's time count.
        bucket_events: how many events to hold in memory at once; an entity is never divided.
    """
    order = order_by(keys.codes, time_us)
    order = order[int(np.searchsorted(keys.codes[order], 0)) :]  # null keys stand first
    codes, times = keys.codes[order], time_us[order]
    cursor = lake.cursor()
    try:
        cursor.register("spine_entities", keys.entities)
        relation = _relation(plan.view, lake, snapshot, times)
        parts, recomputed = [], 0
        for low, high in _buckets(cursor, relation, len(keys), bucket_events):
            rows = slice(*np.searchsorted(codes, (low, high)).tolist())
            found = _bucket(cursor, plan, relation, low, high, codes[rows], times[rows], served)
            parts.append(found.values)
            recomputed += found.recomputed
    finally:
        cursor.close()
    return WindowValues(values=_scatter(parts, order, len(time_us)), recomputed=recomputed)


def event_days(view: FeatureView, first_us: int, last_us: int) -> tuple[date, date] | None:
    """The days of events that windows between two times need; None if the view looks back for ever."""
    span = view.longest_window_us
    if span is None:
        return None
    return from_us(first_us - span).date(), from_us(last_us).date()


def _relation(view: FeatureView, lake: Lake, snapshot: int, times: Ints) -> str:
    """The events of the spine's entities, with their codes, in the span of time that can matter."""
    if len(times) == 0:
        return _joined(view, lake.events_sql(view.source.name, snapshot=snapshot, where="FALSE"))
    first, last = int(times.min()), int(times.max())
    span = view.longest_window_us
    where = f"{TIME} < {last}" + ("" if span is None else f" AND {TIME} >= {first - span}")
    days = event_days(view, first, last) or (date(1, 1, 1), from_us(last).date())
    return _joined(view, lake.events_sql(view.source.name, snapshot=snapshot, days=days, where=where))


def _joined(view: FeatureView, events: str) -> str:
    on = " AND ".join(f'e."{name}" = k."{name}"' for name in view.entity.join_keys)
    return f"SELECT e.*, k.{CODE} FROM ({events}) AS e JOIN spine_entities AS k ON {on}"


def _buckets(
    cursor: duckdb.DuckDBPyConnection, relation: str, entities: int, bucket_events: int
) -> Sequence[tuple[int, int]]:
    """Ranges of codes with about `bucket_events` events each."""
    counts = cursor.execute(
        f"SELECT {CODE}, count(*) AS n FROM ({relation}) GROUP BY {CODE} ORDER BY {CODE}"
    ).fetchnumpy()
    ends = np.cumsum(counts["n"])
    if len(ends) == 0 or ends[-1] <= bucket_events:
        return [(0, entities)]
    bucket = (ends - 1) // bucket_events
    heads = counts[CODE][np.flatnonzero(np.diff(bucket)) + 1].tolist()
    bounds = [0, *heads, entities]
    return list(pairwise(bounds))


def _bucket(
    cursor: duckdb.DuckDBPyConnection,
    plan: ViewPlan,
    relation: str,
    low: int,
    high: int,
    codes: Ints,
    times: Ints,
    served: bool,
) -> WindowValues:
    """The values of the entities [low, high), in the order of their queries."""
    within = f"SELECT * FROM ({relation}) WHERE {CODE} >= {low} AND {CODE} < {high}"
    # Events carry the number of their entity instead of its key.
    numbered = replace(plan, key_sql=CODE)
    projected = project_sql(numbered, within, extra=[known_sql()] if served else [])
    table = cursor.execute(f"SELECT * FROM ({projected}) ORDER BY {KEY}, {TIME}, {ID}").to_arrow_table()
    history = History(event_rows(plan, table, table.column(KEY).to_numpy(), is_sorted=True))
    values = evaluate(plan, history, codes, time_us=times)
    if not served:
        return WindowValues(values=values, recomputed=0)
    values, recomputed = known_values(
        plan, history, table.column(KNOWN).to_numpy(), codes=codes, times=times, values=values
    )
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
