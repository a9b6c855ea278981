"""The backfill of a run: loads the past days and builds what is built of them, again and again."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import duckdb

from chaos.declared import HISTORY, SOURCE, registry
from feature_store.errors import LakeError
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from chaos.place import Place

PAUSE_S = 15.0
"""Each load lets the flow build a successor, which costs seconds of a processor."""
LOOK_S = 0.1


def backfill(place: Place) -> None:
    """Backfill until this process is ended; at rest nothing new is begun, as the flow would build a successor for it."""
    with FeatureStore(settings=place.settings) as store:
        while True:
            while place.quiet.exists():
                time.sleep(LOOK_S)
            # A lake that is locked or full: what was not committed is not there, and is done again.
            with suppress(LakeError, duckdb.Error):
                backfill_once(store)
            time.sleep(PAUSE_S)


def backfill_once(store: FeatureStore) -> None:
    """Load every past day and build it, a day at a time as a partition of an asset is."""
    day, end = HISTORY
    while day < end:
        following = day + timedelta(days=1)
        store.load(SOURCE, start=day, end=following)
        for view in registry.views:
            store.materialize(view.name, start=day, end=following)
        day = following
