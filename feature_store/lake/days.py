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
    """A condition that holds for rows of these days. Of days without a gap DuckDB knows it for a whole file, and asks no row."""
    chosen = sorted({*days})
    if chosen and len(chosen) == (chosen[-1] - chosen[0]).days + 1:
        return between_days((chosen[0], chosen[-1]))
    listed = ", ".join(f"DATE '{day.isoformat()}'" for day in chosen)
    return f"{DAY} IN ({listed})" if listed else "FALSE"


def between_days(span: tuple[date, date] | None) -> str:
    """A condition that holds from the first day to the last, both included."""
    if span is None:
        return "TRUE"
    return f"{DAY} BETWEEN DATE '{span[0].isoformat()}' AND DATE '{span[1].isoformat()}'"
