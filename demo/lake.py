"""1 and 2: eleven months of events, tiles and batch rows."""

from __future__ import annotations

from datetime import UTC, datetime

from demo.stage import Stage
from feature_store.store import FeatureStore
from features.flights import LIVE_FROM

FIRST_DAY = datetime(2013, 1, 1, tzinfo=UTC)


def fill_lake(stage: Stage, store: FeatureStore) -> None:
    """Load and materialize January to November."""
    for name in store.registry.sources:
        result = store.load(name, start=FIRST_DAY, end=LIVE_FROM)
        stage.say(f"{name}: {result.rows:,} rows")
    for view in store.registry.views:
        commits = store.materialize(view.name, start=FIRST_DAY, end=LIVE_FROM)
        stage.say(f"{view.name}: {sum(commit.rows for commit in commits):,} rows")
