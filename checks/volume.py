"""`volume`: a day has about as many events as the same weekday used to have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

from feature_store_deploy.checks.declared import Figure, Measurement
from feature_store_deploy.checks.samples import known_days
from feature_store_deploy.checks.window import Days

from feature_store.declare import EventSource
from feature_store.declare.check import Check
from feature_store.store import FeatureStore

WEEKS, FEWEST_WEEKS = 8, 3
LIMIT = 6.0
"""Deviations from the median that a day may have, unless the declaration says otherwise."""
SLACK = 0.02
"""Of the median: a history without any spread is no reason to be narrower."""
METHOD = "deviations from the median of up to 8 same weekdays, by their median absolute deviation"
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


def measure_volume(store: FeatureStore, source: EventSource, days: Days, check: Check) -> Measurement:
    """The deviation of the worst day; days without a history say nothing."""
    known = {*known_days(store, source.name)}
    wanted = days.each
    histories = {day: [past for past in weekdays_before(day) if past in known] for day in wanted}
    asked = sorted({*wanted, *(past for each in histories.values() for past in each)})
    counts = store.lake.counts(source.name, asked, snapshot=store.lake.snapshot())
    limit = LIMIT if check.limit is None else check.limit
    figures = [
        Figure(name="events", value=found.deviations(counts.get(day, 0)), limit=limit, said=_said(day, counts, found))
        for day, past in histories.items()
        if (found := expected([counts.get(each, 0) for each in past])) is not None
    ]
    return Measurement(
        figures=[max(figures, key=lambda each: each.value)] if figures else [],
        reference=f"the same weekdays of the {WEEKS} weeks before",
        sample_size=sum(counts.get(day, 0) for day in wanted),
        method=METHOD,
        days=days,
        said=f"fewer than {FEWEST_WEEKS} of the same weekdays are known",
        metadata={"events": sum(counts.get(day, 0) for day in wanted)},
    )


def weekdays_before(day: date) -> list[date]:
    """The same weekday of the weeks before."""
    return [day - timedelta(weeks=week) for week in range(1, WEEKS + 1)]


def _said(day: date, counts: Mapping[date, int], found: Expected) -> str:
    return (
        f"{day}: {counts.get(day, 0):,} events, {found.middle:,.0f} ± {found.spread:,.0f} on {found.weeks} "
        f"{day:%A}s before"
    )
