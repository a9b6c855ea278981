"""1 and 2: eleven months of events, tiles and batch rows, loaded by a real Dagster backfill."""

from __future__ import annotations

from datetime import date, timedelta

from demo.stage import Stage
from feature_store.store import FeatureStore
from features.flights import LIVE_FROM

FIRST_DAY = date(2013, 1, 1)


def fill_lake(stage: Stage, store: FeatureStore) -> None:
    """Load and materialize January to November."""
    from datetime import UTC, datetime

    start, end = datetime(2013, 1, 1, tzinfo=UTC), LIVE_FROM
    for name in store.registry.sources:
        result = store.load(name, start=start, end=end)
        stage.say(f"{name}: {result.rows:,} rows")
    for view in store.registry.views:
        store.materialize(view.name, start=start, end=end)
    del timedelta
