"""The rows a view's windows are computed from, in families that merge alike.

Tiles hold the partials with one slot a tile. Values that merge as sets or lists (`count_distinct`, `last_n`) are rows
of their own. In history every event is a tile of its own, so one family serves every hop; the stream keeps a family
of tiles per hop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from feature_store.transforms.catalogue import Array, Ints
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.plan import FeaturePlan, PartialColumn, WindowPlan
from feature_store.transforms.project import EVENTS, ID, NO_TIME, TIME, to_numpy
from feature_store.transforms.rowset import Merge, RowSet

if TYPE_CHECKING:
    import pyarrow as pa

LIFETIME = 0
"""Stands for the hop of lifetime windows, which have no tail: one tile for all time."""


class Families(Protocol):
    """Where a feature's rows are."""

    @property
    def unique(self) -> bool:
        """True if no value stands twice for an entity in the rows of `count_distinct`."""

    def tiles(self, hop_us: int) -> RangeIndex:
        """The tiles of a hop (`LIFETIME` for lifetimes)."""

    def values(self, column: PartialColumn, hop_us: int) -> RangeIndex:
        """The rows of a set or list column: `value`, and `id` for `last_n`."""


def state_hop_us(plan: FeaturePlan) -> int:
    """The hop under which the stream keeps a feature's rows."""
    return LIFETIME if plan.feature.window_us is None else plan.feature.hop_us


def index_of(plan: FeaturePlan, families: Families) -> RangeIndex:
    """The rows that a feature is computed from."""
    for column in plan.columns.values():
        if not column.in_tiles:
            return families.values(column, state_hop_us(plan))
    return families.tiles(state_hop_us(plan))


class History:
    """Families of single events: any window at any time, before or after any event."""

    unique = False

    def __init__(self, rows: RowSet) -> None:
        """`rows` as `event_rows` makes them."""
        self._tiles = RangeIndex(rows)
        self._values: dict[str, RangeIndex] = {}

    @property
    def rows(self) -> RowSet:
        """The events, sorted by (entity, time, event id)."""
        return self._tiles.rows

    def tiles(self, hop_us: int) -> RangeIndex:
        """The events themselves."""
        del hop_us
        return self._tiles

    def values(self, column: PartialColumn, hop_us: int) -> RangeIndex:
        """The events that have a value."""
        del hop_us
        if column.name not in self._values:
            self._values[column.name] = RangeIndex(valued_rows(self._tiles.rows, column))
        return self._values[column.name]


def event_rows(plan: WindowPlan, projected: pa.Table, entity: Ints, *, is_sorted: bool = False) -> RowSet:
    """Rows of one view from its projection (`project_sql`), one per event; or per tile, which says how many `events` it has.

    Args:
        plan: the view.
        projected: at least the event time, the event id and the partial columns.
        entity: int64[n], a number per row that tells entities apart.
        is_sorted: the rows are already sorted by (entity, time, event id).
    """
    time = projected.column(TIME).to_numpy()
    columns: dict[str, Array] = {}
    if EVENTS in projected.column_names:
        columns[EVENTS] = projected.column(EVENTS).to_numpy()
    for column in plan.columns:
        columns |= _event_columns(column, projected.column(column.name), time)
    if is_sorted:
        return RowSet(entity=entity, time=time, columns=columns)
    columns[ID] = to_numpy(projected.column(ID), "str")[0]
    return RowSet.sorted_from(entity, time, columns=columns, tie=columns[ID])


def _event_columns(column: PartialColumn, data: pa.ChunkedArray, time: Ints) -> Mapping[str, Array]:
    values, valid = to_numpy(data, column.kind)
    if column.merge in NO_TIME:
        return {column.name: values, f"{column.name}__t": np.where(valid, time, NO_TIME[column.merge])}
    if not column.in_tiles:
        return {column.name: values, f"{column.name}__valid": valid}
    return {column.name: values}


def valued_rows(rows: RowSet, column: PartialColumn) -> RowSet:
    """The events that have a value in a set or list column, as rows with `value` (and `id`, if the events have one)."""
    chosen = np.flatnonzero(rows.columns[f"{column.name}__valid"])
    columns = {"value": rows.columns[column.name][chosen]}
    if column.merge is Merge.LAST_N and ID in rows.columns:
        columns["id"] = rows.columns[ID][chosen]
    return RowSet(entity=rows.entity[chosen], time=rows.time[chosen], columns=columns)
