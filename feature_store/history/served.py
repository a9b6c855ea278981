"""What a value could know when it was served: windows without the events that were not visible by then.

A row that could be served by the stream knows what its shard's commit records say. Before the first of them, and for views
that are not streamed, an event counts as known when it had arrived, and where no arrival was recorded, when it happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from feature_store.history.visibility import ALWAYS
from feature_store.status import Status
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import History, index_of
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.known import KnownWindows
from feature_store.transforms.known import Visibility as Visible
from feature_store.transforms.project import ARRIVED, OFFSET, PARTITION, TIME
from feature_store.transforms.ranges import Prefix
from feature_store.transforms.rowset import RowSet

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.history.visibility import Visibility
    from feature_store.transforms.plan import FeaturePlan, WindowPlan

KNOWN, ASSUMED = "_known_us", "_assumed"
_AT_ONCE = 8192
"""Queries of which the unknown events are listed at once: a hot entity's have hundreds each, and a cache holds these."""
MEASURED, DECLARED, GUESSED, NOTHING = 0, 1, 2, 3
"""How a row knows its events: by commit records, by recorded arrivals, or because arrival is taken for the event's time.
A row of no entity has nothing to know.
"""


def known_columns(*, measured: bool) -> list[str]:
    """SQL columns: when an event became known by its arrival, whether that is only assumed, and where it came from."""
    known = [f"greatest(coalesce({ARRIVED}, {TIME}), {TIME}) AS {KNOWN}", f"{ARRIVED} IS NULL AS {ASSUMED}"]
    place = [f"coalesce({PARTITION}, -1)::BIGINT AS {PARTITION}", f"coalesce({OFFSET}, 0)::BIGINT AS {OFFSET}"]
    return [*known, *place] if measured else known


