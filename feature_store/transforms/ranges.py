"""Reductions of a column over many ranges of rows at once: sums, extrema, first, last and last-n valid rows."""

import numpy as np

from feature_store.transforms.ordering import Bools, Column, Ints

_BLOCK = 32


class Prefix:
    """Prefix sums of an int64 (or bool) column. They may wrap: a difference is right modulo 2**64 all the same."""

    __slots__ = ("_sums",)

    def __init__(self, column: Column) -> None:
        self._sums = np.zeros(len(column) + 1, dtype=np.int64)
        np.cumsum(column, dtype=np.int64, out=self._sums[1:])

    def sum(self, lo: Ints, hi: Ints) -> Ints:
        """Return the sum over each [lo, hi), 0 where it is empty."""
        return self._sums[np.maximum(lo, hi)] - self._sums[lo]


class Extrema:
    """Minima or maxima of ranges: whole blocks by a sparse table, the ragged ends by `reduceat`.

    The cost per range does not depend on its length, so a hot entity costs what the others do. The table takes half
    the memory of the column (Bender and Farach-Colton, The LCA problem revisited, 2000, on blocks).
    """

    __slots__ = ("_column", "_levels", "_ufunc")

    def __init__(self, column: Column, *, largest: bool) -> None:
        self._column = column
        self._ufunc = np.maximum if largest else np.minimum
        whole = len(column) // _BLOCK
        blocks = np.arange(whole, dtype=np.int64) * _BLOCK
        first = self._ufunc.reduceat(column[: whole * _BLOCK], blocks) if whole else column[:0]
        self._levels = [first]

    def reduce(self, lo: Ints, hi: Ints, *, identity: float) -> Column:
        """Return the extreme over each [lo, hi), `identity` where it is empty. Fastest where `lo` ascends."""
        result = np.full(len(lo), identity, dtype=self._column.dtype)
        if len(self._column) == 0:
            return result
        hi = np.maximum(lo, hi)
        inner_lo, inner_hi = -(-lo // _BLOCK), hi // _BLOCK
        split = inner_lo <= inner_hi
        self._reduce_ends(result, lo, hi=np.where(split, inner_lo * _BLOCK, hi))
        self._reduce_ends(result, np.where(split, inner_hi * _BLOCK, hi), hi=hi)
        self._reduce_blocks(result, inner_lo, hi=inner_hi)
        return result

    def _reduce_ends(self, result: Column, lo: Ints, *, hi: Ints) -> None:
        """Reduce short ranges. The gaps between them are read too, so they must ascend."""
        single = np.flatnonzero(hi - lo == 1)
        result[single] = self._ufunc(result[single], self._column[lo[single]])
        at = np.flatnonzero(hi - lo > 1)
        if len(at) == 0:
            return
        if (lo[at[1:]] < lo[at[:-1]]).any():
            at = at[np.argsort(lo[at])]
        pairs = np.empty(2 * len(at), dtype=np.int64)
        # `reduceat` refuses the end of the column as an index: the last row is reduced on its own.
        last = len(self._column) - 1
        pairs[::2], pairs[1::2] = lo[at], np.minimum(hi[at], last)
        found = self._ufunc.reduceat(self._column, pairs)[::2]
        found = np.where(hi[at] > last, self._ufunc(found, self._column[last]), found)
        result[at] = self._ufunc(result[at], found)

    def _reduce_blocks(self, result: Column, lo: Ints, *, hi: Ints) -> None:
        at = np.flatnonzero(lo < hi)
        if len(at) == 0:
            return
        lo, hi = lo[at], hi[at]
        level = np.frexp((hi - lo).astype(np.float64))[1] - 1
        for number in np.unique(level):
            here = np.flatnonzero(level == number)
            table = self._level(int(number))
            found = self._ufunc(table[lo[here]], table[hi[here] - (1 << int(number))])
            result[at[here]] = self._ufunc(result[at[here]], found)

    def _level(self, number: int) -> Column:
        """Return the extrema of 2**number blocks from each block on."""
        while len(self._levels) <= number:
            below, half = self._levels[-1], 1 << (len(self._levels) - 1)
            self._levels.append(self._ufunc(below[:-half], below[half:]))
        return self._levels[number]


class Valid:
    """Which rows of a column hold a value: the first, the last, the last n of each range."""

    __slots__ = ("_before", "_rows")

    def __init__(self, valid: Bools) -> None:
        self._rows = np.flatnonzero(valid).astype(np.int64, copy=False)
        self._before = np.zeros(len(valid) + 1, dtype=np.int64)
        np.cumsum(valid, out=self._before[1:])

    def first(self, lo: Ints, hi: Ints) -> Ints:
        """Return the first valid row of each [lo, hi), or -1."""
        low, high = self._before[lo], self._before[np.maximum(lo, hi)]
        return self._row(low, low < high)

    def last(self, lo: Ints, hi: Ints) -> Ints:
        """Return the last valid row of each [lo, hi), or -1."""
        low, high = self._before[lo], self._before[np.maximum(lo, hi)]
        return self._row(high - 1, low < high)

    def last_n(self, lo: Ints, hi: Ints, *, n: int) -> Ints:
        """Return the last n valid rows of each [lo, hi), oldest first, as int64[q, n] filled up with -1 at the end."""
        low, high = self._before[lo], self._before[np.maximum(lo, hi)]
        place = np.maximum(low, high - n)[:, None] + np.arange(n)
        return self._row(place, place < high[:, None])

    def _row(self, place: Ints, exists: Bools) -> Ints:
        if len(self._rows) == 0:
            return np.full(place.shape, -1, dtype=np.int64)
        return np.where(exists, self._rows[np.where(exists, place, 0)], -1)
