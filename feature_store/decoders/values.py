"""Values to encode: what NumPy and pandas hold, as plain Python; times with a zone only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import cast

from feature_store.errors import InputError

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, Decimal, date, datetime, time, list, dict})


def refuse_naive(row: Mapping[str, object], index: int) -> None:
    """Raises InputError for a time without a zone."""
    for name, value in row.items():
        if isinstance(value, datetime) and value.tzinfo is None and not _is_missing(value):
            raise InputError(f"row {index}: `{name}` must be a time with a zone, got '{value.isoformat()}'")


def plain(value: object) -> object:
    """What a NumPy or pandas value holds.

    Raises:
        TypeError: it holds nothing that a payload could.
    """
    if _is_missing(value):
        return None
    for name in ("to_pydatetime", "tolist"):
        convert = getattr(value, name, None)
        if callable(convert):
            return cast("object", convert())
    raise TypeError(f"{type(value).__name__} values have no JSON form")


def plain_row(row: Mapping[str, object], index: int) -> dict[str, object]:
    """A row of plain Python values.

    Raises:
        InputError: a value that is none and holds none, or a time without a zone; names row and column.
    """
    refuse_naive(row, index)
    values = {}
    for name, value in row.items():
        try:
            values[name] = value if type(value) in _PLAIN else plain(value)
        except TypeError:
            raise InputError(f"row {index}: `{name}` must be a plain value, got {type(value).__name__}") from None
    return values


def _is_missing(value: object) -> bool:
    return type(value).__name__ in {"NAType", "NaTType"}  # pandas' own, known without importing it
