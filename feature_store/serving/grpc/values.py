"""Values and columns as the messages that carry them, both ways: for the server, and for clients in Python."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from feature_store.errors import InputError
from feature_store.serving.grpc.v1.features_pb2 import ListValue, Value, Values
from feature_store.time_rule import from_us, to_us

_DAY_0 = date(1970, 1, 1)

_FIELDS: Mapping[type, str] = {
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
    str: "string_value",
    datetime: "timestamp_us",
    date: "date_days",
    bytes: "bytes_value",
}
"""Of `Value`, for each type."""
_AS_THEY_ARE = frozenset(_FIELDS.values()) - {"timestamp_us", "date_days"}
_TYPES = {name: kind for kind, name in _FIELDS.items()}
_COLUMNS: Mapping[str, tuple[str, type]] = {
    "int": ("ints", int),
    "float": ("doubles", float),
    "bool": ("bools", bool),
    "str": ("strings", str),
    "timestamp": ("timestamps_us", datetime),
    "date": ("dates_days", date),
    "bytes": ("bytes_values", bytes),
}
"""Of `Values`, for each kind of feature or key."""
_COLUMN_TYPES = dict(_COLUMNS.values())


def put_value(into: Value, value: object) -> None:
    """Write a value; None leaves nothing set.

    Raises:
        InputError: it is of a type that no message has.
    """
    field = _FIELDS.get(type(value))
    if field is not None:
        try:
            setattr(into, field, value if field in _AS_THEY_ARE else _plain(value))
        except ValueError:  # beyond 64 bits
            raise _misfit(value) from None
    elif type(value) is list:
        into.list_value.values.extend([value_of(each) for each in value])
        into.list_value.SetInParent()
    elif value is not None:
        raise _misfit(value)


def value_of(value: object) -> Value:
    """A value as a message of its own."""
    made = Value()
    put_value(made, value)
    return made


def python_value(value: Value) -> object:
    """The value in a message; None if nothing is set.

    Raises:
        InputError: a time or date beyond those that Python has.
    """
    field = value.WhichOneof("kind")
    if field is None:
        return None
    if field == "list_value":
        return [python_value(each) for each in value.list_value.values]
    return _of(_TYPES[field], getattr(value, field))


def column_of(name: str, kind: str, values: Sequence[object]) -> Values:
    """A column.

    Args:
        name: of the feature, for errors.
        kind: as `FeatureVector.kinds` says.
        values: one for each row.

    Raises:
        InputError: a value, such as a default, is of another kind.
    """
    made = Values(nulls=[row for row, value in enumerate(values) if value is None])
    some = [value for value in values if value is not None]
    try:
        if kind.startswith("list"):
            made.lists.values.extend([ListValue(values=map(value_of, value)) for value in some])  # type: ignore[call-overload]
            made.lists.SetInParent()
        else:
            field, of = _COLUMNS[kind]
            column = getattr(made, field)
            column.values.extend(map(_plain, some) if of in (datetime, date) else some)
            column.SetInParent()  # also without a value a column has a kind
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"feature '{name}' is declared as {kind}, and one of its values or its default is not: {error}"
        ) from None
    return made


def python_column(values: Values) -> list[object]:
    """The values of a column, None for null.

    Raises:
        InputError: the positions of its nulls are none, or a time is beyond those that Python has.
    """
    field = values.WhichOneof("kind")
    some: Iterable[object] = ()
    if field == "lists":
        some = [[python_value(each) for each in one.values] for one in values.lists.values]
    elif field is not None:
        some = getattr(values, field).values
        of = _COLUMN_TYPES[field]
        some = [_of(of, each) for each in some] if of in (datetime, date) else some
    column, nulls = list(some), values.nulls
    if not nulls:
        return column
    total = len(column) + len(nulls)
    if nulls[-1] >= total or any(left >= right for left, right in itertools.pairwise(nulls)):
        raise InputError(
            f"`nulls` must be positions among {total} rows, each greater than the one before it, got {list(nulls[:20])}"
        )
    rest, empty = iter(column), set(nulls)
    return [None if row in empty else next(rest) for row in range(total)]


def _misfit(value: object) -> InputError:
    return InputError(
        f"a value must be a boolean, an integer of 64 bits, a float, text, a time, a date or bytes, got {value!r}"
    )


def _plain(value: Any) -> Any:
    """As it stands in a message."""
    if isinstance(value, datetime):
        return to_us(value)
    return (value - _DAY_0).days if isinstance(value, date) else value


def _of(kind: type, plain: Any) -> object:
    """What stands in a message, as a value of its type."""
    convert = _CONVERT.get(kind)
    try:
        return plain if convert is None else convert(plain)
    except OverflowError:
        raise InputError(f"a time must lie in the years 1 to 9999, got {plain}") from None


def _day(days: int) -> date:
    return _DAY_0 + timedelta(days=days)


_CONVERT: Mapping[type, Callable[[int], object]] = {datetime: from_us, date: _day}
