"""Until when the lake knows everything about a source, and the refusal of rows beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.history.kept import check_window_kept, start_us
from feature_store.time_rule import DAY_US, from_us

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.lake.books.commits import Days

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the lake has of a source."""

    until_us: int | None
    """Rows at or before this time are complete: the end of the last loaded day, or the newest arrival committed from
    the log (of the partition that is furthest behind). None: nothing is there."""
    kept_us: int | None = None
    """Since when every event is there, if retention has removed older ones."""
    missing: tuple[date, ...]
    """Days between the first and the last loaded one that were neither loaded nor came over the log."""


def coverage(lake: Lake, source: str, days: Days, *, snapshot: int) -> Coverage:
    """What the lake has of a source that `ensure_source` knows, with these days, at a snapshot."""
    ends = [] if not days.loaded else [start_us(days.loaded[-1]) + DAY_US]
    arrived = lake.newest_arrival_us(source, snapshot=snapshot) if days.live else None
    if arrived is not None:
        ends.append(arrived)
    kept = lake.retention.kept_from(source, snapshot=snapshot)
    return Coverage(
        until_us=max(ends, default=None),
        kept_us=None if kept is None else start_us(kept),
        missing=_holes(days.loaded, {*days.known}),
    )


def check_complete(found: Coverage, view: FeatureView, *, first_us: int, last_us: int) -> None:
    """Refuse rows at times [first_us, last_us] for which the lake does not have every event of the view.

    Raises:
        InputError: naming the source, and until when or on which days it is incomplete.
    """
    check_window_kept(found.kept_us, view, first_us=first_us)
    source = view.source.name
    remedy = f"load or stream '{source}' further, or say allow_incomplete=True"
    if found.until_us is None:
        raise InputError(f"source '{source}' has no events in the lake, which view '{view.name}' reads; {remedy}")
    if last_us > found.until_us:
        raise InputError(
            f"spine rows reach to {from_us(last_us).isoformat()}, but source '{source}' of view '{view.name}' is "
            f"complete until {from_us(found.until_us).isoformat()} only; {remedy}"
        )
    span = view.longest_window_us
    first = None if span is None else from_us(first_us - span).date()
    holes = [day for day in found.missing if day <= from_us(last_us).date() and (first is None or day >= first)]
    if holes:
        listed = ", ".join(day.isoformat() for day in holes[:_SHOWN]) + (", ..." if len(holes) > _SHOWN else "")
        raise InputError(
            f"source '{source}' of view '{view.name}' was not loaded for {len(holes)} days that the spine needs "
            f"({listed}); {remedy}"
        )


def _holes(loaded: list[date], known: set[date]) -> tuple[date, ...]:
    if not loaded:
        return ()
    days = (loaded[0] + timedelta(days=n) for n in range((loaded[-1] - loaded[0]).days))
    return tuple(day for day in days if day not in known)
