"""Values as a training set has them: the very code of `get_historical_features`, over a lake in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from feature_store.history.conform import conform
from feature_store.history.rows import materialize_rows
from feature_store.history.training import get_historical_features
from feature_store.lake.memory import MemoryLake
from feature_store.status import Status
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.project import ARRIVED, ID, TIME

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.testing.events import Given
    from feature_store.testing.mismatch import Found
    from feature_store.transforms.compiled import Compiled

_ARRIVAL, _TIME = "_replay_arrived", "_replay_time"


class HistoryPath:
    """The history of a replay, loaded and checked as a source's history is."""

    def __init__(self, compiled: Compiled, given: Mapping[str, Given]) -> None:
        self._compiled = compiled
        self._lake = MemoryLake()
        for name, events in given.items():
            self._lake.load(name, _conformed(events, compiled.schemas[name]))

    def accepted(self, source: str) -> pa.Table:
        """The events that were taken, by id: the source's columns, `_event_id`, `_event_us`, `_arrived_us`."""
        columns = ", ".join(f'"{name}"' for name in [*self._compiled.schemas[source].names, ID, TIME, ARRIVED])
        with self._lake.cursor() as cursor:
            events = self._lake.events_sql(source)
            return cursor.execute(f"SELECT {columns} FROM ({events}) ORDER BY {ID}").to_arrow_table()

    def values(
        self,
        service: FeatureService,
        views: Sequence[FeatureView],
        *,
        keys: Mapping[str, pa.Array],
        time_us: int,
    ) -> list[Found]:
        """The features of a service for one entity at a time; batch rows are built from what had arrived by then."""
        lake = cast("Lake", self._lake)
        with self._lake.arrived_by(time_us):
            for view in views:
                if view.is_batch:
                    step_us = time_us // view.every_us * view.every_us
                    day = from_us((step_us - 1) // DAY_US * DAY_US).date()
                    materialize_rows(self._compiled, lake, view, days=[day], now_us=time_us)
        spine = pa.table({**keys, _TIME: pa.array([time_us], type=pa.timestamp("us", tz="UTC"))})
        found = get_historical_features(
            self._compiled, lake, spine, service, time_column=_TIME, statuses=True, allow_incomplete=True
        )
        first = found.table.to_pylist()[0]
        return [(first[name], Status(first[f"{name}__status"])) for name in found.feature_columns]


def _conformed(given: Given, schema: pa.Schema) -> pa.Table:
    arrived = pa.array(given.arrived_us, type=pa.timestamp("us", tz="UTC"))
    return conform(given.source, given.rows.append_column(_ARRIVAL, arrived), schema=schema, arrival=_ARRIVAL).events
