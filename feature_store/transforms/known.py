"""Windows without the rows that were not yet visible to their query: what a served value could know."""

from functools import partial

import numpy as np

from feature_store.transforms.distinct import Groups
from feature_store.transforms.exceeding import ExceedingLater
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.ordering import INT64_MAX, Column, Ints, expand, pack, run_starts
from feature_store.transforms.ranges import Extrema, Prefix
from feature_store.transforms.rowset import RowSet

_GAP_ROWS = 4_000_000


class Visibility:
    """When each row of a row set became visible."""

    __slots__ = ("_index", "_visible")

    def __init__(self, index: RangeIndex, visible: Ints) -> None:
        """Prepare for any number of windows.

        Args:
            index: the row set.
            visible: int64[n], microseconds, one for each of its rows.
        """
        self._index = index
        self._visible = ExceedingLater(index.rows.time, visible)

    def known(self, lo: Ints, hi: Ints, *, cutoff: Ints) -> "KnownWindows":
        """Return windows [lo, hi) with only the rows visible at or before each one's cutoff (int64[q])."""
        hi = np.maximum(lo, hi)
        owner, first, last = self._visible.runs(lo, hi, bound=cutoff)
        # Each unknown range ends a run of known rows and starts the next; the window's own ends are the others.
        number = np.arange(len(lo) + 1, dtype=np.int64) + np.searchsorted(owner, np.arange(len(lo) + 1))
        at = np.arange(len(owner), dtype=np.int64) + owner
        run_lo = np.empty(len(lo) + len(owner), dtype=np.int64)
        run_hi = np.empty_like(run_lo)
        run_lo[number[:-1]], run_lo[at + 1] = lo, last
        run_hi[number[1:] - 1], run_hi[at] = hi, first
        some = run_lo < run_hi
        bounds = np.concatenate(([0], np.cumsum(some)))[number].astype(np.int64, copy=False)
        return KnownWindows(self._index, run_lo[some], run_hi=run_hi[some], bounds=bounds)


