"""A view's value as a function of time: what it is now, and what it becomes as tiles leave its windows.

With no new event a window only loses tiles, each at a known time (`time_rule.leaves_at_us`). So the values from now
on are those of the suffixes of the rows in the window, and the next few are written ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.status import Status
from feature_store.time_rule import BEGINNING_US
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import Families, index_of, state_hop_us
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.plan import FeaturePlan, ViewPlan

FOREVER_US = 2**62
MAX_STEPS = 8
"""How many changes of a feature are written ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSteps:
    """One feature of q entities: entity i has the steps `first[i]` to `first[i + 1]`; a step is `values` from
    `since_us` on. The first step of an entity is the value now.
    """

    plan: FeaturePlan
    first: Ints
    since_us: Ints
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSteps:
    """A view's values of q entities over `[from_us, until_us)`; no event of theirs is newer than `newest_us`."""

    from_us: Ints
    until_us: Ints
    newest_us: Ints
    features: tuple[FeatureSteps, ...]


def view_steps(
    plan: ViewPlan, families: Families, entity: Ints, *, newest_us: Ints, now_us: int, forgotten_us: Mapping[int, int]
) -> ViewSteps:
    """The step functions of some entities.

    Args:
        plan: the view.
        families: the rows of at least these entities.
        entity: int64[q], sorted.
        newest_us: int64[q], the time of each entity's newest event; values start to hold after it.
        now_us: the value at this time comes first.
        forgotten_us: per hop (`families.state_hop_us`), rows older than this may be missing, so nothing is said about
            times that need them; nothing is missing where a hop is not named.
    """
    at_us = np.maximum(np.int64(now_us), newest_us + 1)
    from_us = newest_us + 1
    until_us = np.full(len(entity), FOREVER_US)
    coming: dict[tuple[int, int | None, int], _Coming] = {}
    found: list[tuple[FeaturePlan, _Coming, Values]] = []
    for feature in plan.features:
        index = index_of(feature, families)
        key = (id(index), feature.feature.window_us, feature.feature.hop_us)
        if key not in coming:
            forgotten = forgotten_us.get(state_hop_us(feature), BEGINNING_US)
            coming[key] = _look_ahead(feature, index, entity, at_us=at_us, forgotten_us=forgotten)
        ahead = coming[key]
        from_us, until_us = np.maximum(from_us, ahead.from_us), np.minimum(until_us, ahead.until_us)
        values = window_values(feature, index, lo=ahead.lo, hi=ahead.hi, unique=families.unique)
        found.append((feature, ahead, values))
    features = tuple(_compact(feature, ahead, values, until_us) for feature, ahead, values in found)
    return ViewSteps(from_us=from_us, until_us=until_us, newest_us=newest_us, features=features)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coming:
    """What happens to a window of q entities: one row per step, in the order of entities and time."""

    owner: Ints
    """Whose step it is, as an index into the entities."""
    since_us: Ints
    lo: Ints
    hi: Ints
    """The rows in the window from then on."""
    from_us: Ints
    """Per entity, since when its first step holds,"""
    until_us: Ints
    """and until when its last one does."""


def _look_ahead(plan: FeaturePlan, index: RangeIndex, entity: Ints, *, at_us: Ints, forgotten_us: int) -> _Coming:
    """The window of a feature now and after each of the next rows that leave it."""
    window, hop = plan.feature.window_us, plan.feature.hop_us
    start, end = index.span(entity)
    since, until = np.full(len(entity), BEGINNING_US), np.full(len(entity), FOREVER_US)
    if window is None:
        return _Coming(
            owner=np.arange(len(entity)),
            since_us=since,
            lo=start,
            hi=end,
            from_us=since,
            until_us=until,
        )
    leaves = _Leaving(index.rows.time, window, hop)
    lo = index.locate(entity, tails_us(at_us, window_us=window, hop_us=hop))
    inside = end - lo
    count = np.minimum(inside, MAX_STEPS) + 1
    owner = np.repeat(np.arange(len(entity)), count)
    first = np.cumsum(count) - count
    row = np.arange(len(owner)) + (lo - first)[owner]
    since_us = leaves.at(row - 1)
    since_us[first] = BEGINNING_US
    return _Coming(
        owner=owner,
        since_us=since_us,
        lo=row,
        hi=end[owner],
        from_us=np.where(lo > start, leaves.at(lo - 1), max(forgotten_us + window, BEGINNING_US)),
        until_us=np.where(inside > MAX_STEPS, leaves.at(lo + MAX_STEPS), until),
    )


class _Leaving:
    """When rows leave a window."""

    def __init__(self, time: Ints, window_us: int, hop_us: int) -> None:
        self._time, self._window_us, self._hop_us = time, window_us, hop_us

    def at(self, row: Ints) -> Ints:
        """`time_rule.leaves_at_us` of rows; of the nearest row where there is none."""
        if len(self._time) == 0:
            return np.full(len(row), BEGINNING_US)
        time = self._time[np.clip(row, 0, len(self._time) - 1)]
        return time // self._hop_us * self._hop_us + self._hop_us + self._window_us


def _compact(plan: FeaturePlan, coming: _Coming, values: Values, until_us: Ints) -> FeatureSteps:
    """Leave out steps that another one replaces at the same time, steps that change nothing, and what comes after the
    end of validity.
    """
    owner, since = coming.owner, coming.since_us
    kept = since < until_us[owner]
    kept[:-1] &= (owner[1:] != owner[:-1]) | (since[1:] != since[:-1])
    if not kept.all():
        chosen = np.flatnonzero(kept)
        owner, since, values = owner[chosen], since[chosen], Values(values.values[chosen], values.status[chosen])
    changes = np.ones(len(owner), dtype=bool)
    changes[1:] = (owner[1:] != owner[:-1]) | _differs(values)
    if not changes.all():
        chosen = np.flatnonzero(changes)
        owner, since, values = owner[chosen], since[chosen], Values(values.values[chosen], values.status[chosen])
    first = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(until_us)))))
    return FeatureSteps(plan=plan, first=first, since_us=since, values=values)


def _differs(values: Values) -> NDArray[np.bool_]:
    """Where a value is not the one before it."""
    status, value = values.status, values.values
    present = (status[1:] == Status.PRESENT) & (status[:-1] == Status.PRESENT)
    same = np.asarray(value[1:] == value[:-1], dtype=bool)
    return np.asarray((status[1:] != status[:-1]) | (present & ~same), dtype=bool)
