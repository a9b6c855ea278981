"""Days and times as the command line takes them."""

from __future__ import annotations

from datetime import UTC, datetime

from feature_store.errors import InputError

Day = datetime
"""Midnight UTC."""


def moment(text: str, *, name: str) -> datetime:
    """The time of `2013-12-24T08:00:00Z`, or InputError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"`{name}` must be a time such as 2013-12-24T08:00:00Z, got '{text}'") from error
    if found.tzinfo is None:
        raise InputError(f"`{name}` must carry a time zone, such as {text}Z, got '{text}'")
    return found


def day(text: str, *, name: str) -> Day:
    """The day of `2013-12-24`, or InputError."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"`{name}` must be a day such as 2013-12-24, got '{text}'") from None
