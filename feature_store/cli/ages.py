"""Ages in words."""

from __future__ import annotations

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def age(micros: int) -> str:
    """How long ago something was.

    >>> age(90_000_000), age(7_200_000_000), age(1_500_000)
    ('90 s ago', '2 h ago', '2 s ago')
    """
    seconds = max(micros, 0) / 1_000_000
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
