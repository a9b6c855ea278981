"""The state of one family of stream rows: sorted row sets, each a fraction of the one before."""

from collections.abc import Callable

import numpy as np

from feature_store.transforms.locate import Segments
from feature_store.transforms.ordering import INT64_MIN, Bools, Ints, expand, run_starts
from feature_store.transforms.rowset import RowSet, concat

_SMALLEST = 5000
_FACTOR = 8


class Accumulator:
    """Rows that are merged into as events come in, and read by entity.

    Kept as levels, a large one first; one that passes an eighth of the level above is merged into it (a log-structured
    merge tree: O'Neil et al., 1996), so what a batch costs hardly depends on how much is kept.
    """

    __slots__ = ("_cutoff_us", "_levels", "_merge", "_per_time")

    def __init__(self, merge: Callable[[RowSet], RowSet], *, per_time: bool = False) -> None:
        """Start empty.

        Args:
            merge: makes sorted, merged rows of rows in any order; associative and commutative.
            per_time: rows merge only with rows of equal (entity, time), as tiles do, and not across an entity.
        """
        self._merge = merge
        self._per_time = per_time
        self._levels: list[_Level] = []
        self._cutoff_us = INT64_MIN

    def __len__(self) -> int:
        """Return the number of rows kept, before levels are merged and old rows forgotten."""
        return sum(len(level.rows) for level in self._levels)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays kept."""
        return sum(level.rows.nbytes for level in self._levels)

    def add(self, rows: RowSet) -> None:
        """Merge rows in. They come in any order, with the same columns each time."""
        rows = self._merge(rows)
        levels = self._levels
        while levels and (len(levels[-1].rows) < _SMALLEST or len(rows) * _FACTOR > len(levels[-1].rows)):
            rows = self._combine(levels.pop(), rows, entities=None)
        if not levels:
            rows = self._kept(rows)
        levels.append(_Level(rows))

    def drop_before(self, cutoff_us: int) -> None:
        """Forget the rows with a time before the cutoff: at once for readers, their memory at the next rebuild."""
        self._cutoff_us = max(self._cutoff_us, cutoff_us)

    def gather(self, entities: Ints) -> RowSet:
        """Return all rows of these entities, merged and sorted.

        Args:
            entities: int64, ascending, no duplicates. Those without rows are passed over.

        Raises:
            LookupError: when nothing was ever added, so that the columns are not known.
        """
        if not self._levels:
            raise LookupError("`gather` needs rows to have been added, got none")
        *larger, smallest = self._levels
        found = smallest.rows.take(smallest.rows_of(entities))
        for level in reversed(larger):
            found = self._combine(level, found, entities=entities)
        return self._kept(found)

    def _combine(self, large: "_Level", small: RowSet, *, entities: Ints | None) -> RowSet:
        """Merge the sorted `small` into the rows of these (or all) entities; `merge` sees only those that can meet."""
        within = np.arange(len(large.rows), dtype=np.int64) if entities is None else large.rows_of(entities)
        if len(small) == 0 or len(within) == 0:
            return large.rows.take(within) if len(small) == 0 else small
        meets = large.equal_to(small) if self._per_time else large.rows_of(small.entity[run_starts(small.entity)])
        if len(meets):
            small = self._merge(concat([large.rows.take(meets), small]))
            stays = np.ones(len(within), dtype=np.bool_)
            stays[np.searchsorted(within, meets)] = False
            within = np.compress(stays, within)
        return large.interleave(small, within=within)

    def _kept(self, rows: RowSet) -> RowSet:
        old = rows.time < self._cutoff_us
        return rows.take(np.flatnonzero(~old)) if old.any() else rows


class _Level:
    """Sorted rows and where each entity's stand."""

    __slots__ = ("_segments", "rows")

    def __init__(self, rows: RowSet) -> None:
        self.rows = rows
        self._segments = Segments(rows)

    def rows_of(self, entities: Ints) -> Ints:
        """Return the positions of all rows of ascending entities."""
        return expand(*self._segments.span(entities))[0]

    def equal_to(self, small: RowSet) -> Ints:
        """Return the positions of the rows that have the (entity, time) of one of `small`."""
        at = self._segments.locate(small.entity, small.time)
        there = np.minimum(at, len(self.rows) - 1)
        equal: Bools = (self.rows.entity[there] == small.entity) & (self.rows.time[there] == small.time)
        return at[equal]

    def interleave(self, small: RowSet, *, within: Ints) -> RowSet:
        """Return the rows `within` of this level and those of `small` in order, none merged: one copy per column."""
        if len(within) == 0:
            return small
        new = np.searchsorted(within, self._segments.locate(small.entity, small.time)) + np.arange(len(small))
        is_old = np.ones(len(within) + len(small), dtype=np.bool_)
        is_old[new] = False
        rows = self.rows.take(within.take(np.cumsum(is_old) - 1, mode="clip"))
        rows.entity[new], rows.time[new] = small.entity, small.time
        for name, column in rows.columns.items():
            column[new] = small.columns[name]
        return rows
