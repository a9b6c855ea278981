"""Days as the command line takes them."""

from __future__ import annotations

from datetime import UTC, datetime

from feature_store.errors import InputError

Day = datetime
"""Midnight UTC."""


def day(text: str, *, name: str) -> Day:
    """The day of `2013-12-24`, or InputError."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"`{name}` must be a day such as 2013-12-24, got '{text}'") from None
