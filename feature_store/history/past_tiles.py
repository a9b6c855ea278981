"""Past days of a view whose tiles stand for their events: what few rows of a day read in place of the events of weeks.

A tile of a day that was over before all rows is in a window as a whole or not at all: the window's tail is a multiple of
the hop, and its head lies behind the day. So one row stands for all events of a tile, where neither their order nor
their ids matter. As it was served, events that were known later than the first row stand for themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from feature_store.history.reading import LakeReading, days_of
from feature_store.lake.view_tables import tiles_table
from feature_store.time_rule import from_us
from feature_store.transforms.rowset import Merge

if TYPE_CHECKING:
    from feature_store.transforms.plan import ViewPlan

_WHOLE = (Merge.ADD, Merge.MIN, Merge.MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTiles:
    """Which days of a view's windows are read from tiles, and which from events."""

    table: str
    """Their name."""
    days: Mapping[date, str]
    """-> the name of the build, in order."""
    late: Sequence[date]
    """Those of them with an event that was not known before the first row: it is taken out of its tile, and stands beside it."""
    assumed: Collection[date]
    """Those of them of which no event says when it arrived; the others say it of every event."""
    rest: Sequence[date]
    """All other days with events."""


def past_tiles(
    plan: ViewPlan, reading: LakeReading, *, first_us: int, last_us: int, served: bool, measured: bool
) -> PastTiles | None:
    """Where tiles stand for the events that a view's windows hold at times from first to last; None: nowhere.

    Args:
        plan: the view.
        reading: the lake, with the tiles that may be read.
        first_us: the first time, in microseconds.
        last_us: the last one.
        served: only events that were known by each time count.
        measured: commit records say since when; those of single events.
    """
    view, source = plan.view, plan.view.source.name
    if measured or not all(column.merge in _WHOLE for column in plan.columns):
        return None
    first, last = days_of(view.longest_window_us, first_us, last_us)
    known = [day for day in reading.days(source).known if first <= day <= last]
    tiled = reading.tiled(tiles_table(view))
    past = {day for day in known if day < from_us(first_us).date()} & tiled.keys()
    assumed: frozenset[date] = frozenset()
    late: frozenset[date] = frozenset()
    if served and past:
        arrived = reading.arrivals(source, first_us)
        assumed, late = arrived.assumed, arrived.late
        past -= arrived.mixed
        if not all(column.merge is Merge.ADD for column in plan.columns):
            past -= late
    if not past:
        return None
    return PastTiles(
        table=tiles_table(view),
        days={day: tiled[day] for day in sorted(past)},
        late=sorted(late & past),
        assumed=assumed & past,
        rest=[day for day in known if day not in past],
    )
