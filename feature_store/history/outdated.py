"""Past days that are not what they should be: built from fewer events, by another definition, too early, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from feature_store.history.kept import first_needed, start_us
from feature_store.lake.view_tables import built_table
from feature_store.registry import meanings_of
from feature_store.time_rule import DAY_US, MINUTE_US, from_us

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.lake.books.builds import Build

GRACE_US = 15 * MINUTE_US
"""How long after its end a day is left to the schedule that builds it."""
MISSED_DAYS = 31
"""How far back a day that was never built counts as missed; what lies before may well have been left out."""


class Reason(StrEnum):
    """Why a day should be built again."""

    LATE = "late events"
    LOADED = "events were loaded"
    CHANGED = "the definition has changed"
    UNFINISHED = "built before it was over"
    MISSING = "never built"


def outdated_days(lake: Lake, view: FeatureView, *, now_us: int) -> dict[date, frozenset[Reason]]:
    """The days of a view's rows or tiles that should be built again, in order, with the reasons.

    The lake's books say so: which state of the events a day was built from, which commits touched a day that it reads
    since, and by which definitions. What came late over the log matters to rows whose policy is `recompute`, and to
    tiles always, since they answer for nothing that was served. A day that is not over is never among them. A view of
    which nothing was ever built has none. Nor is one among them whose events retention has removed: it stays as it was
    built.
    """
    return outdated(lake, [view], now_us=now_us)[view.id]


def outdated(lake: Lake, views: Iterable[FeatureView], *, now_us: int) -> dict[str, dict[date, frozenset[Reason]]]:
    """`outdated_days` of many views by their ids; the books are read once."""
    end, listed = _first_open_day(now_us), list(views)
    builds = lake.builds.states({built_table(v): (v.source.name, meanings_of(v)) for v in listed})
    known, kept = cache(lambda source: frozenset(lake.days(source).known)), cache(lake.retention.kept_from)
    found: dict[str, dict[date, frozenset[Reason]]] = {}
    for view in listed:
        days = {each.day: _reasons(view, each) for each in builds[built_table(view)] if each.day < end}
        days |= dict.fromkeys(_missed(view, set(days), end, known), frozenset({Reason.MISSING}))
        since = kept(view.source.name)
        found[view.id] = {
            day: reasons
            for day, reasons in sorted(days.items())
            if reasons and (since is None or first_needed(view, day) >= since)
        }
    return found


def missing_loads(lake: Lake, source: EventSource, *, now_us: int) -> list[date]:
    """Past days of a source without a log that were not loaded, though days before them were."""
    if source.load is None or source.log is not None or not lake.has_source(source.name):
        return []
    loaded = lake.days(source.name).loaded
    return _between(loaded[0], _first_open_day(now_us), without=loaded) if loaded else []


def spans(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """First and last of each run of consecutive days.

    >>> [f"{first.day}-{last.day}" for first, last in spans(date(2024, 3, day) for day in (1, 2, 5))]
    ['1-2', '5-5']
    """
    run: list[date] = []
    for day in sorted(days):
        if run and day > run[-1] + timedelta(days=1):
            yield run[0], run[-1]
            run = []
        run.append(day)
    if run:
        yield run[0], run[-1]


def counted(found: Mapping[date, Collection[Reason]]) -> dict[str, int]:
    """How many days each reason has."""
    return {reason.value: n for reason in Reason if (n := sum(reason in reasons for reasons in found.values()))}


def _reasons(view: FeatureView, build: Build) -> frozenset[Reason]:
    heeds_late = not view.is_batch or view.late_events == "recompute"
    is_early = build.at_us < start_us(build.day) + DAY_US
    holds = {
        Reason.LATE: build.is_live_since and heeds_late and not is_early,
        Reason.LOADED: build.is_loaded_since,
        Reason.CHANGED: build.is_meant_otherwise,
        Reason.UNFINISHED: build.is_live_since and is_early,
    }
    return frozenset(reason for reason, is_so in holds.items() if is_so)


def _missed(
    view: FeatureView, built: Collection[date], end: date, known: Callable[[str], Collection[date]]
) -> list[date]:
    missed = _between(min(built), end, without=built) if built else []
    if view.is_batch or view.source.log is None or not missed:
        return missed
    return [day for day in missed if day in known(view.source.name)]  # a day of which no event came has no tiles


def _between(first: date, end: date, *, without: Collection[date]) -> list[date]:
    """The days of [first, end) that are no longer ago than `MISSED_DAYS`, but for some."""
    first, there = max(first, end - timedelta(days=MISSED_DAYS)), set(without)
    days = (first + timedelta(days=number) for number in range((end - first).days))
    return [day for day in days if day not in there]


def _first_open_day(now_us: int) -> date:
    return from_us(now_us - GRACE_US).date()
