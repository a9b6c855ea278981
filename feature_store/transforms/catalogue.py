"""The aggregates as data: what an event contributes, how contributions merge, what a window then says.

Adding an aggregate is adding a row to `CATALOGUE`; batch SQL, stream state, windows, online values, laws and
documents follow from it.

Sums are sums of integers and therefore exact: a DECIMAL counts in units of its last digit, a float is rounded once to
2^-20, and every sum is kept as two limbs (`hi * 2^32 + lo`, squares as four), so nothing depends on order or batching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.status import Status
from feature_store.transforms.rowset import Merge

Array = NDArray[np.generic]
Ints = NDArray[np.int64]
Parts = Mapping[str, Array]

FLOAT_SCALE = 1 << 20
LIMB = 32
LIMB_MASK = (1 << LIMB) - 1


@dataclass(frozen=True, slots=True)
class Values:
    """One feature for many queries: `values[i]` counts only where `status[i]` is PRESENT or EMPTY."""

    values: Array
    status: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """One column of a tile: what an event contributes and how contributions merge.

    `row` is SQL over one event; `{x}` is the expression, `{v}` the expression as a scaled integer.
    """

    row: str
    merge: Merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A row of the catalogue."""

    partials: Mapping[str, Partial]
    finish: Callable[[Parts, int], Values]
    """Merged partials and the scale of the integers -> values. Pure, the same code in both paths."""
    empty: object
    """The value of a window without events."""
    numeric: bool = True
    """True if it takes numbers only."""


_SUM = {
    # What does not fit 64 bits is null, so it must not be counted by the mean either.
    "n": Partial(row="({v} IS NOT NULL)::BIGINT", merge=Merge.ADD),
    "hi": Partial(row=f"coalesce({{v}} >> {LIMB}, 0)", merge=Merge.ADD),
    "lo": Partial(row=f"coalesce({{v}} & {LIMB_MASK}, 0)", merge=Merge.ADD),
}
_COMPARED = Partial(row="({m} IS NOT NULL)::BIGINT", merge=Merge.ADD)
_SQUARES = {
    f"q{i}": Partial(
        row=f"coalesce(((({{v}})::HUGEINT * ({{v}})::HUGEINT) >> {LIMB * i} & {LIMB_MASK})::BIGINT, 0)", merge=Merge.ADD
    )
    for i in range(4)
}


def _count(parts: Parts, scale: int) -> Values:
    del scale
    events = parts["events"]
    return Values(events, _empty_where(events == 0))


def _sum(parts: Parts, scale: int) -> Values:
    total, overflow = join_limbs(parts["hi"], parts["lo"])
    values = total if scale == 1 else total.astype(np.float64) / scale
    return Values(values, _statuses(parts["n"] == 0, overflow))


def _mean(parts: Parts, scale: int) -> Values:
    total, overflow = join_limbs(parts["hi"], parts["lo"])
    count = np.maximum(parts["n"], 1).astype(np.float64)
    return Values(total.astype(np.float64) / count / scale, _statuses(parts["n"] == 0, overflow))


def _variance(parts: Parts, scale: int) -> Values:
    total, overflow = join_limbs(parts["hi"], parts["lo"])
    n = parts["n"].astype(np.int64)
    spread = _spread(n, total, [parts[f"q{i}"] for i in range(4)])
    count = np.maximum(n, 2).astype(np.float64)
    values = spread / (count * (count - 1.0)) / (float(scale) * float(scale))
    return Values(values, _statuses(n < 2, overflow))


def _stddev(parts: Parts, scale: int) -> Values:
    variance = _variance(parts, scale)
    return Values(np.sqrt(np.asarray(variance.values, dtype=np.float64)), variance.status)


def _extreme(parts: Parts, scale: int) -> Values:
    values = parts["value"]
    values = values if scale == 1 else values.astype(np.float64) / scale
    return Values(values, _empty_where(parts["n"] == 0))


def _pick(parts: Parts, scale: int) -> Values:
    del scale
    return Values(parts["value"], _empty_where(~np.asarray(parts["valid"], dtype=bool)))


