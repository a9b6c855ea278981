"""`volume`: a day has about as many events as the same weekday used to have.

While too few of these are known, a day must not have far fewer than the days before it. More say nothing then: a source that
begins grows. A day that is not over is not judged: it has fewer events than whole days by nature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

from feature_store_deploy.checks.declared import Figure, Measurement
from feature_store_deploy.checks.samples import known_days
from feature_store_deploy.checks.window import Days

from feature_store.declare import EventSource
from feature_store.declare.check import Check
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us

WEEKS, FEWEST_WEEKS = 8, 3
LIMIT = 6.0
"""Deviations from the median that a day may have, unless the declaration says otherwise."""
SLACK = 0.02
"""Of the median: a history without any spread is no reason to be narrower."""
FEWEST_DAYS = 3
"""So many days before a day say what it should have at least, while weekdays are too few."""
SHORT = 0.1
"""Of what it should have at least: a deviation."""
METHOD = (
    "deviations from the median of up to 8 same weekdays, by their median absolute deviation; where these are fewer than "
    "3, tenths that are missing of the median of all days before, or of the same weekday"
)
_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation in its median absolute deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How many events a day should have."""

    middle: float
    spread: float
    weeks: int

    def deviations(self, count: int) -> float:
        """How far a count is from that."""
        return abs(count - self.middle) / self.spread


def expected(history: Sequence[int]) -> Expected | None:
    """What the same weekdays of the weeks before say; None if they are too few.

    >>> expected([100, 100, 104, 90])
    Expected(middle=100.0, spread=10.0, weeks=4)
    """
    if len(history) < FEWEST_WEEKS:
        return None
    middle = float(median(history))
    away = median(abs(count - middle) for count in history)
    return Expected(middle=middle, spread=max(_TO_SIGMA * away, middle**0.5, SLACK * middle, 1.0), weeks=len(history))


def at_least(before: Sequence[int], weekday: int | None, *, count: int) -> float | None:
    """How many events a day should have at least by the days before it; None if they say nothing.

    A weekday that is always quiet is known by the last one. Before there is one, only a day without events says something.

    >>> at_least([300, 280, 310], None, count=0), at_least([300, 280, 310, 290], 120, count=20)
    (300.0, 120.0)
    >>> at_least([300, 280, 310], None, count=20)
    """
    if len(before) < FEWEST_DAYS or (count and weekday is None):
        return None
    return float(median(before) if weekday is None else min(median(before), weekday))


def measure_volume(store: FeatureStore, source: EventSource, days: Days, check: Check) -> Measurement:
    """The deviation of the worst day that is over; days without a history say nothing."""
    known, today = {*known_days(store, source.name)}, from_us(store.clock.now_us()).date()
    wanted = days.each
    over = [day for day in wanted if day < today]
    histories = {day: [past for past in weekdays_before(day) if past in known] for day in over}
    asked = sorted({*wanted, *(past for each in histories.values() for past in each)})
    counts = store.lake.counts(source.name, asked, snapshot=store.lake.snapshot())
    limit = LIMIT if check.limit is None else check.limit
    figures = [
        Figure(name="events", value=found.deviations(counts[day]), limit=limit, said=_said(day, counts[day], found))
        if (found := expected([counts[each] for each in past])) is not None
        else _early(store, source, day, limit=limit)
        for day, past in histories.items()
    ]
    return Measurement(
        figures=sorted(filter(None, figures), key=lambda each: each.value)[-1:],
        reference=f"the same weekdays of the {WEEKS} weeks before, or all days while these are too few",
        sample_size=sum(counts[day] for day in wanted),
        method=METHOD,
        days=days,
        said=f"fewer than {FEWEST_WEEKS} of the same weekdays are known, and too few other days"
        if over
        else f"{days}: not over yet; judged when it is",
        metadata={"events": sum(counts[day] for day in wanted)},
    )


def _early(store: FeatureStore, source: EventSource, day: date, *, limit: float) -> Figure | None:
    """The figure of a day with too few same weekdays before it; None if no day says what it should have.

    Once a source is live, days on which nothing came are days, too; those just before the day are part of what is wrong.
    """
    snapshot = store.lake.snapshot()
    known, live = known_days(store, source.name), store.lake.days(source.name, snapshot=snapshot).live[:1]
    since = [max(known[0], live[0])] if known and live else []
    given = [each for each in Days.up_to(day, 7 * WEEKS + 1).each if each in known or (since and each >= since[0])]
    if day not in given:
        return None
    counts = store.lake.counts(source.name, given, snapshot=snapshot)
    before = given[:-1]
    while before and not counts[before[-1]]:
        before.pop()
    weekday = next((counts[each] for each in reversed(before) if each.weekday() == day.weekday()), None)
    least = at_least([counts[each] for each in before if each in known], weekday, count=counts[day])
    if least is None:
        return None
    value = max(least - counts[day], 0.0) / max(SHORT * least, least**0.5, 1.0)
    said = f"{day}: {counts[day]:,} events, at least {least:,.0f} on days before"
    return Figure(name="events", value=value, limit=limit, said=said)


def weekdays_before(day: date) -> list[date]:
    """The same weekday of the weeks before."""
    return [day - timedelta(weeks=week) for week in range(1, WEEKS + 1)]


def _said(day: date, count: int, found: Expected) -> str:
    return f"{day}: {count:,} events, {found.middle:,.0f} ± {found.spread:,.0f} on {found.weeks} {day:%A}s before"
