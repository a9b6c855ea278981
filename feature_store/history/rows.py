"""Rows of batch views: for every step of a day, every entity with an event in a window, computed by the one kernel.

A view without lifetime features looks back over its longest window; one with them reads the whole history. An entity
whose windows are all empty at a step has no row there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.duck import literal
from feature_store.history.asof import AVAILABLE, ROW_US, status_column
from feature_store.history.buckets import divide
from feature_store.history.columns import stored_column, stored_type
from feature_store.history.kept import check_buildable
from feature_store.history.late import count_late
from feature_store.history.tiles import BATCH_DAYS, batches
from feature_store.history.workers import ALONE, Workers
from feature_store.lake.books.builds import Provenance
from feature_store.lake.view_tables import rows_table
from feature_store.registry import meanings_of
from feature_store.time_rule import BEGINNING_US, DAY_US, to_us
from feature_store.transforms.catalogue import Ints
from feature_store.transforms.evaluate import evaluate, tails_us
from feature_store.transforms.families import LIFETIME, History, event_rows
from feature_store.transforms.project import DAY, ID, KEY, TIME, project_sql

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from feature_store.declare.view import FeatureView
    from feature_store.history.buckets import Bucket
    from feature_store.lake import Commit, Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan, WindowPlan

NEWEST = "_newest_us"
"""The column of the time of an entity's newest event before its row."""

_EVER_DAYS = 100_000
_ORDER = f"{KEY}, {TIME}, {ID}"


def materialize_rows(
    compiled: Compiled,
    lake: Lake,
    view: FeatureView,
    *,
    days: Sequence[date],
    now_us: int,
    workers: Workers = ALONE,
    counts_late: bool = True,
) -> list[Commit]:
    """Build the rows of whole days as a new row version; what was served stays readable.

    The rows of a day are those of its steps in (00:00, 24:00], so the last of them knows the whole day.

    Args:
        compiled: the declarations.
        lake: events in, rows out.
        view: a batch view.
        days: UTC days.
        now_us: stamped as the time from which the rows were there.
        counts_late: whether the lake's book of late events is told what they changed.
        workers: who computes the rows of more events than a bucket holds. They are the same whoever does.

    Raises:
        WorkerError: a worker was lost; the days at hand are as they were.
    """
    plan = compiled.plan(view)
    lake.ensure_source(view.source.name, compiled.schemas[view.source.name])
    check_buildable(lake, view, days)
    return [
        _materialize(plan, lake, batch, now_us, workers, counts_late=counts_late) for batch in batches(days, BATCH_DAYS)
    ]