def _latest(parts: Parts, scale: int) -> Values:
    del scale
    return Values(parts["value"], _empty_where(~np.asarray(parts["valid"], dtype=bool) | (parts["null"] != 0)))


def _distinct(parts: Parts, scale: int) -> Values:
    del scale
    return Values(parts["value"], _empty_where(parts["value"] == 0))


def join_limbs(hi: Array, lo: Array) -> tuple[Ints, NDArray[np.bool_]]:
    """`hi * 2^32 + lo` as int64, and where it does not fit."""
    high = np.asarray(hi, dtype=np.int64) + (np.asarray(lo, dtype=np.int64) >> LIMB)
    overflow = (high < -(1 << 31)) | (high >= 1 << 31)
    return (high << LIMB) | (np.asarray(lo, dtype=np.int64) & LIMB_MASK), overflow


def _spread(n: Ints, total: Ints, limbs: list[Array]) -> NDArray[np.float64]:
    """`n * sum(x^2) - sum(x)^2` computed exactly, then rounded once to a double."""
    small = (limbs[1] == 0) & (limbs[2] == 0) & (limbs[3] == 0) & (np.abs(total) < 1 << 31)
    small &= n.astype(np.float64) * limbs[0].astype(np.float64) < float(1 << 62)
    spread = np.zeros(len(n))
    spread[small] = (n[small] * limbs[0][small] - total[small] * total[small]).astype(np.float64)
    wide = np.flatnonzero(~small)
    if len(wide):
        squares = sum(limb[wide].astype(object) << (LIMB * i) for i, limb in enumerate(limbs))
        exact = n[wide].astype(object) * squares - total[wide].astype(object) ** 2
        spread[wide] = exact.astype(np.float64)
    return spread


def _empty_where(empty: NDArray[np.bool_]) -> NDArray[np.int8]:
    return np.where(empty, np.int8(Status.EMPTY), np.int8(Status.PRESENT))


def _statuses(empty: NDArray[np.bool_], overflow: NDArray[np.bool_]) -> NDArray[np.int8]:
    return np.where(overflow, np.int8(Status.ERROR), _empty_where(empty))


CATALOGUE: Mapping[str, Aggregate] = {
    "count": Aggregate(partials={}, finish=_count, empty=0),
    "sum": Aggregate(partials=_SUM, finish=_sum, empty=0),
    "mean": Aggregate(partials=_SUM, finish=_mean, empty=None),
    "min": Aggregate(
        partials={"n": _COMPARED, "value": Partial(row="coalesce({m}, {largest})", merge=Merge.MIN)},
        finish=_extreme,
        empty=None,
    ),
    "max": Aggregate(
        partials={"n": _COMPARED, "value": Partial(row="coalesce({m}, {smallest})", merge=Merge.MAX)},
        finish=_extreme,
        empty=None,
    ),
    "variance": Aggregate(partials={**_SUM, **_SQUARES}, finish=_variance, empty=None),
    "stddev": Aggregate(partials={**_SUM, **_SQUARES}, finish=_stddev, empty=None),
    "first": Aggregate(
        partials={"value": Partial(row="{x}", merge=Merge.FIRST)}, finish=_pick, empty=None, numeric=False
    ),
    "last": Aggregate(
        partials={"value": Partial(row="{x}", merge=Merge.LAST)}, finish=_pick, empty=None, numeric=False
    ),
    "latest": Aggregate(
        # Whether the newest event's value is null is never null itself; if it is not, the newest value is that event's.
        partials={
            "value": Partial(row="{x}", merge=Merge.LAST),
            "null": Partial(row="({x} IS NULL)::BIGINT", merge=Merge.LAST),
        },
        finish=_latest,
        empty=None,
        numeric=False,
    ),
    "count_distinct": Aggregate(
        partials={"value": Partial(row="{x}", merge=Merge.DISTINCT)}, finish=_distinct, empty=0, numeric=False
    ),
    "last_n": Aggregate(
        partials={"value": Partial(row="{x}", merge=Merge.LAST_N)}, finish=_pick, empty=(), numeric=False
    ),
}
"""Every tile also counts its events (`events`) and knows the time of its newest one (`newest`)."""
