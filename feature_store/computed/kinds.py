"""What values are: the six kinds, as Python values, and as the NumPy columns that functions take and return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from feature_store.errors import InputError, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[Any]
    Bools = NDArray[np.bool_]

Kind = Literal["int", "float", "bool", "str", "timestamp", "date"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LIST = "list of "
"""Stands before the kind of the elements."""

_TYPES: Mapping[object, Kind] = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    datetime: "timestamp",
    date: "date",
}
_DTYPES: Mapping[str, str] = {
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "timestamp": "datetime64[us]",
    "date": "datetime64[D]",
}
KINDS_NAMED: Mapping[Kind, str] = {
    "int": "an integer of 64 bits",
    "float": "a number",
    "bool": "a boolean",
    "str": "text",
    "timestamp": "a datetime with a time zone",
    "date": "a date",
}
_EXACT = 2**53
"""Whole floats up to here are exact; pandas makes floats of integers with nulls."""


def kind_of(declared: object, *, name: str) -> Kind:
    """The kind that a Python type names: int, float, bool, str, datetime or date.

    Raises:
        InputError: another type; says where it stands.
    """
    kind = _TYPES.get(declared)
    if kind is None:
        raise InputError(f"{name} must be int, float, bool, str, datetime or date, got {declared!r}")
    return kind


def plain(value: object) -> object:
    """A value without NumPy and pandas around it; None for any null."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and getattr(value, "shape", None) == ():
        # A time in nanoseconds would become an integer.
        value = cast("Any", value).astype(f"{dtype.kind}8[us]" if dtype.kind in "mM" else dtype).item()
    try:
        is_null = value is None or bool(value != value)  # noqa: PLR0124 - NaN and NaT are not themselves
    except TypeError:
        is_null = True  # pandas.NA does not say
    except ValueError:
        is_null = False  # an array
    return None if is_null else value


def of_kind(value: object, kind: Kind) -> object:
    """A value of a request as one of its kind; None for null, which an infinite number is too.

    Times are in UTC, by whole microseconds.

    >>> of_kind(3, "float"), of_kind(7.0, "int"), of_kind(float("nan"), "float")
    (3.0, 7, None)

    Raises:
        InputError: it is of another kind.
    """
    bare = plain(value)
    if bare is None:
        return None
    found = _CONVERTED[kind](bare)
    if found is None:
        raise InputError(f"must be {KINDS_NAMED[kind]}, got {shown(value)}")
    return None if isinstance(found, float) and not math.isfinite(found) else found


def _whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value if isinstance(value, int) and type(value) is not bool and -(2**63) <= value < 2**63 else None


def _number(value: object) -> float | None:
    if type(value) is bool or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _time(value: object) -> datetime | None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    try:
        value = value.astimezone(UTC)
    except OverflowError:  # in the year 0 or 10000
        return None
    # Those of pandas have nanoseconds, which are rounded down.
    return datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, tzinfo=UTC
    )


def _day(value: object) -> date | None:
    if isinstance(value, datetime):
        midnight = value.tzinfo is None and value == datetime(value.year, value.month, value.day)  # noqa: DTZ001
        return value.date() if midnight else None
    return value if isinstance(value, date) else None


_CONVERTED: Mapping[Kind, Any] = {
    "int": _whole,
    "float": _number,
    "bool": lambda value: value if isinstance(value, bool) else None,
    "str": lambda value: str(value) if isinstance(value, str) else None,
    "timestamp": _time,
    "date": _day,
}


def column_of(kind: str, values: Sequence[Any]) -> Column:
    """Values, none of them null, as the column that a function takes.

    int64, float64, bool, datetime64[us], datetime64[D]; text and lists are objects.
    """
    import numpy as np

    if kind == "timestamp":
        return np.array([value.replace(tzinfo=None) for value in values], dtype="datetime64[us]")
    dtype = _DTYPES.get(kind)
    if dtype is not None:
        return np.array(values, dtype=dtype)
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        column[i] = value
    return column


def blank(kind: str, rows: int) -> Column:
    """A column without meaning, of a kind."""
    import numpy as np

    return np.zeros(rows, dtype=_DTYPES.get(kind, "object"))


def values_of(kind: Kind, column: Column) -> list[Any]:
    """The values of a column that a function has returned; where it is null, anything."""
    values: list[Any] = column.tolist()
    if kind != "timestamp":
        return values
    return [value.replace(tzinfo=UTC) if isinstance(value, datetime) else None for value in values]


def checked(result: object, kind: Kind, *, rows: int) -> tuple[Column, Bools]:
    """What a function has returned, as a column of its kind, and where it is null: NaN, infinite, None, NaT, a year
    that Python does not have, or masked.

    Raises:
        InputError: it is no column of that many rows, or of another kind.
    """
    import numpy as np

    column = np.asarray(result)
    if column.shape != (rows,):
        shape = f"shape {column.shape}" if column.ndim else f"the single value {result!r}"
        raise InputError(f"must return a column of {rows} value{'s' if rows != 1 else ''}, got {shape}")
    masked = np.ma.getmaskarray(result) if isinstance(result, np.ma.MaskedArray) else None
    if column.dtype == object:
        none = np.fromiter((plain(value) is None for value in column), dtype=bool, count=rows)
        masked = none if masked is None else masked | none
        column = _of_objects(column, masked, kind)
    if column.dtype.kind not in _FITTING[kind]:
        raise InputError(f"must return {kind}, got {column.dtype}")
    typed = _typed(column, masked, kind)
    null = _null(typed, kind)
    return typed, null if masked is None else null | masked


_FITTING: Mapping[Kind, str] = {"int": "iu", "float": "fiub", "bool": "b", "str": "OUT", "timestamp": "M", "date": "M"}
"""The kinds of dtypes of which a column may be."""


def _of_objects(column: Column, masked: Bools, kind: Kind) -> Column:
    """Objects as a column of their own type: None makes no float of an integer."""
    import numpy as np

    found = blank(kind, len(column))
    for i in np.flatnonzero(~masked).tolist():
        value = of_kind(column[i], kind)
        if isinstance(value, datetime):
            value = value.replace(tzinfo=None)
        found[i] = math.nan if value is None else value  # an infinite number
    return found


def _typed(column: Column, masked: Bools | None, kind: Kind) -> Column:
    import numpy as np

    if kind == "str":
        column = column.astype(object)
        for i, text in enumerate(column):
            if type(text) is not str and (masked is None or not masked[i]):
                raise InputError(f"must return str, got {text!r}")
        return column
    if column.dtype.kind == "u" and kind == "int" and (column > np.iinfo(np.int64).max).any():
        raise InputError(f"must return an integer of 64 bits, got {column.max()}")
    return column.astype(_DTYPES[kind], copy=False)


def _null(column: Column, kind: Kind) -> Bools:
    """Where a column has a value of its kind that counts as none."""
    import numpy as np

    if kind == "float":
        return ~np.isfinite(column)
    if kind in ("timestamp", "date"):
        # Comparisons with NaT are false.
        return ~((column >= np.datetime64("0001-01-02")) & (column < np.datetime64("9999-12-31")))
    return np.zeros(len(column), dtype=bool)
