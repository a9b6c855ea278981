"""Late events of a view: how many, how late, and what has to be built again because of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from feature_store.history.asof import rows_table
from feature_store.history.tiles import tiles_table
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, from_us, parse_duration, to_us
from feature_store.transforms.project import ARRIVED, PARTITION, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

UNDECLARED_US = MINUTE_US
"""How long after it happened an event may arrive where a view declares no `lateness`."""

_BOUNDS = {"up to 10 min": 10 * MINUTE_US, "up to 1 h": HOUR_US, "up to 1 d": DAY_US, "up to 7 d": 7 * DAY_US}
_MORE = "more than 7 d"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateEvents:
    """What came late over the log, of the events of some days that a view reads."""

    policy: str
    events: int
    """All that came over the log."""
    late: int
    delays: Mapping[str, int]
    """How many late events had which delay."""
    longest_us: int

    def __str__(self) -> str:
        if not self.late:
            return f"none of {self.events:,} ({self.policy})"
        listed = ", ".join(f"{count:,} {bound}" for bound, count in self.delays.items() if count)
        return f"{self.late:,} of {self.events:,} ({self.policy}): {listed}"


def late_events(compiled: Compiled, lake: Lake, view: FeatureView, *, start: datetime, end: datetime) -> LateEvents:
    """The late events of a view that happened in [start, end), also those that its policy ignores."""
    plan, limit = compiled.plan(view), _limit_us(view)
    lake.ensure_source(view.source.name, compiled.schemas[view.source.name])
    first, last = to_us(start), to_us(end)
    live = f"{TIME} >= {first} AND {TIME} < {last} AND {PARTITION} IS NOT NULL"
    events = lake.events_sql(view.source.name, days=(start.date(), from_us(last - 1).date()), where=live)
    # `ignore` keeps late events out of the values; here they count, so their arrival is hidden from it.
    shown = f"SELECT * REPLACE (NULL::BIGINT AS {ARRIVED}), {ARRIVED} - {TIME} AS _delay_us FROM ({events})"
    delays = f"SELECT _delay_us FROM ({project_sql(plan, shown, extra=['_delay_us'])})"
    bounds = [limit, *_BOUNDS.values(), 2**62]
    buckets = [
        f"count(*) FILTER (_delay_us > {max(low, limit)} AND _delay_us <= {high})" for low, high in pairwise(bounds)
    ]
    with lake.cursor() as cursor:
        row = cursor.execute(f"SELECT count(*), coalesce(max(_delay_us), 0), {', '.join(buckets)} FROM ({delays})")
        count, longest, *found = row.fetchone() or (0, 0, *(0 for _ in buckets))
    counts = dict(zip([*_BOUNDS, _MORE], found, strict=True))
    return LateEvents(policy=view.late_events, events=count, late=sum(found), delays=counts, longest_us=max(longest, 0))


def outdated_days(lake: Lake, view: FeatureView, *, now_us: int) -> list[date]:
    """Past days of a view's rows or tiles that were built before events came that they read.

    The lake's own books say so. Rows are only built again where the view's policy is `recompute`; tiles always, since
    they answer for nothing that was served. A day that is not over is not among them: its events are still coming.
    """
    if view.is_batch and view.late_events != "recompute":
        return []
    table = rows_table(view) if view.is_batch else tiles_table(view)
    today = from_us(now_us).astimezone(UTC).date()
    return [day for day in lake.stale_days(table, source=view.source.name) if day < today]


def _limit_us(view: FeatureView) -> int:
    return UNDECLARED_US if view.lateness is None else parse_duration(view.lateness, name="lateness")
