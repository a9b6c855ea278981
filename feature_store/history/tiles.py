"""Tiles in the lake: what a stream view's partition materializes, and what a stream starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.history.kept import check_buildable
from feature_store.history.late import count_late
from feature_store.lake.books.builds import Provenance
from feature_store.lake.view_tables import tiles_table
from feature_store.registry import meanings_of
from feature_store.time_rule import DAY_US
from feature_store.transforms.project import DAY, TILE, tiles_sql

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Commit, Lake
    from feature_store.transforms.compiled import Compiled

BATCH_DAYS = 31


def materialize_tiles(compiled: Compiled, lake: Lake, view: FeatureView, *, days: Sequence[date]) -> list[Commit]:
    """Build the tiles of whole days anew from their events; each batch of days whole or not at all."""
    lake.ensure_source(view.source.name, compiled.schemas[view.source.name])
    check_buildable(lake, view, days)
    return [_materialize(compiled, lake, view, batch) for batch in batches(days, BATCH_DAYS)]


def batches(days: Sequence[date], size: int) -> Iterator[list[date]]:
    """Runs of consecutive days, none longer than `size`."""
    run: list[date] = []
    for day in sorted(set(days)):
        if run and (len(run) == size or day != run[-1] + timedelta(days=1)):
            yield run
            run = []
        run.append(day)
    if run:
        yield run


def _materialize(compiled: Compiled, lake: Lake, view: FeatureView, days: list[date]) -> Commit:
    snapshot = lake.snapshot()
    query = " UNION ALL ".join(
        _tiles_sql(compiled, lake, view, snapshot, first, last) for first, last in _spans(view, days)
    )
    return lake.partitions.replace(
        tiles_table(view),
        query,
        schema=_schema(lake, query),
        days=days,
        provenance=Provenance(source=view.source.name, built_from=snapshot, meanings=meanings_of(view)),
        late=count_late(compiled.plan(view), lake, days=days, snapshot=snapshot),
    )


def _spans(view: FeatureView, days: list[date]) -> list[tuple[date, date]]:
    """A tile belongs to the day of its events. Where tiles can straddle midnight each day is aggregated by itself."""
    if all(DAY_US % feature.hop_us == 0 for feature in view.declared):
        return [(days[0], days[-1])]
    return [(day, day) for day in days]


def _tiles_sql(compiled: Compiled, lake: Lake, view: FeatureView, snapshot: int, first: date, last: date) -> str:
    tiles = tiles_sql(compiled.plan(view), lake.events_sql(view.source.name, snapshot=snapshot, days=(first, last)))
    day = f"DATE '{first.isoformat()}'" if first == last else f"CAST(make_timestamp({TILE}) AS DATE)"
    return f"SELECT *, {day} AS {DAY} FROM ({tiles})"


def _schema(lake: Lake, query: str) -> pa.Schema:
    with lake.reading() as cursor:
        return cursor.execute(f"SELECT * FROM ({query}) LIMIT 0").to_arrow_table().schema