def known_names(*, measured: bool) -> list[str]:
    """The names of these columns."""
    return [KNOWN, ASSUMED, *((PARTITION, OFFSET) if measured else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What is told of each row's knowledge."""

    kind: NDArray[np.int8]
    """MEASURED, DECLARED, GUESSED (the weakest among the events of its longest window) or NOTHING."""
    recomputed: NDArray[np.bool_]
    """Rows with a window that holds events which were not known."""
    differing: NDArray[np.int64]
    """How many values of each row hindsight would change."""


def no_facts(size: int) -> RowFacts:
    """Rows that know nothing, with all that there was to know."""
    kind, recomputed = np.full(size, np.int8(NOTHING)), np.zeros(size, dtype=bool)
    return RowFacts(kind=kind, recomputed=recomputed, differing=np.zeros(size, dtype=np.int64))


def served_values(
    plan: WindowPlan,
    history: History,
    rows: pa.Table,
    visibility: Visibility | None,
    *,
    codes: Ints,
    times: Ints,
    values: Mapping[str, Values],
) -> tuple[dict[str, Values], RowFacts]:
    """`values` with each one computed again, over the known events only, whose window holds unknown ones.

    Args:
        plan: the view.
        history: its events.
        rows: the same with the columns of `known_names`.
        visibility: what commit records say; None: nothing.
        codes: int64[q], the queries' entities, sorted with
        times: int64[q], their times; an event is known to a query if it was by then.
        values: what the windows hold with hindsight.
    """
    known_us, assumed = rows.column(KNOWN).to_numpy(), rows.column(ASSUMED).to_numpy().astype(bool)
    answer = _Answer(plan, history, codes=codes, times=times, values=values)
    if visibility is None:
        answer.by_arrival(np.arange(len(codes)), known_us, assumed)
        return answer.values, answer.facts
    served = times >= visibility.since_us()[codes]
    answer.by_arrival(np.flatnonzero(~served), known_us, assumed)
    seen_us, guessed = visibility.seen_us(
        history.rows.entity,
        history.rows.time,
        partition=rows.column(PARTITION).to_numpy(),
        offset=rows.column(OFFSET).to_numpy(),
        known_us=known_us,
    )
    answer.by_commits(np.flatnonzero(served), seen_us, guessed)
    return answer.values, answer.facts


class _Answer:
    """Values of all queries, of which some are computed again at a time."""

    def __init__(
        self, plan: WindowPlan, history: History, *, codes: Ints, times: Ints, values: Mapping[str, Values]
    ) -> None:
        self._plan, self._history, self._codes, self._times = plan, history, codes, times
        self.values = dict(values)
        self.facts = no_facts(len(codes))

    def by_arrival(self, queries: Ints, known_us: Ints, assumed: NDArray[np.bool_]) -> None:
        """Queries that know what had arrived."""
        self.facts.kind[queries] = np.where(self._holds(queries, assumed), GUESSED, DECLARED)
        self._again(queries, known_us)

    def by_commits(self, queries: Ints, seen_us: Ints, guessed: Ints) -> None:
        """Queries that know what a commit had made visible; of `guessed` events none had."""
        unmeasured = np.zeros(len(seen_us), dtype=bool)
        unmeasured[guessed] = True
        self.facts.kind[queries] = np.where(self._holds(queries, unmeasured), DECLARED, MEASURED)
        self._again(queries, seen_us)

    def _holds(self, queries: Ints, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the longest window of each query holds a marked event."""
        if not marked.any() or not len(queries):
            return np.zeros(len(queries), dtype=bool)
        codes, times = self._codes[queries], self._times[queries]
        index, features = RangeIndex(self._rows({})), self._plan.features
        earliest = np.min(
            [tails_us(times, window_us=f.feature.window_us, hop_us=f.feature.hop_us) for f in features], axis=0
        )
        count = Prefix(marked.astype(np.int64))
        found: NDArray[np.bool_] = count.sum(index.locate(codes, earliest), index.locate(codes, times)) > 0
        return found

    def _rows(self, columns: Mapping[str, Ints]) -> RowSet:
        return RowSet(entity=self._history.rows.entity, time=self._history.rows.time, columns=dict(columns))

    def _again(self, queries: Ints, known_us: Ints) -> None:
        if not len(queries) or not (known_us > self._history.rows.time).any():
            return
        codes, times = self._codes[queries], self._times[queries]
        index, again = RangeIndex(self._rows({KNOWN: known_us})), _Again(self._history, known_us)
        head = index.locate(codes, times)
        for (window, hop), features in _by_window(self._plan).items():
            tails = tails_us(times, window_us=window, hop_us=hop)
            newest = cast("Ints", index.max_range(KNOWN, index.locate(codes, tails), head, identity=ALWAYS))
            chosen = np.flatnonzero(newest > times)
            at = queries[chosen]
            self.facts.recomputed[at] = True
            fresh: dict[str, list[Values]] = {feature.feature.name: [] for feature in features}
            for start in range(0, len(chosen), _AT_ONCE):
                some = chosen[start : start + _AT_ONCE]
                windows = again.windows(codes[some], tails[some], times[some])
                for feature in features:
                    fresh[feature.feature.name].append(windows.values(feature))
            for name, parts in fresh.items():
                self._replace(name, at, parts)

    def _replace(self, name: str, at: Ints, parts: Sequence[Values]) -> None:
        """Exchange the values at some positions, and count those that are others now."""
        if len(at) == 0:
            return
        fresh = Values(np.concatenate([p.values for p in parts]), np.concatenate([p.status for p in parts]))
        known = self.values[name]
        found, status = known.values.copy(), known.status.copy()
        found[at], status[at] = fresh.values, fresh.status
        present = fresh.status == Status.PRESENT
        other = (known.status[at] != fresh.status) | (present & (known.values[at] != fresh.values))
        self.facts.differing[at] += other
        self.values[name] = Values(found, status)


class _Again:
    """Windows over known events only, for any feature of a view."""

    def __init__(self, history: History, known_us: Ints) -> None:
        self._history, self._known_us = history, known_us
        self._visibility: dict[int, Visible] = {}

    def windows(self, codes: Ints, tails: Ints, times: Ints) -> _Windows:
        """The windows of some queries."""
        return _Windows(self, self._history, codes=codes, tails=tails, times=times)

    def visible(self, plan: FeaturePlan, index: RangeIndex) -> Visible:
        """When the rows of a feature's index became known."""
        if id(index) not in self._visibility:
            self._visibility[id(index)] = Visible(index, self._known_of(plan, index))
        return self._visibility[id(index)]

    def _known_of(self, plan: FeaturePlan, index: RangeIndex) -> Ints:
        """Sets and lists have only the events with a value."""
        for column in plan.columns.values():
            if not column.in_tiles:
                known: Ints = self._known_us[np.flatnonzero(self._history.rows.columns[f"{column.name}__valid"])]
                return known
        return self._known_us[: len(index.rows)]


class _Windows:
    """The same windows for several features; what each index knows of them is found once."""

    def __init__(self, again: _Again, history: History, *, codes: Ints, tails: Ints, times: Ints) -> None:
        self._again, self._history = again, history
        self._codes, self._tails, self._times = codes, tails, times
        self._known: dict[int, KnownWindows] = {}

    def values(self, plan: FeaturePlan) -> Values:
        """One feature."""
        index = index_of(plan, self._history)
        if id(index) not in self._known:
            lo, hi = index.locate(self._codes, self._tails), index.locate(self._codes, self._times)
            self._known[id(index)] = self._again.visible(plan, index).known(lo, hi, cutoff=self._times)
        known = self._known[id(index)]
        # It answers what a RangeIndex answers, for windows that have gaps.
        return window_values(plan, cast("RangeIndex", known), lo=known.lo, hi=known.hi, unique=False)


def _by_window(plan: WindowPlan) -> dict[tuple[int | None, int], list[FeaturePlan]]:
    windows: dict[tuple[int | None, int], list[FeaturePlan]] = {}
    for feature in plan.features:
        windows.setdefault((feature.feature.window_us, feature.feature.hop_us), []).append(feature)
    return windows
