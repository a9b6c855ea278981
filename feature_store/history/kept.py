"""From when the lake still has a source's events, and the refusal of what would need those that its retention removed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.time_rule import DAY_US, from_us, to_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake


def start_us(day: date) -> int:
    """The first moment of a day."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))


def lookback_days(view: FeatureView) -> int | None:
    """How many days before its own a day of a view reads: none for tiles; None: all."""
    if not view.is_batch:
        return 0
    return view.lookback_days


def first_needed(view: FeatureView, day: date) -> date:
    """The first day of events that building a day of a view reads."""
    back = lookback_days(view)
    return date.min if back is None else day - timedelta(days=back)


def first_whole(lake: Lake, view: FeatureView) -> date:
    """The first day on which no window of a view holds an event that was removed; the last day of all for lifetimes."""
    kept, span = lake.retention.kept_from(view.source.name), view.longest_window_us
    if kept is None:
        return date.min
    return date.max if span is None else kept + timedelta(days=-(-span // DAY_US))


def check_buildable(lake: Lake, view: FeatureView, days: Sequence[date]) -> None:
    """Refuse to build days from events that are gone.

    Raises:
        InputError: naming view, source and from when it can be built.
    """
    kept = lake.retention.kept_from(view.source.name)
    if kept is None or first_needed(view, min(days)) >= kept:
        return
    back = lookback_days(view)
    since = "never again" if back is None else f"from {kept + timedelta(days=back)} on"
    raise InputError(
        f"view '{view.id}' cannot be built for {min(days)}: that reads events of source '{view.source.name}' before "
        f"{kept}, which its retention removed; what was built of these days stays, and days can be built {since}"
    )


def check_window_kept(kept_us: int | None, view: FeatureView, *, first_us: int) -> None:
    """Refuse windows, the earliest of which ends at `first_us`, that hold events which are gone.

    Raises:
        InputError: naming view, source and the first time that can be asked for.
    """
    if kept_us is None:
        return
    span = view.longest_window_us
    if span is None or first_us - span < kept_us:
        can = "its features over the lifetime cannot be computed" if span is None else (
            f"ask for times from {from_us(kept_us + span).isoformat()} on"
        )  # fmt: skip
        raise InputError(
            f"a window of view '{view.name}' at {from_us(first_us).isoformat()} holds events of source "
            f"'{view.source.name}' before {from_us(kept_us).isoformat()}, which its retention removed; {can}, or use a "
            "snapshot from before"
        )
