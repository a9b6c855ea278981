"""A reader of the lake: whether it ever sees a part of a day that somebody is building anew."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from chaos.declared import HISTORY, SOURCE
from feature_store.errors import LakeError
from feature_store.lake import Lake, LakeLocation

if TYPE_CHECKING:
    from chaos.stack import Stack

LOOK_S = 0.5
TABLES = (f"events_{SOURCE}_loaded", "tiles_spending_v1", "tiles_shops_v1")

Sizes = Mapping[tuple[str, object], int]
"""(table, day) -> rows."""


@dataclass(slots=True)
class PartitionWatch:
    """Looks at the past days while they are built again: each is there, with no fewer rows than it began with."""

    stack: Stack
    partial: list[str] = field(default_factory=list)
    looks: int = 0
    _least: Sizes = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from now on; all days are whole now."""
        self._least = sizes(self.stack.store.lake)
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _look_on(self) -> None:
        settings, clock = self.stack.place.settings, self.stack.store.clock
        with Lake.open(LakeLocation.of(settings), env=settings.environment, clock=clock, threads=1) as lake:
            while not self._stop.wait(LOOK_S):
                try:
                    found = sizes(lake)
                except (LakeError, duckdb.IOException):
                    continue  # locked or full: nothing was seen
                self.looks += 1
                for place, least in self._least.items():
                    if found.get(place, 0) < least:
                        self.partial.append(f"{place} had {found.get(place, 0)} of at least {least} rows")


def sizes(lake: Lake) -> Sizes:
    """How many rows each past day has, in one look at everything."""
    begin, end = HISTORY
    parts = [
        f"SELECT '{table}' AS name, _day, count(*) FROM {lake.table_sql(table)} "
        f"WHERE _day >= DATE '{begin:%Y-%m-%d}' AND _day < DATE '{end:%Y-%m-%d}' GROUP BY ALL"
        for table in TABLES
    ]
    with lake.reading() as cursor:
        return {(name, day): count for name, day, count in cursor.execute(" UNION ALL ".join(parts)).fetchall()}
