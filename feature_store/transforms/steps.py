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
from feature_store.transforms.plan import FeaturePlan, ViewPlan

FOREVER_US = 2**62
MAX_STEPS = 8
"""How many changes of a feature are written ahead."""

_END = np.int64(2**63 - 1)


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
    features: list[FeatureSteps] = []
    for feature in plan.features:
        forgotten = forgotten_us.get(state_hop_us(feature), BEGINNING_US)
        steps, since, until = _feature_steps(feature, families, entity, at_us=at_us, forgotten_us=forgotten)
        from_us, until_us = np.maximum(from_us, since), np.minimum(until_us, until)
        features.append(steps)
    cut = tuple(_cut(steps, until_us) for steps in features)
    return ViewSteps(from_us=from_us, until_us=until_us, newest_us=newest_us, features=cut)


def _feature_steps(
    plan: FeaturePlan, families: Families, entity: Ints, *, at_us: Ints, forgotten_us: int
) -> tuple[FeatureSteps, Ints, Ints]:
    """Steps of a feature, since when its first one holds, and until when its last one does."""
    index = index_of(plan, families)
    window, hop = plan.feature.window_us, plan.feature.hop_us
    hi = index.locate(entity, np.full(len(entity), _END))
    if window is None:
        lo = index.locate(entity, np.full(len(entity), BEGINNING_US))
        count, since, until = np.zeros_like(lo), np.full(len(lo), BEGINNING_US), np.full(len(lo), FOREVER_US)
    else:
        lo = index.locate(entity, tails_us(at_us, window_us=window, hop_us=hop))
        leaves = _Leaving(index.rows.time, window, hop)
        count = np.minimum(hi - lo, MAX_STEPS)
        until = np.where(hi - lo > MAX_STEPS, leaves.at(lo + MAX_STEPS), FOREVER_US)
        start = index.locate(entity, np.full(len(entity), BEGINNING_US))
        before = leaves.at(lo - 1)
        since = np.where(lo > start, before, max(forgotten_us + window, BEGINNING_US))
    first = np.concatenate(([0], np.cumsum(count + 1)))
    owner = np.repeat(np.arange(len(entity)), count + 1)
    ordinal = np.arange(len(owner)) - first[:-1][owner]
    row = lo[owner] + ordinal
    values = window_values(plan, index, lo=row, hi=hi[owner], unique=families.unique)
    since_us = np.full(len(owner), BEGINNING_US)
    if window is not None and len(index.rows):
        since_us = np.where(ordinal == 0, BEGINNING_US, leaves.at(row - 1))
    return _compact(FeatureSteps(plan=plan, first=first, since_us=since_us, values=values), owner), since, until


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


def _compact(steps: FeatureSteps, owner: Ints) -> FeatureSteps:
    """Leave out steps that another one replaces at the same time, and steps that change nothing."""
    since = steps.since_us
    last_of_time = np.ones(len(owner), dtype=bool)
    last_of_time[:-1] = (owner[1:] != owner[:-1]) | (since[1:] != since[:-1])
    kept = _take(steps, owner, np.flatnonzero(last_of_time))
    owner = owner[last_of_time]
    changes = np.ones(len(owner), dtype=bool)
    changes[1:] = (owner[1:] != owner[:-1]) | _differs(kept.values)
    return _take(kept, owner, np.flatnonzero(changes))


def _differs(values: Values) -> NDArray[np.bool_]:
    """Where a value is not the one before it."""
    status, value = values.status, values.values
    present = (status[1:] == Status.PRESENT) & (status[:-1] == Status.PRESENT)
    same = np.asarray(value[1:] == value[:-1], dtype=bool)
    return np.asarray((status[1:] != status[:-1]) | (present & ~same), dtype=bool)


def _take(steps: FeatureSteps, owner: Ints, chosen: Ints) -> FeatureSteps:
    entities = len(steps.first) - 1
    count = np.bincount(owner[chosen], minlength=entities)
    return FeatureSteps(
        plan=steps.plan,
        first=np.concatenate(([0], np.cumsum(count))),
        since_us=steps.since_us[chosen],
        values=Values(steps.values.values[chosen], steps.values.status[chosen]),
    )


def _cut(steps: FeatureSteps, until_us: Ints) -> FeatureSteps:
    """Drop the steps at or after the end of validity."""
    owner = np.repeat(np.arange(len(until_us)), np.diff(steps.first))
    return _take(steps, owner, np.flatnonzero(steps.since_us < until_us[owner]))
