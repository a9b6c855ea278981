"""Rows of batch views: for every step of a day, every entity with an event in a window, computed by the one kernel.

A view without lifetime features looks back over its longest window; one with them reads the whole history. An entity
whose windows are all empty at a step has no row there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.history.asof import AVAILABLE, ROW_US, rows_table, status_column
from feature_store.history.columns import stored_column, stored_type
from feature_store.history.tiles import BATCH_DAYS, batches
from feature_store.time_rule import BEGINNING_US, DAY_US, to_us
from feature_store.transforms.catalogue import Ints
from feature_store.transforms.evaluate import evaluate, tails_us
from feature_store.transforms.families import LIFETIME, History, event_rows
from feature_store.transforms.project import DAY, ID, KEY, TIME, project_sql

if TYPE_CHECKING:
    import duckdb

    from feature_store.declare.view import FeatureView
    from feature_store.lake import Commit, Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

NEWEST = "_newest_us"
"""The column of the time of an entity's newest event before its row."""

_EVER_DAYS = 100_000


def materialize_rows(
    compiled: Compiled,
    lake: Lake,
    view: FeatureView,
    *,
    days: Sequence[date],
    now_us: int,
    bucket_events: int = 8_000_000,
) -> list[Commit]:
    """Build the rows of whole days as a new row version; what was served stays readable.

    The rows of a day are those of its steps in (00:00, 24:00], so the last of them knows the whole day.

    Args:
        compiled: the declarations.
        lake: events in, rows out.
        view: a batch view.
        days: UTC days.
        now_us: stamped as the time from which the rows were there.
        bucket_events: events held in memory at once; an entity's events are never divided.
    """
    plan = compiled.plan(view)
    lake.ensure_source(view.source.name, compiled.schemas[view.source.name])
    return [_materialize(plan, lake, batch, now_us, bucket_events) for batch in batches(days, BATCH_DAYS)]


def _materialize(plan: ViewPlan, lake: Lake, days: list[date], now_us: int, bucket_events: int) -> Commit:
    snapshot, view = lake.snapshot(), plan.view
    first_us, last_us = _start_us(days[0]), _start_us(days[-1]) + DAY_US
    span = view.longest_window_us
    events = _events_sql(plan, lake, snapshot, first_us, last_us)
    cursor = lake.cursor()
    try:
        parts = [
            rows
            for bucket in _bucket_filters(cursor, events, bucket_events)
            for rows in _bucket_rows(plan, cursor, f"SELECT * FROM ({events}) WHERE {bucket}", days, now_us)
        ]
    finally:
        cursor.close()
    return lake.append_rows(
        rows_table(view),
        pa.concat_tables(parts),
        schema=_schema(plan),
        days=days,
        source=view.source.name,
        built_from=snapshot,
        lookback_days=_EVER_DAYS if span is None else -(-span // DAY_US),
    )


def _events_sql(plan: ViewPlan, lake: Lake, snapshot: int, first_us: int, last_us: int) -> str:
    """The view's rows of partials that windows ending in (first, last] can hold."""
    span, source = plan.view.longest_window_us, plan.view.source.name
    first = BEGINNING_US if span is None else first_us - span
    start = date(1, 1, 1) if span is None else _day_of(first)
    events = lake.events_sql(
        source, snapshot=snapshot, days=(start, _day_of(last_us)), where=f"{TIME} >= {first} AND {TIME} < {last_us}"
    )
    return project_sql(plan, events)


def _bucket_filters(cursor: duckdb.DuckDBPyConnection, events: str, bucket_events: int) -> list[str]:
    row = cursor.execute(f"SELECT count(*) FROM ({events})").fetchone()
    buckets = max(1, -(-int(row[0] if row else 0) // bucket_events))
    return ["TRUE"] if buckets == 1 else [f"hash({KEY}) % {buckets} = {bucket}" for bucket in range(buckets)]


def _bucket_rows(
    plan: ViewPlan, cursor: duckdb.DuckDBPyConnection, events: str, days: list[date], now_us: int
) -> list[pa.Table]:
    table = cursor.execute(f"SELECT * FROM ({events}) ORDER BY {KEY}, {TIME}, {ID}").to_arrow_table()
    keys = table.column(KEY).combine_chunks().dictionary_encode()  # numbered in the order of the keys
    entity = keys.indices.to_numpy().astype(np.int64)
    history = History(event_rows(plan, table, entity, is_sorted=True))
    return [_day_rows(plan, history, keys.dictionary, day, now_us) for day in days]


def _day_rows(plan: ViewPlan, history: History, keys: pa.Array, day: date, now_us: int) -> pa.Table:
    entity, step_us, newest = _asked(plan.view, history, len(keys), day)
    values = evaluate(plan, history, entity, time_us=step_us)
    columns: dict[str, pa.Array] = {
        KEY: keys.take(pa.array(entity)),
        ROW_US: pa.array(step_us),
        AVAILABLE: pa.array(np.full(len(entity), now_us)),
        NEWEST: pa.array(history.rows.time[newest]) if len(entity) else pa.array([], type=pa.int64()),
    }
    for feature in plan.features:
        name = feature.feature.name
        columns[name] = stored_column(feature, values[name])
        columns[status_column(name)] = pa.array(values[name].status, type=pa.int8())
    columns[DAY] = pa.array([day] * len(entity), type=pa.date32())
    return pa.table(columns, schema=_schema(plan))


def _asked(view: FeatureView, history: History, entities: int, day: date) -> tuple[Ints, Ints, Ints]:
    """(entity, step) of the day wherever a window has an event, and the position of the newest event before it."""
    steps = _start_us(day) + np.arange(1, DAY_US // view.every_us + 1, dtype=np.int64) * view.every_us
    entity = np.repeat(np.arange(entities, dtype=np.int64), len(steps))
    step_us = np.tile(steps, entities)
    index = history.tiles(LIFETIME)
    head = index.locate(entity, step_us)
    earliest = np.full(len(entity), 2**62)
    for feature in view.declared:
        tails = tails_us(step_us, window_us=feature.window_us, hop_us=feature.hop_us)
        earliest = np.minimum(earliest, tails)
    some = index.locate(entity, earliest) < head
    return entity[some], step_us[some], head[some] - 1


def _schema(plan: ViewPlan) -> pa.Schema:
    fields = [(KEY, pa.string()), (ROW_US, pa.int64()), (AVAILABLE, pa.int64()), (NEWEST, pa.int64())]
    for feature in plan.features:
        fields.append((feature.feature.name, stored_type(feature)))
        fields.append((status_column(feature.feature.name), pa.int8()))
    return pa.schema([*fields, (DAY, pa.date32())])


def _start_us(day: date) -> int:
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _day_of(time_us: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).date()
