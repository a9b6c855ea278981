"""What comes after a moment: an aggregate over the events of one key within some time from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `EventSource.any` and its kin return; a `Label` gives it a name.

    Of a row at `t` it is the aggregate over the events with `t <= event time < t + within`, to the microsecond.
    """

    source: EventSource
    aggregate: str
    """'any', or an aggregate of the catalogue."""
    column: str | None
    """SQL over the source's columns; None for 'any' and 'count'."""
    on: Sequence[str]
    """Columns of spine and source that must be equal."""
    within: str | timedelta
    where: str | None
    """SQL over the source's columns; other events do not count."""
