"""What a value is worth: the six statuses that serving, training and checks share."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a value is worth."""

    PRESENT = 0
    EMPTY = 1
    """No event in the window: the aggregate's empty value."""
    UNKNOWN = 2
    """No row, or it may have been lost."""
    STALE = 3
    """Older than the view's freshness SLA, or past the end of its validity."""
    AHEAD = 4
    """The value knows events at or after the asked time."""
    ERROR = 5
    """The value cannot be expressed, such as a sum beyond 64 bits."""
