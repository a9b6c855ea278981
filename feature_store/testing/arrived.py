"""An event and when it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Event = Mapping[str, object]
"""Column -> value."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event that did not arrive at the time at which it happened."""

    event: Event
    at: datetime | str = field(kw_only=True)
    """An aware datetime, or ISO 8601 text with a zone."""
