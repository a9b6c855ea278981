"""Days of event time in SQL: the partition key of every large table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

DAY = "_day"
UTC_DAY = 'CAST(make_timestamp("_event_us") AS DATE)'
"""The day an event belongs to."""


def in_days(days: Iterable[date]) -> str:
    """A condition that holds for rows of these days."""
    listed = ", ".join(f"DATE '{day.isoformat()}'" for day in days)
    return f"{DAY} IN ({listed})" if listed else "FALSE"


def between_days(span: tuple[date, date] | None) -> str:
    """A condition that holds from the first day to the last, both included."""
    if span is None:
        return "TRUE"
    return f"{DAY} BETWEEN DATE '{span[0].isoformat()}' AND DATE '{span[1].isoformat()}'"
