"""Sorting, searching and grouping of columns that are ordered by (entity, time). Pure array functions."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Column: TypeAlias = NDArray[np.generic]

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


def is_sorted(entity: Ints, time: Ints) -> bool:
    """Whether the pairs (entity, time) never go down."""
    step = entity[1:] > entity[:-1]
    step |= (entity[1:] == entity[:-1]) & (time[1:] >= time[:-1])
    return bool(step.all())


def order_by(entity: Ints, time: Ints, *, tie: Column | None = None) -> Ints:
    """Return the stable order of rows by (entity, time), and by `tie` (text, say) where those are equal."""
    order = _order_by_pair(entity, time)
    if tie is None or len(order) < 2:
        return order
    sorted_entity, sorted_time = entity[order], time[order]
    equal = (sorted_entity[1:] == sorted_entity[:-1]) & (sorted_time[1:] == sorted_time[:-1])
    if equal.any():
        group = np.concatenate(([0], np.cumsum(~equal)))
        tied = np.flatnonzero(np.concatenate(([False], equal)) | np.concatenate((equal, [False])))
        order[tied] = order[tied[np.lexsort((text_ranks(tie[order[tied]]), group[tied]))]]
    return order


def _order_by_pair(entity: Ints, time: Ints) -> Ints:
    if is_sorted(entity, time):
        return np.arange(len(entity), dtype=np.int64)
    key = pack(entity, time)
    if key is None:
        return np.lexsort((time, entity)).astype(np.int64, copy=False)
    return np.argsort(key, kind="stable").astype(np.int64, copy=False)


def pack(major: Ints, minor: Ints) -> Ints | None:
    """Return one int64 per pair that sorts as (major, minor) does, or None where that does not fit."""
    if len(major) == 0:
        return np.zeros(0, dtype=np.int64)
    low, least = int(major.min()), int(minor.min())
    span = int(minor.max()) - least + 1
    if (int(major.max()) - low + 1) * span > INT64_MAX:
        return None
    key = major - low
    key *= span
    key += minor
    key -= least
    return key


def text_ranks(values: Column) -> Ints:
    """Return the rank of each value among the distinct ones, by Python's (for text: code point, so UTF-8) order."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64, copy=False).ravel()


def codes(values: Column) -> Ints:
    """Return an int64 per value, equal for equal values. Unequal objects may share a code: compare neighbours."""
    if values.dtype == np.object_:
        return np.fromiter(map(hash, values), dtype=np.int64, count=len(values))
    if values.dtype.kind == "f":
        return (values.astype(np.float64) + 0.0).view(np.int64)  # + 0.0: minus zero equals zero
    return values.view(np.int64) if values.dtype.kind in "mM" else values.astype(np.int64)


def group_equal(entity: Ints, values: Column) -> tuple[Ints, Bools]:
    """Return an order that puts rows of equal entity and value together, and whether each equals its forerunner.

    The order is stable; the marks are one fewer than the rows.
    """
    code = codes(values)
    key = pack(entity, code)
    order = np.lexsort((code, entity)) if key is None else np.argsort(key, kind="stable")
    order = order.astype(np.int64, copy=False)
    if values.dtype == np.object_:
        order = _part_collisions(order, entity, code=code, values=values)
    same = (entity[order[1:]] == entity[order[:-1]]) & (code[order[1:]] == code[order[:-1]])
    if values.dtype == np.object_:
        same &= values[order[1:]] == values[order[:-1]]
    return order, same


def _part_collisions(order: Ints, entity: Ints, *, code: Ints, values: Column) -> Ints:
    """Put equal objects next to each other also where unequal ones of an entity hash alike."""
    near = (entity[order[1:]] == entity[order[:-1]]) & (code[order[1:]] == code[order[:-1]])
    if not (near & (values[order[1:]] != values[order[:-1]])).any():
        return order
    seen: dict[object, int] = {}
    number = np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)
    return np.lexsort((number, code, entity)).astype(np.int64, copy=False)


def run_starts(*sorted_columns: Ints) -> Ints:
    """Return where runs of equal rows start, in columns that keep equal rows together."""
    size = len(sorted_columns[0])
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    change = np.zeros(size, dtype=np.bool_)
    change[0] = True
    for column in sorted_columns:
        change[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(change).astype(np.int64, copy=False)


def spread_starts(entity: Ints) -> Ints:
    """Return per row the first row of its entity; equal entities stand together."""
    starts = run_starts(entity)
    return np.repeat(starts, np.diff(starts, append=len(entity)))


def sizes(lo: Ints, hi: Ints) -> Ints:
    """Return the number of rows of each range [lo, hi)."""
    size: Ints = np.maximum(hi - lo, 0)
    return size


def expand(lo: Ints, hi: Ints) -> tuple[Ints, Ints]:
    """Return every index of the ranges [lo, hi), range after range, and the ordinal of the range of each."""
    size = sizes(lo, hi)
    owner = np.repeat(np.arange(len(lo), dtype=np.int64), size)
    before = np.cumsum(size) - size
    index = np.arange(len(owner), dtype=np.int64)
    index += (lo - before)[owner]
    return index, owner


def search_ranges(values: Ints, lo: Ints, hi: Ints, *, target: Ints) -> Ints:
    """Return per range [lo, hi) of ascending `values` the first index whose value is >= target, else hi.

    The cost is that of the longest range's binary search, whatever the number of values.
    """
    lo, hi = lo.copy(), np.maximum(lo, hi)
    if len(values) == 0:
        return lo
    active = np.flatnonzero(lo < hi)
    while len(active):
        low, high = lo[active], hi[active]
        middle = (low + high) >> 1
        less = values[middle] < target[active]
        lo[active] = np.where(less, middle + 1, low)
        hi[active] = np.where(less, high, middle)
        active = active[lo[active] < hi[active]]
    return lo
