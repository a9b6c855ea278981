"""What a value could know when it was served: windows without the events that had not arrived by then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import History, index_of
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.known import known_rows
from feature_store.transforms.project import ARRIVED, TIME
from feature_store.transforms.rowset import RowSet

if TYPE_CHECKING:
    from feature_store.transforms.plan import FeaturePlan, ViewPlan

KNOWN = "_known_us"


def known_sql() -> str:
    """SQL: when an event became known. Without a recorded arrival it counts as arrived when it happened."""
    return f"greatest(coalesce({ARRIVED}, {TIME}), {TIME}) AS {KNOWN}"


def known_values(
    plan: ViewPlan, history: History, known_us: Ints, codes: Ints, times: Ints, values: Mapping[str, Values]
) -> tuple[dict[str, Values], int]:
    """`values` with each one computed again, over the known events only, whose window holds unknown ones.

    Args:
        plan: the view.
        history: its events.
        known_us: int64[events], when each became known.
        codes: int64[q], the queries' entities,
        times: int64[q], and times; an event is known if it was by then.
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
    for (window, hop), features in _by_window(plan).items():
        tail = index.locate(codes, tails_us(times, window_us=window, hop_us=hop))
        unknown = np.flatnonzero(index.dominated_range(KNOWN, tail, head, bound=times))
        touched[unknown] = True
        _recompute(features, history, known_us, unknown, tail[unknown], head[unknown], times[unknown], result)
    return result, int(touched.sum())


def _by_window(plan: ViewPlan) -> dict[tuple[int | None, int], list[FeaturePlan]]:
    windows: dict[tuple[int | None, int], list[FeaturePlan]] = {}
    for feature in plan.features:
        windows.setdefault((feature.feature.window_us, feature.feature.hop_us), []).append(feature)
    return windows


def _recompute(
    features: list[FeaturePlan],
    history: History,
    known_us: Ints,
    queries: Ints,
    tail: Ints,
    head: Ints,
    times: Ints,
    result: dict[str, Values],
) -> None:
    """Replace the values of some queries in `result`."""
    for feature in features:
        old = result[feature.feature.name]
        result[feature.feature.name] = Values(old.values.copy(), old.status.copy())
    rows = _needed(history.rows, features)
    for chunk, known in known_rows(rows, tail, hi=head, visible=known_us, cutoff=times):
        part = History(known)
        ordinals = np.arange(chunk.start, chunk.stop, dtype=np.int64)
        for feature in features:
            index = index_of(feature, part)
            lo, hi = index.span(ordinals)
            fresh = window_values(feature, index, lo=lo, hi=hi, unique=False)
            target = result[feature.feature.name]
            target.values[queries[chunk]] = fresh.values
            target.status[queries[chunk]] = fresh.status


def _needed(rows: RowSet, features: list[FeaturePlan]) -> RowSet:
    """The rows with no more columns than these features read: every window is copied."""
    names = {column.name for feature in features for column in feature.columns.values()}
    chosen = {name: column for name, column in rows.columns.items() if name.split("__")[0] in names}
    return RowSet(entity=rows.entity, time=rows.time, columns=chosen)
