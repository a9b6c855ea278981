"""What a write to the lake reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One committed write."""

    snapshot: int
    """The snapshot that it made: reading at it sees this write and everything before."""
    rows: int
    """Rows written."""
    days: tuple[date, ...] = ()
    """The days it touched, also those that it left empty."""
    duplicates: int = 0
    """Rows dropped because the same event was there already."""
    conflicts: int = 0
    """Rows that went to `rejected_events`: an event id seen before, with another payload."""
