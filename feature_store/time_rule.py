"""The rule of time that batch, stream, reader and tests share.

A window `W` with hop `h` at time `t` holds the events with `floor(t - W, h) <= event time < t`. The head is exact and
excludes `t`; the tail moves in hops aligned to the epoch. Everything is integer microseconds since the epoch, UTC.
`docs/time-rule.md` tabulates the edge cases and runs as a test.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from feature_store.errors import InputError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

BEGINNING_US = -(2**62)
"""Before any event: the tail of a lifetime window."""

LONGEST_US = 36_500 * DAY_US
"""The longest duration that can be declared, a hundred years: sums of times and durations stay within 64 bits."""

MAX_TILES = 100
"""More tiles than this in one window need an explicit `hop=`."""

_UNITS_US = {"s": SECOND_US, "m": MINUTE_US, "min": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_HOPS_US = sorted(
    [n * SECOND_US for n in (1, 2, 5, 10, 15, 30)]
    + [n * MINUTE_US for n in (1, 2, 5, 10, 15, 30)]
    + [n * HOUR_US for n in (1, 2, 3, 6, 12)]
    + [DAY_US],
    reverse=True,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EARLIEST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LATEST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""The times that Python has: the years 1 to 9999."""


def parse_duration(value: str | timedelta, *, name: str = "over") -> int:
    """The duration in microseconds: '30s', '5m', '1h', '7d', '2w' or a timedelta; whole seconds, more than zero.

    Raises:
        ValueError: naming `name`, the rule and what came.
    """
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    else:
        match = re.fullmatch(r"(\d+)\s*(s|min|m|h|d|w)", str(value).strip())
        micros = int(match[1]) * _UNITS_US[match[2]] if match else 0
    if micros <= 0 or micros % SECOND_US:
        raise ValueError(f"`{name}` must be a positive duration in whole seconds such as '30s' or '7d', got {value!r}")
    if micros > LONGEST_US:
        raise ValueError(f"`{name}` must be at most {format_duration(LONGEST_US)}, got {value!r}")
    return micros


def default_hop_us(window_us: int) -> int:
    """The largest allowed hop that divides the window and is at most a 24th of it (one second for tiny windows)."""
    return next((hop for hop in _HOPS_US if window_us % hop == 0 and hop * 24 <= window_us), SECOND_US)


def floor_us(time_us: int, hop_us: int) -> int:
    """The start of the hop that holds `time_us`; works before the epoch too."""
    return time_us // hop_us * hop_us


def tail_us(time_us: int, window_us: int | None, hop_us: int) -> int:
    """The earliest event time that a window at `time_us` holds."""
    return BEGINNING_US if window_us is None else floor_us(time_us - window_us, hop_us)


def leaves_at_us(tile_us: int, window_us: int, hop_us: int) -> int:
    """The first time at which a window no longer holds the tile that starts at `tile_us`."""
    return tile_us + hop_us + window_us


def format_duration(micros: int) -> str:
    """The shortest exact spelling: 3_600_000_000 is '1h'."""
    for suffix in ("d", "h", "m"):
        if micros % _UNITS_US[suffix] == 0:
            return f"{micros // _UNITS_US[suffix]}{suffix}"
    return f"{micros // SECOND_US}s"


def to_us(moment: datetime, *, name: str = "time") -> int:
    """Microseconds since the epoch of an aware datetime.

    Raises:
        ValueError: for a naive datetime, naming `name`.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"`{name}` must carry a time zone, got the naive datetime {moment.isoformat()}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_us(value: object, name: str) -> int:
    """Microseconds since the epoch of an aware datetime or of ISO 8601 text with a zone.

    Raises:
        InputError: anything else.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise InputError(f"`{name}` must be an aware datetime or text such as '2026-01-01T12:00:00Z', got {value!r}")
    try:
        return to_us(moment, name=name)
    except ValueError as error:
        raise InputError(str(error)) from None


def from_us(micros: int) -> datetime:
    """The aware UTC datetime of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=micros)
