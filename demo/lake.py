"""1 and 2: eleven months of events, tiles and batch rows, by a real Dagster backfill of daily partitions."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
from feature_store_deploy.assets.backfill import Progress, Span, run_backfill

from demo.stage import Stage
from feature_store.errors import FeatureStoreError
from feature_store.lake.view_tables import built_table
from feature_store.store import FeatureStore
from features.flights import LIVE_FROM

FIRST_DAY = datetime(2013, 1, 1, tzinfo=UTC)


def fill_lake(stage: Stage, store: FeatureStore) -> None:
    """Load and materialize January to November, and say what came of it.

    Raises:
        FeatureStoreError: partitions failed; the UI shows why.
    """
    with stage.progress() as progress:
        task = progress.add_task("partitions, by Dagster", total=None)
        done = run_backfill(
            stage.settings,
            Span(start=FIRST_DAY.date(), end=LIVE_FROM.date(), title="demo"),
            on_progress=lambda now: progress.update(task, total=now.total, completed=now.done),
        )
    _check(done)
    stage.say(f"{done.done:,} partitions in {done.runs_done} runs, {done.seconds:.0f} s; every row checked by Pandera")
    with store.lake.cursor() as cursor:
        for name in store.registry.sources:
            stage.say(f"{name:<28} {_count(cursor, store.lake.events_sql(name)):>9,} events")


def describe_features(stage: Stage, store: FeatureStore) -> None:
    """Say what was materialized for each view."""
    with store.lake.cursor() as cursor:
        for view in store.registry.views:
            kind = "rows" if view.is_batch else "tiles"
            count = _count(cursor, f"FROM {store.lake.table_sql(built_table(view))}")
            stage.say(f"{view.name:<28} {count:>9,} {kind:<6} {_features(len(view.declared))}  {view.description}")


def _features(count: int) -> str:
    return f"{count} {'feature' if count == 1 else 'features':<8}"


def _check(done: Progress) -> None:
    if not done.ok:
        raise FeatureStoreError(
            f"{done.failed} of {done.total} partitions failed in backfill {done.backfill_id}; `make up` shows why"
        )


def _count(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM ({sql})").fetchone()
    return int(row[0]) if row else 0
