"""What could have given a wrong value: each known fault, as the windows that it would have answered with.

    late         events counted that the commit did not know yet, or not counted though it did
    boundary     an event at the very time of the window's head counted, or its tail a hop off
    expired      the windows of an earlier time: a step of the value was not taken, or it was served past its validity
    duplicate    an event, a batch or all of them counted more than once

Pure: from the events of one entity and what was known of them to variants, the likeliest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from feature_store.proof.knowledge import ALWAYS, NEVER
from feature_store.time_rule import from_us
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import History, index_of
from feature_store.transforms.plan import ViewPlan
from feature_store.transforms.rowset import RowSet

NEAREST = 64
"""How many commits, steps or late events each way are tried."""
REPEATED = 256
"""How many of the newest events are counted twice, each alone."""
_READ_AT_MOST = 20_000_000
"""Events that all variants of one value may read together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a view that was wrong: its entity's events, and what was known of them."""

    plan: ViewPlan
    rows: RowSet
    """Of all entities."""
    first: int
    """Where the entity's begin among them."""
    time: Ints
    """int64[e], of the entity's events."""
    known_from: Ints
    """int64[e], since when each is known."""
    cutoff: int
    head_us: int
    """The effective time."""

    @property
    def past(self) -> Ints:
        """The events before the head."""
        return np.flatnonzero(self.time < self.head_us)

    @property
    def known(self) -> Ints:
        """Those of them that were known."""
        past = self.past
        found: Ints = past[self.known_from[past] <= self.cutoff]
        return found


class Variant(NamedTuple):
    """Windows that a fault would have answered with."""

    cause: str
    detail: str
    events: Ints
    """Of the case, ascending; one that stands twice counts twice."""
    head_us: int
    tail_us: int
    """The time from which tails are reckoned."""
    shift: int = 0
    """By how many of its hops each tail is later."""


def variants(case: Case, cause: str) -> list[Variant]:
    """What a fault of one kind could have answered with."""
    found = list(_TRIED[cause](case))
    return found[: max(NEAREST, _READ_AT_MOST // (len(case.past) + 1))]


def answers(plan: ViewPlan, asked: Sequence[tuple[Case, Variant]]) -> dict[str, Values]:
    """Feature -> its value in each variant; all cases are of one view and its rows."""
    rows, code = asked[0][0].rows, np.arange(len(asked))
    taken = np.concatenate([case.first + variant.events for case, variant in asked])
    entity = np.repeat(code, [len(variant.events) for _, variant in asked])
    columns = {name: column[taken] for name, column in rows.columns.items()}
    history = History(RowSet(entity=entity, time=rows.time[taken], columns=columns))
    head, tail, shift = (
        np.array([getattr(variant, name) for _, variant in asked], dtype=np.int64)
        for name in ("head_us", "tail_us", "shift")
    )
    found = {}
    for feature in plan.features:
        index, window, hop = index_of(feature, history), feature.feature.window_us, feature.feature.hop_us
        since = tails_us(tail, window_us=window, hop_us=hop)
        hi = index.locate(code, head)
        lo = np.minimum(index.locate(code, since if window is None else since + shift * hop), hi)
        found[feature.feature.name] = window_values(feature, index, lo=lo, hi=hi, unique=False)
    return found


def as_declared(case: Case) -> Variant:
    """What the rule says: the known events before the head."""
    return Variant("", "", case.known, case.head_us, case.head_us)


def _late(case: Case) -> Iterator[Variant]:
    past, known, since = case.past, case.known, case.known_from
    missed = past[since[past] > case.cutoff]

    def of(detail: str, events: Ints) -> Variant:
        return Variant("late", detail, events, case.head_us, case.head_us)

    for n in np.unique(since[missed])[:NEAREST].tolist():
        told = "ever" if n == NEVER else f"by commit {n}"
        yield of(f"what was known only later, {told}, is counted", past[since[past] <= n])
    for event in missed[::-1][:NEAREST].tolist():
        yield of(f"the event of {_at(case, event)}, which was not known yet, is counted", _with(known, event))
    if len(missed):
        yield of("events that were not known yet are counted", past)
    for n in np.unique(since[known])[::-1][:NEAREST].tolist():
        told = "what was loaded" if n == ALWAYS else f"what came with commit {n} or later"
        yield of(f"{told} is not counted, though it was known", known[since[known] < n])
    for event in _came_late(case, known)[::-1][:NEAREST].tolist():
        yield of(f"the late event of {_at(case, event)} is not counted, though it was known", known[known != event])


def _came_late(case: Case, known: Ints) -> Ints:
    """The known events that became known after one that happened later."""
    since = case.known_from[known]
    sooner = np.minimum.accumulate(since[::-1])[::-1]
    found: Ints = known[since > sooner]
    return found


def _boundary(case: Case) -> Iterator[Variant]:
    known, head = case.known, case.head_us
    at = np.flatnonzero(case.time == head)
    if len(at):
        detail = f"the event at {from_us(head).isoformat()}, the head itself, is counted"
        yield Variant("boundary", detail, np.append(known, at), head + 1, head)
    yield Variant("boundary", "each window begins a hop too late", known, head, head, 1)
    yield Variant("boundary", "each window begins a hop too early", known, head, head, -1)


def _expired(case: Case) -> Iterator[Variant]:
    for time_us in _steps(case)[:NEAREST]:
        told = f"the value of {from_us(time_us).isoformat()}, which had ceased to be valid"
        yield Variant("expired", told, case.known, case.head_us, time_us)
        yield Variant("expired", told, case.known, time_us, time_us)


def _steps(case: Case) -> list[int]:
    """Times just before an event leaves a window of the view, the newest first."""
    times: set[int] = set()
    for feature in case.plan.view.declared:
        if feature.window_us is not None:
            last = (case.head_us - feature.window_us) // feature.hop_us * feature.hop_us + feature.window_us
            times |= {last - 1 - j * feature.hop_us for j in range(NEAREST // 2)}
    return sorted(times, reverse=True)


def _duplicate(case: Case) -> Iterator[Variant]:
    known, head = case.known, case.head_us

    def of(detail: str, more: Ints) -> Variant:
        return Variant("duplicate", detail, np.sort(np.append(known, more)), head, head)

    newest = known[::-1][:REPEATED].tolist()
    for event in newest:
        yield of(f"the event of {_at(case, event)} is counted twice", np.array([event]))
    since = case.known_from[known]
    for n in np.unique(since[since != ALWAYS])[::-1][:NEAREST].tolist():
        if (since == n).sum() > 1:
            yield of(f"the events that came with commit {n} are counted twice", known[since == n])
    if len(known) > 1:
        yield of("all events are counted twice", known)
    for event in newest:
        yield of(f"the event of {_at(case, event)} is counted three times", np.array([event, event]))


def _with(events: Ints, event: int) -> Ints:
    return np.insert(events, int(np.searchsorted(events, event)), event)


def _at(case: Case, event: int) -> str:
    return from_us(int(case.time[event])).isoformat()


_TRIED = {"late": _late, "boundary": _boundary, "expired": _expired, "duplicate": _duplicate}
TRIED = tuple(_TRIED)
"""The faults in the order in which they are tried."""
