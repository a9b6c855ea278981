"""Windows become values: the same code for every caller, whatever its rows are."""

from __future__ import annotations

import numpy as np

from feature_store.time_rule import BEGINNING_US
from feature_store.transforms.catalogue import Array, Ints, Values
from feature_store.transforms.families import Families, index_of
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.ordering import INT64_MAX, INT64_MIN
from feature_store.transforms.plan import FeaturePlan, PartialColumn, WindowPlan
from feature_store.transforms.project import EVENTS
from feature_store.transforms.rowset import Merge


def evaluate(plan: WindowPlan, families: Families, entity: Ints, *, time_us: Ints) -> dict[str, Values]:
    """Every feature of a view for q queries.

    Args:
        plan: the view.
        families: its rows.
        entity: int64[q], numbered as the rows are; one that is not there has empty windows.
        time_us: int64[q], the times asked for. Sorted by (entity, time) is fastest.

    Returns:
        Feature name -> q values, in the order asked.
    """
    heads: dict[int, Ints] = {}
    tails: dict[tuple[int, int | None, int], Ints] = {}
    values: dict[str, Values] = {}
    for feature in plan.features:
        index = index_of(feature, families)
        window, hop = feature.feature.window_us, feature.feature.hop_us
        if id(index) not in heads:
            heads[id(index)] = index.locate(entity, time_us)
        key = (id(index), window, hop)
        if key not in tails:
            tails[key] = index.locate(entity, tails_us(time_us, window_us=window, hop_us=hop))
        values[feature.feature.name] = window_values(
            feature, index, lo=tails[key], hi=heads[id(index)], unique=families.unique
        )
    return values


def tails_us(time_us: Ints, *, window_us: int | None, hop_us: int) -> Ints:
    """`time_rule.tail_us` for many times."""
    if window_us is None:
        return np.full(len(time_us), BEGINNING_US)
    return (time_us - window_us) // hop_us * hop_us


def window_values(plan: FeaturePlan, index: RangeIndex, *, lo: Ints, hi: Ints, unique: bool) -> Values:
    """One feature over ranges of rows."""
    if not plan.columns:
        has_tiles = EVENTS in index.rows.columns
        events = index.sum_range(EVENTS, lo, hi) if has_tiles else index.count_range(lo, hi)
        return plan.aggregate.finish({EVENTS: events}, 1)
    parts: dict[str, Array] = {}
    for partial, column in plan.columns.items():
        parts |= _reduce(partial, column, index, lo, hi, unique)
    return plan.aggregate.finish(parts, plan.scale)


def _reduce(
    partial: str, column: PartialColumn, index: RangeIndex, lo: Ints, hi: Ints, unique: bool
) -> dict[str, Array]:
    match column.merge:
        case Merge.ADD:
            return {partial: index.sum_range(column.name, lo, hi)}
        case Merge.MIN:
            return {partial: index.min_range(column.name, lo, hi, identity=_limit(column, largest=True))}
        case Merge.MAX:
            return {partial: index.max_range(column.name, lo, hi, identity=_limit(column, largest=False))}
        case Merge.FIRST | Merge.LAST:
            find = index.first_valid if column.merge is Merge.FIRST else index.last_valid
            row = find(f"{column.name}__t", lo, hi)
            return {partial: _at(index.rows.columns[column.name], row), "valid": row >= 0}
        case Merge.DISTINCT:
            distinct = index.count_range(lo, hi) if unique else index.distinct_range("value", lo, hi)
            return {partial: np.minimum(distinct, column.cap or distinct)}
        case Merge.LAST_N:
            rows = index.last_n_range(None, lo, hi, n=column.cap or 1)
            return {partial: _lists(index.rows.columns["value"], rows), "valid": np.asarray((rows >= 0).any(axis=1))}


def _limit(column: PartialColumn, *, largest: bool) -> float:
    """What no value of a column lies beyond: ranges are reduced from there."""
    if column.kind == "float":
        return np.inf if largest else -np.inf
    return INT64_MAX if largest else INT64_MIN


def _at(column: Array, row: Ints) -> Array:
    """The values of these rows; anything where the row is -1."""
    return column[row] if len(column) else np.zeros(len(row), dtype=column.dtype)


def _lists(column: Array, rows: Ints) -> Array:
    lists = np.empty(len(rows), dtype=object)
    lengths = (rows >= 0).sum(axis=1)
    for i, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        lists[i] = tuple(column[row[:length]].tolist())
    return lists
