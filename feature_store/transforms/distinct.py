"""Counting the different values of many ranges of rows."""

import numpy as np
from numpy.typing import NDArray

from feature_store.transforms.ordering import Column, Ints, group_equal, search_ranges

_INT32_BITS = 32


def previous_same(entity: Ints, value: Column) -> Ints:
    """Return per row the last earlier row of the same entity with the same value, or -1."""
    order, same = group_equal(entity, value)
    previous = np.full(len(entity), -1, dtype=np.int64)
    previous[order[1:][same]] = order[:-1][same]
    return previous


class Groups:
    """The rows of each (entity, value), ascending."""

    __slots__ = ("_bounds", "_order", "number")

    def __init__(self, entity: Ints, value: Column) -> None:
        self._order, same = group_equal(entity, value)
        fresh = np.append(True, ~same)[: len(entity)]
        self._bounds = np.append(np.flatnonzero(fresh), len(entity)).astype(np.int64, copy=False)
        self.number: Ints = np.empty(len(entity), dtype=np.int64)
        """The group of each row, counted from 0."""
        self.number[self._order] = np.cumsum(fresh) - 1

    def count(self, number: Ints, lo: Ints, *, hi: Ints) -> Ints:
        """Return how many of the rows [lo, hi) belong to each group."""
        first, end = self._bounds[number], self._bounds[number + 1]
        return search_ranges(self._order, first, end, target=hi) - search_ranges(self._order, first, end, target=lo)


class Wavelet:
    """Wavelet matrix (Claude and Navarro, 2012): how many values of a range are below a bound, in a pass per bit.

    Values are non-negative int64. Takes a fifth of a byte per value and bit.
    """

    __slots__ = ("_bits", "_levels")

    def __init__(self, values: Ints) -> None:
        self._bits = int(values.max(initial=0)).bit_length()
        self._levels: list[_BitVector] = []
        # Two buffers serve all levels: fresh memory costs more than the arithmetic.
        current = values.astype(np.int32 if self._bits < _INT32_BITS else np.int64)
        other, ones = np.empty_like(current), np.empty(len(current), dtype=np.bool_)
        for bit in reversed(range(self._bits)):
            np.not_equal(np.bitwise_and(current, 1 << bit, out=other), 0, out=ones)
            level = _BitVector(ones)
            np.compress(ones, current, out=other[level.zeros :])
            np.compress(np.logical_not(ones, out=ones), current, out=other[: level.zeros])
            current, other = other, current
            self._levels.append(level)

    def count_below(self, lo: Ints, hi: Ints, *, bound: Ints) -> Ints:
        """Return how many values at positions [lo, hi) are < bound; `bound` is any int64 per range."""
        hi = np.maximum(lo, hi)
        size = hi - lo
        low, high = lo, hi
        count = np.zeros(len(lo), dtype=np.int64)
        for bit, level in zip(reversed(range(self._bits)), self._levels, strict=True):
            one_low, one_high = level.rank(low), level.rank(high)
            upper = (bound >> bit) & 1 == 1
            count += np.where(upper, (high - low) - (one_high - one_low), 0)
            low = np.where(upper, level.zeros + one_low, low - one_low)
            high = np.where(upper, level.zeros + one_high, high - one_high)
        count[bound <= 0] = 0
        return np.where(bound > (1 << self._bits) - 1, size, count)


class _BitVector:
    """Bits with constant-time rank: 64-bit words and the number of ones before each."""

    __slots__ = ("_before", "_words", "zeros")

    def __init__(self, ones: NDArray[np.bool_]) -> None:
        packed = np.packbits(ones, bitorder="little")
        padded = np.zeros((len(ones) // 64 + 1) * 8, dtype=np.uint8)
        padded[: len(packed)] = packed
        self._words = padded.view("<u8")
        counts = np.bitwise_count(self._words)
        self._before = np.cumsum(counts, dtype=np.int64) - counts
        self.zeros = len(ones) - int(counts.sum(dtype=np.int64))

    def rank(self, position: Ints) -> Ints:
        """Return how many ones stand before each position."""
        word = position >> 6
        below = (np.uint64(1) << (position & 63).astype(np.uint64)) - np.uint64(1)
        rank: Ints = self._before[word] + np.bitwise_count(self._words[word] & below)
        return rank
