"""The newest events of each entity, kept apart from what they will be merged into: without them the value before them is
still there, so that an event can be scored that counts already.

A row stays here until a newer one of its entity comes. Rows of one moment stay together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feature_store.fold.split import ViewRows
from feature_store.transforms.accumulator import Accumulator
from feature_store.transforms.catalogue import Array, Ints
from feature_store.transforms.plan import PartialColumn, ViewPlan
from feature_store.transforms.project import ID, KEY, TIME, project_sql
from feature_store.transforms.rowset import RowSet, concat

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_ID, _VALID = "event_id", "__valid"


class OwnEvents:
    """The newest rows of each entity of a view."""

    def __init__(self, columns: tuple[PartialColumn, ...]) -> None:
        self._columns = [column.name for column in columns]
        self._rows = Accumulator(_newest)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows kept."""
        return self._rows.nbytes

    def exchange(self, entity: Ints, rows: ViewRows, *, newest_us: Ints) -> tuple[Ints, ViewRows]:
        """Keep those of the rows that are the newest of their entities; return the others, and what they replace.

        Args:
            entity: of each row.
            rows: events.
            newest_us: by entity, the time of its newest event, these included.
        """
        columns: dict[str, Array] = {_ID: rows.event_id}
        for name in self._columns:
            columns[name], columns[f"{name}{_VALID}"] = rows.columns[name]
        new = RowSet(entity=entity, time=rows.time, columns=columns)
        both = concat([self.of(np.unique(entity)), new]) if len(self._rows) else new
        self._rows.add(new.take(np.flatnonzero(new.time == newest_us[entity])))
        return self.as_events(both.take(np.flatnonzero(both.time != newest_us[both.entity])))

    def of(self, entities: Ints) -> RowSet:
        """The rows of some entities (ascending numbers)."""
        return self._rows.gather(entities)

    def as_events(self, rows: RowSet) -> tuple[Ints, ViewRows]:
        """Rows kept here as the events that they were, and their entities."""
        columns = {name: (rows.columns[name], rows.columns[f"{name}{_VALID}"]) for name in self._columns}
        events = ViewRows(keys=(), key=rows.entity, time=rows.time, event_id=rows.columns[_ID], columns=columns)
        return rows.entity, events

    def drop_before(self, cutoff_us: int) -> None:
        """Forget rows that no window holds any more."""
        self._rows.drop_before(cutoff_us)


def newest_events(cursor: duckdb.DuckDBPyConnection, plan: ViewPlan, events: str) -> pa.Table:
    """The newest events of each entity, which the view keeps apart; the table `own` has their ids.

    `events` is SQL: those of the days that are not built. Of an entity whose newest event lies in a day that is built, there is none: what its value was before is not known.
    """
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE own AS SELECT {ID} FROM ({project_sql(plan, events)}) "
        f"WHERE {KEY} IS NOT NULL QUALIFY {TIME} = max({TIME}) OVER (PARTITION BY {KEY})"
    )
    found: pa.Table = cursor.execute(f"SELECT * FROM ({events}) WHERE {ID} IN (SELECT {ID} FROM own)").to_arrow_table()
    return found


def _newest(rows: RowSet) -> RowSet:
    """The rows of each entity's latest time, sorted."""
    rows = RowSet.sorted_from(rows.entity, rows.time, columns=rows.columns)
    if not len(rows):
        return rows
    ends = np.append(np.flatnonzero(np.diff(rows.entity)), len(rows) - 1)
    latest = np.repeat(rows.time[ends], np.diff(ends, prepend=-1))
    kept = rows.time == latest
    return rows if kept.all() else rows.take(np.flatnonzero(kept))