def _materialize(
    plan: ViewPlan, lake: Lake, days: list[date], now_us: int, workers: Workers, *, counts_late: bool
) -> Commit:
    snapshot, view = lake.snapshot(), plan.view
    first_us, last_us = _start_us(days[0]), _start_us(days[-1]) + DAY_US
    events = _events_sql(plan, lake, snapshot, first_us, last_us)
    asked = _Asked(plan=plan.windows, every_us=view.every_us, days=tuple(days), now_us=now_us)
    with ExitStack() as stack:
        cursor = stack.enter_context(lake.reading())
        count = workers.buckets(_count(cursor, events))
        rows: pa.Table | str
        if count == 1:
            rows = pa.concat_tables(_rows(asked, cursor.execute(f"{events} ORDER BY {_ORDER}").to_arrow_table()))
        else:
            folder = stack.enter_context(lake.scratch())
            rows = _rows_by_bucket(asked, cursor, events, count=count, folder=folder, workers=workers)
        return lake.partitions.append_version(
            rows_table(view),
            rows,
            schema=_schema(plan),
            days=days,
            provenance=Provenance(
                source=view.source.name,
                built_from=snapshot,
                lookback_days=_EVER_DAYS if view.lookback_days is None else view.lookback_days,
                meanings=meanings_of(view),
            ),
            late=count_late(plan, lake, days=days, snapshot=snapshot) if counts_late else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Which rows are wanted."""

    plan: WindowPlan
    every_us: int
    days: tuple[date, ...]
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _AskedOfBucket:
    """The rows that a worker writes to a file."""

    asked: _Asked
    bucket: Bucket
    file: Path


def _events_sql(plan: ViewPlan, lake: Lake, snapshot: int, first_us: int, last_us: int) -> str:
    """The view's rows of partials that windows ending in (first, last] can hold."""
    span, source = plan.view.longest_window_us, plan.view.source.name
    first = BEGINNING_US if span is None else first_us - span
    start = date(1, 1, 1) if span is None else _day_of(first)
    events = lake.events_sql(
        source, snapshot=snapshot, days=(start, _day_of(last_us)), where=f"{TIME} >= {first} AND {TIME} < {last_us}"
    )
    return project_sql(plan, events)


def _count(cursor: duckdb.DuckDBPyConnection, events: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM ({events})").fetchone()
    return int(row[0]) if row else 0


def _rows_by_bucket(
    asked: _Asked, cursor: duckdb.DuckDBPyConnection, events: str, *, count: int, folder: Path, workers: Workers
) -> str:
    """SQL for all rows, which stand in files below the folder."""
    divided = divide(
        cursor, events, by=f"hash({KEY})", count=count, order=_ORDER, folder=folder, memory_mb=workers.share_mb
    )
    tasks = [
        _AskedOfBucket(asked=asked, bucket=bucket, file=folder / f"rows_{number}.parquet")
        for number, bucket in enumerate(divided.buckets)
    ]
    workers.compute(_write_bucket, tasks, events=divided.rows)
    listed = ", ".join(literal(str(task.file)) for task in tasks)
    return f"SELECT * FROM read_parquet([{listed}])"


def _write_bucket(wanted: _AskedOfBucket) -> None:
    with pq.ParquetWriter(wanted.file, _schema(wanted.asked.plan)) as writer:
        for rows in _rows(wanted.asked, wanted.bucket.rows()):
            writer.write_table(rows)


def _rows(asked: _Asked, events: pa.Table) -> Iterator[pa.Table]:
    """The rows of each day, from sorted events."""
    keys = events.column(KEY).combine_chunks().dictionary_encode()  # numbered in the order of the keys
    entity = keys.indices.to_numpy().astype(np.int64)
    history = History(event_rows(asked.plan, events, entity, is_sorted=True))
    for day in asked.days:
        yield _day_rows(asked, history, keys.dictionary, day)


def _day_rows(asked: _Asked, history: History, keys: pa.Array, day: date) -> pa.Table:
    plan = asked.plan
    entity, step_us, newest = _steps(asked, history, len(keys), day)
    values = evaluate(plan, history, entity, time_us=step_us)
    columns: dict[str, pa.Array] = {
        KEY: keys.take(pa.array(entity)),
        ROW_US: pa.array(step_us),
        AVAILABLE: pa.array(np.full(len(entity), asked.now_us)),
        NEWEST: pa.array(history.rows.time[newest]) if len(entity) else pa.array([], type=pa.int64()),
    }
    for feature in plan.features:
        name = feature.feature.name
        columns[name] = stored_column(feature, values[name])
        columns[status_column(name)] = pa.array(values[name].status, type=pa.int8())
    columns[DAY] = pa.array([day] * len(entity), type=pa.date32())
    return pa.table(columns, schema=_schema(plan))


def _steps(asked: _Asked, history: History, entities: int, day: date) -> tuple[Ints, Ints, Ints]:
    """(entity, step) of the day wherever a window has an event, and the position of the newest event before it."""
    steps = _start_us(day) + np.arange(1, DAY_US // asked.every_us + 1, dtype=np.int64) * asked.every_us
    entity = np.repeat(np.arange(entities, dtype=np.int64), len(steps))
    step_us = np.tile(steps, entities)
    index = history.tiles(LIFETIME)
    head = index.locate(entity, step_us)
    earliest = np.full(len(entity), 2**62)
    for plan in asked.plan.features:
        tails = tails_us(step_us, window_us=plan.feature.window_us, hop_us=plan.feature.hop_us)
        earliest = np.minimum(earliest, tails)
    some = index.locate(entity, earliest) < head
    return entity[some], step_us[some], head[some] - 1


def _schema(plan: WindowPlan) -> pa.Schema:
    fields = [(KEY, pa.string()), (ROW_US, pa.int64()), (AVAILABLE, pa.int64()), (NEWEST, pa.int64())]
    for feature in plan.features:
        fields.append((feature.feature.name, stored_type(feature)))
        fields.append((status_column(feature.feature.name), pa.int8()))
    return pa.schema([*fields, (DAY, pa.date32())])


def _start_us(day: date) -> int:
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _day_of(time_us: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).date()
