"""The windowing kernel: many window queries over one sorted row set, each two searches and a ranged reduction.

A query's window is the range [lo, hi) of row positions, `lo` and `hi` being `locate` of the window's tail and head.
Ask with queries sorted by (entity, time): unsorted ones are right too, but slower.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np

from feature_store.transforms.distinct import Groups, Wavelet, previous_same
from feature_store.transforms.locate import Locator
from feature_store.transforms.ordering import (
    INT64_MAX,
    INT64_MIN,
    Bools,
    Column,
    Ints,
    is_sorted,
    order_by,
    sizes,
    spread_starts,
)
from feature_store.transforms.ranges import Extrema, Prefix, Valid
from feature_store.transforms.rowset import RowSet

_Part = TypeVar("_Part")


class RangeIndex:
    """Window queries over one row set. What a column needs is computed once, by the first query that asks for it.

    All ranges are int64[q] row positions; lo >= hi is an empty range. Columns are named as in `rows.columns`.
    """

    __slots__ = ("_parts", "rows")

    def __init__(self, rows: RowSet) -> None:
        self.rows = rows
        self._parts: dict[tuple[str, str], object] = {}

    def locate(self, entity: Ints, time: Ints) -> Ints:
        """Return how many rows sort strictly before each (entity, time).

        That is the first row of the entity at or after that time, or where it would stand.
        """
        if is_sorted(entity, time):
            return self._locator().locate(entity, time)
        order = order_by(entity, time)
        found = np.empty(len(entity), dtype=np.int64)
        found[order] = self._locator().locate(entity[order], time[order])
        return found

    def span(self, entity: Ints) -> tuple[Ints, Ints]:
        """Return the range of all rows of each entity."""
        return self._locator().span(entity)

    def count_range(self, lo: Ints, hi: Ints) -> Ints:
        """Return the number of rows of each range."""
        return sizes(lo, hi)

    def sum_range(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the int64 sum of a column over each range, 0 where it is empty; it wraps where it overflows."""
        return self._part("prefix", name, lambda: Prefix(self.rows.columns[name])).sum(lo, hi)

    def min_range(self, name: str, lo: Ints, hi: Ints, *, identity: float) -> Column:
        """Return the smallest value of a column over each range, `identity` where it is empty."""
        part = self._part("min", name, lambda: Extrema(self.rows.columns[name], largest=False))
        return part.reduce(lo, hi, identity=identity)

    def max_range(self, name: str, lo: Ints, hi: Ints, *, identity: float) -> Column:
        """Return the largest value of a column over each range, `identity` where it is empty."""
        part = self._part("max", name, lambda: Extrema(self.rows.columns[name], largest=True))
        return part.reduce(lo, hi, identity=identity)

    def first_valid(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the first row of each range that has a value (see `has_value`), or -1."""
        return self._valid(name).first(lo, hi)

    def last_valid(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return the last row of each range that has a value (see `has_value`), or -1."""
        return self._valid(name).last(lo, hi)

    def last_n_range(self, name: str | None, lo: Ints, hi: Ints, *, n: int) -> Ints:
        """Return the last n rows with a value of each range, oldest first: int64[q, n] ending in -1 where fewer.

        Without a name every row counts, for row sets that leave out rows without a value.
        """
        return self._valid(name).last_n(lo, hi, n=n)

    def distinct_range(self, name: str, lo: Ints, hi: Ints) -> Ints:
        """Return how many different values each range holds. Every row counts: leave out those without a value.

        A range must lie within one entity, as windows do.
        """
        starts = self._entity_start()
        tree = self._part("distinct", name, lambda: self._distinct_tree(name))
        if len(starts) == 0:
            return np.zeros(len(lo), dtype=np.int64)
        return tree.count_below(lo, hi, bound=lo - starts[np.minimum(lo, len(starts) - 1)] + 1)

    def groups(self, name: str) -> Groups:
        """Return the rows of each (entity, value of a column)."""
        return self._part("groups", name, lambda: Groups(self.rows.entity, self.rows.columns[name]))

    def has_value(self, name: str | None) -> Bools:
        """Return which rows have a value: True in a bool column, no limit of int64 in `c__t`, anything but None.

        Without a name, all of them.
        """
        if name is None:
            return np.ones(len(self.rows), dtype=np.bool_)
        column = self.rows.columns[name]
        if column.dtype == np.bool_:
            return column.astype(np.bool_, copy=False)
        valid: Bools = np.ones(len(column), dtype=np.bool_)
        if name.endswith("__t"):
            valid = (column != INT64_MIN) & (column != INT64_MAX)
        elif column.dtype == np.object_:
            valid = np.not_equal(column, np.array(None, dtype=np.object_))
        return valid

    def _distinct_tree(self, name: str) -> Wavelet:
        """Index each row's forerunner, counted from 1 at the entity's first row: few bits where entities are small."""
        previous = previous_same(self.rows.entity, self.rows.columns[name])
        return Wavelet(np.where(previous < 0, 0, previous - self._entity_start() + 1))

    def _entity_start(self) -> Ints:
        """Return per row the first row of its entity."""
        return self._part("start", "", lambda: spread_starts(self.rows.entity))

    def _valid(self, name: str | None) -> Valid:
        return self._part("valid", name or "", lambda: Valid(self.has_value(name)))

    def _locator(self) -> Locator:
        return self._part("locator", "", lambda: Locator(self.rows))

    def _part(self, kind: str, name: str, build: Callable[[], _Part]) -> _Part:
        key = (kind, name)
        if key not in self._parts:
            self._parts[key] = build()
        return cast(_Part, self._parts[key])  # each kind has one builder
