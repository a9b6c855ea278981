"""What a value could know when it was served: windows without the events that had not arrived by then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import History, index_of
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.known import Visibility
from feature_store.transforms.project import ARRIVED, TIME
from feature_store.transforms.rowset import RowSet

if TYPE_CHECKING:
    from feature_store.transforms.plan import FeaturePlan, WindowPlan

KNOWN = "_known_us"


def known_sql() -> str:
    """SQL: when an event became known. Without a recorded arrival it counts as arrived when it happened."""
    return f"greatest(coalesce({ARRIVED}, {TIME}), {TIME}) AS {KNOWN}"


def known_values(
    plan: WindowPlan, history: History, known_us: Ints, *, codes: Ints, times: Ints, values: Mapping[str, Values]
) -> tuple[dict[str, Values], int]:
    """`values` with each one computed again, over the known events only, whose window holds unknown ones.

    Args:
        plan: the view.
        history: its events.
        known_us: int64[events], when each became known.
        codes: int64[q], the queries' entities, sorted with
        times: int64[q], their times; an event is known to a query if it was by then.
        values: what the windows hold with hindsight.

    Returns:
        The values, and how many queries had one computed again.
    """
    if not (known_us > history.rows.time).any():
        return dict(values), 0
    rows = history.rows
    index = RangeIndex(RowSet(entity=rows.entity, time=rows.time, columns={KNOWN: known_us}))
    head = index.locate(codes, times)
    result, touched = dict(values), np.zeros(len(codes), dtype=bool)
    again = _Again(history, known_us)
    for (window, hop), features in _by_window(plan).items():
        tails = tails_us(times, window_us=window, hop_us=hop)
        tail = index.locate(codes, tails)
        chosen = np.flatnonzero(index.dominated_range(KNOWN, tail, head, bound=times))
        touched[chosen] = True
        for feature in features:
            fresh = again.values(feature, codes[chosen], tails[chosen], times[chosen])
            result[feature.feature.name] = _replaced(values[feature.feature.name], chosen, fresh)
    return result, int(touched.sum())


class _Again:
    """Windows over known events only, for any feature of a view."""

    def __init__(self, history: History, known_us: Ints) -> None:
        self._history, self._known_us = history, known_us
        self._visibility: dict[int, Visibility] = {}

    def values(self, plan: FeaturePlan, codes: Ints, tails: Ints, times: Ints) -> Values:
        """One feature of some queries."""
        index = index_of(plan, self._history)
        if id(index) not in self._visibility:
            self._visibility[id(index)] = Visibility(index, self._known_of(plan, index))
        known = self._visibility[id(index)].known(index.locate(codes, tails), index.locate(codes, times), cutoff=times)
        # It answers what a RangeIndex answers, for windows that have gaps.
        return window_values(plan, cast("RangeIndex", known), lo=known.lo, hi=known.hi, unique=False)

    def _known_of(self, plan: FeaturePlan, index: RangeIndex) -> Ints:
        """When the rows of an index became known; sets and lists have only the events with a value."""
        for column in plan.columns.values():
            if not column.in_tiles:
                known: Ints = self._known_us[np.flatnonzero(self._history.rows.columns[f"{column.name}__valid"])]
                return known
        return self._known_us[: len(index.rows)]


def _by_window(plan: WindowPlan) -> dict[tuple[int | None, int], list[FeaturePlan]]:
    windows: dict[tuple[int | None, int], list[FeaturePlan]] = {}
    for feature in plan.features:
        windows.setdefault((feature.feature.window_us, feature.feature.hop_us), []).append(feature)
    return windows


def _replaced(values: Values, at: Ints, fresh: Values) -> Values:
    """The values with those at some positions exchanged."""
    if len(at) == 0:
        return values
    found, status = values.values.copy(), values.status.copy()
    found[at], status[at] = fresh.values, fresh.status
    return Values(found, status)
