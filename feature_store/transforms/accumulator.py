"""The state of one family of stream rows: a large sorted base and a small delta."""

from collections.abc import Callable

import numpy as np

from feature_store.transforms.ordering import INT64_MIN, Bools, Ints, expand, run_starts, search_ranges
from feature_store.transforms.rowset import RowSet, concat

_MIN_DELTA = 20_000
_DELTA_SHARE = 0.03


class Accumulator:
    """Rows that are merged into as events come in, and read by entity.

    New rows go to a small delta; when that passes a few per cent of the base it is merged into it, so the cost of a
    batch hardly depends on how much is kept.
    """

    __slots__ = ("_base", "_cutoff_us", "_delta", "_merge", "_per_time")

    def __init__(self, merge: Callable[[RowSet], RowSet], *, per_time: bool = False) -> None:
        """Start empty.

        Args:
            merge: makes sorted, merged rows of rows in any order; associative and commutative.
            per_time: rows merge only with rows of equal (entity, time), as tiles do, and not across an entity.
        """
        self._merge = merge
        self._per_time = per_time
        self._base: RowSet | None = None
        self._delta: RowSet | None = None
        self._cutoff_us = INT64_MIN

    def __len__(self) -> int:
        """Return the number of rows kept, before the delta's are merged into the base's."""
        return sum(len(rows) for rows in (self._base, self._delta) if rows is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays kept."""
        return sum(rows.nbytes for rows in (self._base, self._delta) if rows is not None)

    def add(self, rows: RowSet) -> None:
        """Merge rows in. They come in any order, with the same columns each time."""
        rows = self._merge(rows)
        if self._base is None or self._delta is None:
            self._base, self._delta = rows, rows.take(slice(0, 0))
            return
        self._delta = self._combine(self._delta, rows)
        if len(self._delta) > max(_MIN_DELTA, int(_DELTA_SHARE * len(self._base))):
            self._base = self._kept(self._combine(self._base, self._delta))
            self._delta = self._delta.take(slice(0, 0))

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
        if self._base is None or self._delta is None:
            raise LookupError("`gather` needs rows to have been added, got none")
        base, delta = (rows.take(_rows_of(rows, entities)) for rows in (self._base, self._delta))
        return self._kept(self._combine(base, delta))

    def _combine(self, large: RowSet, small: RowSet) -> RowSet:
        """Merge two sorted row sets, calling `merge` for the few rows that can meet only."""
        if len(small) == 0:
            return large
        if len(large) == 0:
            return small
        meets = self._meeting(large, small)
        if len(meets) == 0:
            return _interleave(large, small)
        small = self._merge(concat([large.take(meets), small]))
        return _interleave(large.take(_complement(meets, len(large))), small)

    def _meeting(self, large: RowSet, small: RowSet) -> Ints:
        """Return the rows of `large` that may merge with one of `small`."""
        if not self._per_time:
            return _rows_of(large, small.entity[run_starts(small.entity)])
        at = _positions(large, small)
        at = at[at < len(large)] if len(at) and at[-1] >= len(large) else at
        matches = small.take(slice(0, len(at)))
        equal: Bools = (large.entity[at] == matches.entity) & (large.time[at] == matches.time)
        return at[equal]

    def _kept(self, rows: RowSet) -> RowSet:
        old = rows.time < self._cutoff_us
        return rows.take(np.flatnonzero(~old)) if old.any() else rows


def _rows_of(rows: RowSet, entities: Ints) -> Ints:
    """Return the positions of all rows of ascending entities."""
    index, _ = expand(np.searchsorted(rows.entity, entities), np.searchsorted(rows.entity, entities, side="right"))
    return index


def _positions(large: RowSet, small: RowSet) -> Ints:
    """Return where each row of `small` would stand in `large`, before its equals."""
    starts = run_starts(small.entity)
    entities = small.entity[starts]
    sizes = np.diff(starts, append=len(small))
    lo = np.repeat(np.searchsorted(large.entity, entities), sizes)
    hi = np.repeat(np.searchsorted(large.entity, entities, side="right"), sizes)
    return search_ranges(large.time, lo, hi, target=small.time)


def _complement(positions: Ints, size: int) -> Ints:
    keep = np.ones(size, dtype=np.bool_)
    keep[positions] = False
    return np.flatnonzero(keep)


def _interleave(large: RowSet, small: RowSet) -> RowSet:
    """Return the rows of two sorted row sets in order, without merging any."""
    at = _positions(large, small)
    index = np.insert(np.arange(len(large), dtype=np.int64), at, len(large) + np.arange(len(small), dtype=np.int64))
    return concat([large, small]).take(index)