class KnownWindows:
    """Windows as runs of rows, asked as a `RangeIndex` is: window i is the runs [lo[i], hi[i])."""

    __slots__ = ("_index", "_run_hi", "_run_lo", "hi", "lo")

    def __init__(self, index: RangeIndex, run_lo: Ints, *, run_hi: Ints, bounds: Ints) -> None:
        """Take runs [run_lo, run_hi) of rows, ascending within a window, none empty.

        Args:
            index: the row set.
            run_lo: int64[r], where each run starts.
            run_hi: int64[r], where it ends.
            bounds: int64[q + 1]; window i has the runs from bounds[i] to bounds[i + 1].
        """
        self._index = index
        self._run_lo, self._run_hi = run_lo, run_hi
        self.lo, self.hi = bounds[:-1], bounds[1:]

    @property
    def rows(self) -> RowSet:
        """The rows that `first_valid`, `last_valid` and `last_n_range` point into."""
        return self._index.rows

    def count_range(self, lo: Ints, hi: Ints) -> Ints:
        """Return the number of rows of each window."""
        return Prefix(self._run_hi - self._run_lo).sum(lo, hi)

    def sum_range(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the int64 sum of a column over each window; it wraps where it overflows."""
        return Prefix(self._index.sum_range(name, self._run_lo, self._run_hi)).sum(lo, hi)

    def min_range(self, name: str, lo: Ints, hi: Ints, *, identity: float) -> Column:
        """Return the smallest value of a column over each window, `identity` where it is empty."""
        return self._extreme(name, lo, hi, identity=identity, largest=False)

    def max_range(self, name: str, lo: Ints, hi: Ints, *, identity: float) -> Column:
        """Return the largest value of a column over each window, `identity` where it is empty."""
        return self._extreme(name, lo, hi, identity=identity, largest=True)

    def _extreme(self, name: str, lo: Ints, hi: Ints, *, identity: float, largest: bool) -> Column:
        """What holds from end to end holds of the known rows too, unless a row between them is as extreme."""
        reduce = partial(self._index.max_range if largest else self._index.min_range, name, identity=identity)
        some, first, last = self._ends(lo, hi)
        result = reduce(first, last)
        gap, owner = expand(lo[some], hi[some] - 1)
        between = reduce(self._run_hi[gap], self._run_lo[gap + 1])
        equal = between >= result[owner] if largest else between <= result[owner]  # type: ignore[operator]
        again = np.unique(owner[equal])
        run, by = expand(lo[some][again], hi[some][again])
        found = reduce(self._run_lo[run], self._run_hi[run])
        starts = np.searchsorted(by, np.arange(len(again)))
        if len(again):
            result[again] = (np.maximum if largest else np.minimum).reduceat(found, starts)
        full = np.full(len(lo), identity, dtype=result.dtype)
        full[some] = result
        return full

    def _ends(self, lo: Ints, hi: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the windows that are not empty, their first row and where they end."""
        some = np.flatnonzero(lo < hi)
        return some, self._run_lo[lo[some]], self._run_hi[hi[some] - 1]

    def first_valid(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the first row of each window that has a value, or -1."""
        rows = self._index.first_valid(name, self._run_lo, self._run_hi)
        rows[rows < 0] = INT64_MAX
        found = Extrema(rows, largest=False).reduce(lo, hi, identity=INT64_MAX).astype(np.int64, copy=False)
        found[found == INT64_MAX] = -1
        return found

    def last_valid(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the last row of each window that has a value, or -1."""
        rows = self._index.last_valid(name, self._run_lo, self._run_hi)
        return Extrema(rows, largest=True).reduce(lo, hi, identity=-1).astype(np.int64, copy=False)

    def last_n_range(self, name: str | None, lo: Ints, hi: Ints, *, n: int) -> Ints:
        """Return the last n rows with a value of each window, oldest first: int64[q, n] ending in -1 where fewer."""
        rows = self._index.last_n_range(name, self._run_lo, self._run_hi, n=n)
        held = rows >= 0
        before = np.concatenate(([0], np.cumsum(held.sum(axis=1))))
        low, high = before[lo], before[np.maximum(lo, hi)]
        place = np.maximum(low, high - n)[:, None] + np.arange(n)
        flat = np.append(rows[held], -1)
        return flat[np.where(place < high[:, None], place, -1)]

    def distinct_range(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return how many different values each window holds. Every row counts: leave out those without a value."""
        some, first, last = self._ends(lo, hi)
        counts = np.zeros(len(lo), dtype=np.int64)
        counts[some] = self._index.distinct_range(name, first, last)
        gap, owner = expand(lo[some], hi[some] - 1)
        if len(gap):
            counts[some] -= self._only_in_gaps(name, gap, owner=owner, first=first, last=last)
        return counts

    def _only_in_gaps(self, name: str, gap: Ints, *, owner: Ints, first: Ints, last: Ints) -> Ints:
        """Return how many values of the rows [first, last) of each window stand between its runs and nowhere else."""
        groups = self._index.groups(name)
        lost = np.zeros(len(first), dtype=np.int64)
        rows_until = np.cumsum(self._run_lo[gap + 1] - self._run_hi[gap])
        begin = 0
        while begin < len(gap):
            end = int(np.searchsorted(rows_until, rows_until[begin] + _GAP_ROWS, side="right"))
            end = int(np.searchsorted(owner, owner[end - 1], side="right"))  # a window's gaps stay together
            row, at = expand(self._run_hi[gap[begin:end]], self._run_lo[gap[begin:end] + 1])
            lost += _lost(groups, row, owner=owner[begin:end][at], first=first, last=last)
            begin = end
        return lost


def _lost(groups: Groups, row: Ints, *, owner: Ints, first: Ints, last: Ints) -> Ints:
    """Return per window how many values have all their rows of [first, last) among these rows."""
    number = groups.number[row]
    order = np.lexsort((number, owner)) if (key := pack(owner, number)) is None else np.argsort(key)
    starts = run_starts(owner[order], number[order])
    unknown = np.diff(starts, append=len(order))
    by, value = owner[order[starts]], number[order[starts]]
    held = groups.count(value, first[by], hi=last[by])
    return np.bincount(by[held == unknown], minlength=len(first)).astype(np.int64, copy=False)
