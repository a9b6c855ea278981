"""Which rows of many ranges exceed a bound: trees that are walked for all ranges at once."""

import numpy as np

from feature_store.transforms.ordering import Ints, expand, order_by, run_starts, sizes

Runs = tuple[Ints, Ints, Ints]
"""Runs of rows above the bound: their range's ordinal, start and end, in any order."""

_FAN_OUT_BITS = 5
_DELAYS_US = (1 << 24, 1 << 30, 1 << 36)
"""Where classes of delays end: about 17 s, 18 min, 19 h. Few, since each is asked for every range."""


class Exceeding:
    """The extremes of an int64 column over blocks of 32, 1024, ... rows."""

    __slots__ = ("_largest", "_smallest")

    def __init__(self, values: Ints) -> None:
        self._largest, self._smallest = [values], [values]
        while len(self._largest[-1]) > 1:
            blocks = np.arange(0, len(self._largest[-1]), 1 << _FAN_OUT_BITS)
            self._largest.append(np.maximum.reduceat(self._largest[-1], blocks))
            self._smallest.append(np.minimum.reduceat(self._smallest[-1], blocks))

    def runs(self, lo: Ints, hi: Ints, *, bound: Ints) -> Runs:
        """Return the runs of values of each range [lo, hi) above the range's bound.

        From the top of the tree down, blocks without such a value are left, blocks of such values are taken whole,
        and only the others are looked into.
        """
        level = min(len(self._largest) - 1, int(sizes(lo, hi).max(initial=1)).bit_length() // _FAN_OUT_BITS)
        shift = level * _FAN_OUT_BITS
        found: list[Runs] = []
        block, owner = expand(lo >> shift, np.where(lo < hi, ((hi - 1) >> shift) + 1, lo >> shift))
        while True:
            some = np.flatnonzero(self._largest[level][block] > bound[owner])
            block, owner = block[some], owner[some]
            whole = self._smallest[level][block] > bound[owner]
            taken, by = block[whole], owner[whole]
            found.append((by, np.maximum(taken << shift, lo[by]), np.minimum((taken + 1) << shift, hi[by])))
            if level == 0:
                owner, start, end = (np.concatenate(part) for part in zip(*found, strict=True))
                return owner, start, end
            block, owner = block[~whole], owner[~whole]
            level, shift = level - 1, shift - _FAN_OUT_BITS
            start = np.maximum(block << _FAN_OUT_BITS, lo[owner] >> shift)
            end = np.minimum((block + 1) << _FAN_OUT_BITS, ((hi[owner] - 1) >> shift) + 1)
            block, parent = expand(start, end)
            owner = owner[parent]


class ExceedingLater:
    """A column of times that mostly follow each row's own soon: a tree for each class of delays.

    One row that comes an hour late makes all blocks of an hour worth a look. By themselves, the late rows of that hour
    are few, and of the others only the last seconds matter.
    """

    __slots__ = ("_classes",)

    def __init__(self, time: Ints, values: Ints) -> None:
        """Take int64[n], the rows' own times, ascending within whatever ranges are asked for, and the column's."""
        number = np.searchsorted(_DELAYS_US, values - time)
        members = [np.flatnonzero(number == each) for each in range(len(_DELAYS_US) + 1)]
        self._classes = [_Members(rows, values) for rows in members if len(rows)]

    def runs(self, lo: Ints, hi: Ints, *, bound: Ints) -> Runs:
        """Return what `Exceeding.runs` of the column does, ascending and apart from each other."""
        return _joined([each.runs(lo, hi, bound=bound) for each in self._classes])


class _Members:
    """Some rows of a column, and a tree over them."""

    __slots__ = ("_rows", "_starts", "_stretch", "_tree")

    def __init__(self, rows: Ints, values: Ints) -> None:
        self._rows, self._tree = rows, Exceeding(values[rows])
        # Rows that stand side by side in the column too.
        self._starts = np.append(run_starts(rows - np.arange(len(rows))), len(rows))
        self._stretch = np.repeat(np.arange(len(self._starts) - 1), np.diff(self._starts))

    def runs(self, lo: Ints, hi: Ints, *, bound: Ints) -> Runs:
        """Return what the tree finds, as rows of the column."""
        lo, hi = np.searchsorted(self._rows, lo), np.searchsorted(self._rows, hi)
        owner, first, last = self._tree.runs(lo, hi, bound=bound)
        stretch, run = expand(self._stretch[first], self._stretch[last - 1] + 1)
        start = np.maximum(first[run], self._starts[stretch])
        end = np.minimum(last[run], self._starts[stretch + 1])
        return owner[run], self._rows[start], self._rows[end - 1] + 1


def _joined(found: list[Runs]) -> Runs:
    """Sort runs and join those that touch."""
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    owner, start, end = (np.concatenate(part) for part in zip(*found, strict=True))
    order = order_by(owner, start)
    owner, start, end = owner[order], start[order], end[order]
    apart = (owner[1:] != owner[:-1]) | (start[1:] != end[:-1])
    head, tail = np.append(True, apart)[: len(owner)], np.append(apart, True)[: len(owner)]
    return owner[head], start[head], end[tail]
