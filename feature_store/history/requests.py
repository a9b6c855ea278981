"""Columns of a request as they stand in a spine or in a record: the rule of `computed.kinds.of_kind` for Arrow columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.computed.kinds import Kind
from feature_store.declare.computed import RequestInput
from feature_store.errors import InputError
from feature_store.history.columns import shown_as

_WHOLE = 2**53


def request_column(table: pa.Table, asked: RequestInput, *, of: str) -> pa.Array:
    """A column of the request, of its kind's type; `of` says what has it, for errors. NaN and infinite numbers are null.

    Raises:
        InputError: it is missing and has no default, or is of another type.
    """
    wanted = shown_as(asked.kind)
    if asked.column not in table.schema.names:
        if asked.default is None:
            raise InputError(
                f"{of} needs the column '{asked.column}' ({asked.kind}) for an on-demand feature, got {', '.join(table.schema.names)}"
            )
        return pa.array([asked.default] * table.num_rows, type=wanted)
    column = table.column(asked.column).combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        column = pa.nulls(len(column), type=wanted)
    try:
        found = _converted(column, asked.kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, InputError) as error:
        raise InputError(f"{of} column '{asked.column}' must be {asked.kind}: {error}") from error
    return found if asked.default is None else pc.fill_null(found, pa.scalar(asked.default, type=wanted))


def _converted(column: pa.Array, kind: Kind) -> pa.Array:
    given, types, wanted = column.type, pa.types, shown_as(kind)
    if types.is_floating(given) and kind in ("int", "float"):
        finite = pc.fill_null(pc.is_finite(column), False)
        column = pc.if_else(finite, column, pa.scalar(None, type=given))
        return column.cast(wanted) if kind == "float" else _whole(column)
    if types.is_integer(given) and kind in ("int", "float"):
        return column.cast(wanted, safe=kind == "int")
    if types.is_timestamp(given) and given.tz is not None and kind == "timestamp":
        micros = pc.floor_temporal(column, unit="microsecond") if given.unit == "ns" else column
        return micros.cast(pa.timestamp("us", tz=given.tz)).cast(wanted)
    if types.is_timestamp(given) and given.tz is None and kind == "date":
        days = column.cast(pa.date32())
        if not pc.all(pc.fill_null(pc.equal(days.cast(given), column), True)).as_py():
            raise InputError("the values have a time of day")
        return days
    fitting = {
        "bool": types.is_boolean,
        "date": types.is_date,
        "str": lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
    }
    if kind in fitting and fitting[kind](given):
        return column.cast(wanted)
    raise InputError(f"the values are {given}")


def _whole(column: pa.Array) -> pa.Array:
    fits = pc.and_(pc.equal(pc.floor(column), column), pc.less_equal(pc.abs(column), _WHOLE))
    wrong = column.filter(pc.invert(pc.fill_null(fits, True)))
    if len(wrong):
        raise InputError(f"got {wrong[0].as_py()!r}")
    return column.cast(pa.int64())
