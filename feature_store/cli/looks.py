"""How the commands' answers look: ages in words, tables that fit a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def age(micros: int) -> str:
    """How long ago something was.

    >>> age(90_000_000), age(7_200_000_000), age(1_600_000)
    ('90 s ago', '2 h ago', '2 s ago')
    """
    return f"{length(max(micros, 0))} ago"


def length(micros: int) -> str:
    """How long something took.

    >>> length(7_200_000_000)
    '2 h'
    """
    seconds = micros / 1_000_000
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """A number of bytes.

    >>> size(512), size(2_000_000)
    ('512 B', '1.9 MiB')
    """
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without side lines; long names go on in the next line rather than being cut."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    table.title = title
    for column in table.columns:
        column.overflow = "fold"
    return table
