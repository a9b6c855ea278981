"""Past days that were built before events came that they read."""

from __future__ import annotations

from datetime import UTC, date
from typing import TYPE_CHECKING

from feature_store.history.asof import rows_table
from feature_store.history.kept import first_needed
from feature_store.history.tiles import tiles_table
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake


def built_table(view: FeatureView) -> str:
    """The lake's table that a view's days are built in: rows of a batch view, tiles of any other."""
    return rows_table(view) if view.is_batch else tiles_table(view)


def outdated_days(lake: Lake, view: FeatureView, *, now_us: int) -> list[date]:
    """Past days of a view's rows or tiles that were built before events came that they read.

    The lake's own books say so. Rows are only built again where the view's policy is `recompute`; tiles always, since
    they answer for nothing that was served. A day that is not over is not among them: its events are still coming. Nor is
    one whose events retention has removed: it stays as it was built.
    """
    if view.is_batch and view.late_events != "recompute":
        return []
    today = from_us(now_us).astimezone(UTC).date()
    days = [day for day in lake.stale_days(built_table(view), source=view.source.name) if day < today]
    kept = lake.kept_from(view.source.name) if days else None
    return [day for day in days if kept is None or first_needed(view, day) >= kept]
