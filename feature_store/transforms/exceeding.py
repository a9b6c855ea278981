"""Which rows of many ranges exceed a bound: a tree that is walked for all ranges at once."""

import numpy as np

from feature_store.transforms.ordering import Ints, expand, sizes

_FAN_OUT_BITS = 5


class Exceeding:
    """The extremes of an int64 column over blocks of 32, 1024, ... rows."""

    __slots__ = ("_largest", "_smallest")

    def __init__(self, values: Ints) -> None:
        self._largest, self._smallest = [values], [values]
        while len(self._largest[-1]) > 1:
            blocks = np.arange(0, len(self._largest[-1]), 1 << _FAN_OUT_BITS)
            self._largest.append(np.maximum.reduceat(self._largest[-1], blocks))
            self._smallest.append(np.minimum.reduceat(self._smallest[-1], blocks))

    def count(self, lo: Ints, hi: Ints, *, bound: Ints) -> Ints:
        """Return how many values of each range [lo, hi) are above its bound."""
        owner, start, end = self.runs(lo, hi, bound=bound)
        count = np.zeros(len(lo), dtype=np.int64)
        np.add.at(count, owner, end - start)
        return count

    def runs(self, lo: Ints, hi: Ints, *, bound: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the runs of values above the bound: their range's ordinal, start and end, all ascending.

        From the top of the tree down, blocks without such a value are left, blocks of such values are taken whole,
        and only the others are looked into.
        """
        level = min(len(self._largest) - 1, int(sizes(lo, hi).max(initial=1)).bit_length() // _FAN_OUT_BITS)
        shift = level * _FAN_OUT_BITS
        found: list[tuple[Ints, Ints, Ints]] = []
        block, owner = expand(lo >> shift, np.where(lo < hi, ((hi - 1) >> shift) + 1, lo >> shift))
        while True:
            some = np.flatnonzero(self._largest[level][block] > bound[owner])
            block, owner = block[some], owner[some]
            whole = self._smallest[level][block] > bound[owner]
            taken, by = block[whole], owner[whole]
            found.append((by, np.maximum(taken << shift, lo[by]), np.minimum((taken + 1) << shift, hi[by])))
            if level == 0:
                return _joined(found)
            block, owner = block[~whole], owner[~whole]
            level, shift = level - 1, shift - _FAN_OUT_BITS
            start = np.maximum(block << _FAN_OUT_BITS, lo[owner] >> shift)
            end = np.minimum((block + 1) << _FAN_OUT_BITS, ((hi[owner] - 1) >> shift) + 1)
            block, parent = expand(start, end)
            owner = owner[parent]


def _joined(found: list[tuple[Ints, Ints, Ints]]) -> tuple[Ints, Ints, Ints]:
    """Sort ranges (owner, start, end) and join those that touch."""
    owner, start, end = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((start, owner))
    owner, start, end = owner[order], start[order], end[order]
    apart = (owner[1:] != owner[:-1]) | (start[1:] != end[:-1])
    head, tail = np.append(True, apart)[: len(owner)], np.append(apart, True)[: len(owner)]
    return owner[head], start[head], end[tail]
