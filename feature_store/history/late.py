"""Late events of a view, day by day: how many, how late, and how many values they changed; counted when a day is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.history.late_values import DELAY, Differing, LateValues, came_late, day_us
from feature_store.lake.view_tables import built_table
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, parse_duration
from feature_store.transforms.project import PARTITION, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.transforms.plan import ViewPlan

UNDECLARED_US = MINUTE_US
"""How long after it happened an event may arrive where a view declares no `lateness`."""

_BOUNDS = {"up to 10 min": 10 * MINUTE_US, "up to 1 h": HOUR_US, "up to 1 d": DAY_US, "up to 7 d": 7 * DAY_US}
_MORE = "more than 7 d"
_SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("day", pa.date32()),
        ("policy", pa.string()),
        ("limit_us", pa.int64()),
        ("events", pa.int64()),
        ("late", pa.int64()),
        ("delays", pa.map_(pa.string(), pa.int64())),
        ("longest_us", pa.int64()),
        ("entities", pa.int64()),
        ("compared", pa.int64()),
        ("changed", pa.int64()),
        ("ignored", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDay:
    """What came late over the log, of the events of one day that a view reads, as of the day's newest build."""

    day: date
    policy: str
    limit_us: int
    """What arrives later than that after it happened is late."""
    events: int
    """All that came over the log."""
    late: int
    delays: Mapping[str, int]
    """How many late events had which delay."""
    longest_us: int
    entities: int
    """Entities of which a value may be another because of late events."""
    compared: int
    """Of these, how many had their values compared; all, unless there are too many events."""
    changed: int
    """Values that are others because of late events; see `history.late_values`."""
    ignored: int
    """With the policy `ignore`, which changes none: values that `correct` would have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateEvents:
    """The late events of some days of a view."""

    view: str
    policy: str
    days: Sequence[LateDay]
    """Those with events that count, in order."""

    @property
    def events(self) -> int:
        """All that came over the log."""
        return sum(day.events for day in self.days)

    @property
    def late(self) -> int:
        """Of these, the late ones."""
        return sum(day.late for day in self.days)

    @property
    def delays(self) -> dict[str, int]:
        """How many late events had which delay."""
        return {bound: sum(day.delays.get(bound, 0) for day in self.days) for bound in [*_BOUNDS, _MORE]}

    @property
    def changed(self) -> int:
        """Values that are others because of late events."""
        return sum(day.changed for day in self.days)

    @property
    def ignored(self) -> int:
        """Values that would be others if the policy were `correct`."""
        return sum(day.ignored for day in self.days)

    def __str__(self) -> str:
        if not self.late:
            return f"none of {self.events:,} ({self.policy})"
        listed = ", ".join(f"{count:,} {bound}" for bound, count in self.delays.items() if count)
        return f"{self.late:,} of {self.events:,} ({self.policy}): {listed}"


def late_events(lake: Lake, view: FeatureView, *, start: datetime, end: datetime) -> LateEvents:
    """The late events of the days of [start, end) of a view, as they were counted when each day was last built."""
    days = (start.astimezone(UTC).date(), (end - timedelta(microseconds=1)).astimezone(UTC).date())
    names = [field.name for field in fields(LateDay)]
    rows = lake.late_rows(built_table(view), days=days).to_pylist(maps_as_pydicts="strict")
    found = [LateDay(**{name: row[name] for name in names}) for row in rows]
    return LateEvents(view=view.id, policy=view.late_events, days=found)


def count_late(plan: ViewPlan, lake: Lake, *, days: Sequence[date], snapshot: int) -> pa.Table | None:
    """What the book of late events shall say of consecutive days that are built from a snapshot.

    Returns a row per day with events that came over the log, or with entities whose rows may be others by late events of
    days before; None for a source without a log.
    """
    view = plan.view
    if view.source.log is None:
        return None
    if not _has_live(lake, view, days, snapshot):
        return _SCHEMA.empty_table()
    counts = _counts(plan, lake, days, snapshot)
    with LateValues(plan, lake, days=days, snapshot=snapshot, limit_us=limit_us(view)) as values:
        rows = [_row(view, day, counts.get(day, {}), values.of(day)) for day in days]
    return pa.Table.from_pylist([row for row in rows if row["events"] or row["entities"]], schema=_SCHEMA)


def limit_us(view: FeatureView) -> int:
    """How long after it happened an event may arrive and not be late."""
    return UNDECLARED_US if view.lateness is None else parse_duration(view.lateness, name="lateness")


def _row(view: FeatureView, day: date, counts: Mapping[str, object], found: Differing) -> dict[str, object]:
    none = {"events": 0, "late": 0, "delays": {}, "longest_us": 0}
    ignores = view.late_events == "ignore"
    return {
        "view": view.id,
        "day": day,
        "policy": view.late_events,
        "limit_us": limit_us(view),
        **none,
        **counts,
        "entities": found.entities,
        "compared": found.compared,
        "changed": 0 if ignores else found.differing,
        "ignored": found.differing if ignores else 0,
    }


def _has_live(lake: Lake, view: FeatureView, days: Sequence[date], snapshot: int) -> bool:
    """Whether any event of the days came over the log, or of those before that rows of the days read."""
    first: date | None = days[0]
    if view.is_batch:
        span = view.longest_window_us
        first = None if span is None else days[0] - timedelta(microseconds=span)
    live = lake.days(view.source.name, snapshot=snapshot).live
    return any((first is None or first <= day) and day <= days[-1] for day in live)


def _counts(plan: ViewPlan, lake: Lake, days: Sequence[date], snapshot: int) -> dict[date, dict[str, object]]:
    """Day -> the events that came over the log and the late ones among them."""
    limit, first = limit_us(plan.view), day_us(days[0])
    live = f"{TIME} >= {first} AND {TIME} < {day_us(days[-1]) + DAY_US} AND {PARTITION} IS NOT NULL"
    events = lake.events_sql(plan.view.source.name, snapshot=snapshot, days=(days[0], days[-1]), where=live)
    delays = project_sql(plan, came_late(events), extra=[DELAY])
    bounds = [limit, *_BOUNDS.values(), 2**62]
    buckets = [f"count(*) FILTER ({DELAY} > {max(low, limit)} AND {DELAY} <= {high})" for low, high in pairwise(bounds)]
    with lake.reading() as cursor:
        rows = cursor.execute(
            f"SELECT CAST(make_timestamp({TIME}) AS DATE), count(*), greatest(max({DELAY}), 0), {', '.join(buckets)} "
            f"FROM ({delays}) GROUP BY 1"
        ).fetchall()
    return {
        day: {
            "events": count,
            "late": sum(found),
            "delays": dict(zip([*_BOUNDS, _MORE], found, strict=True)),
            "longest_us": longest,
        }
        for day, count, longest, *found in rows
    }
