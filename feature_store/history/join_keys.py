"""Columns of join keys as the source has them: the rule of `declare.key` for whole Arrow columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.key import WHOLE_FLOAT, KeyKind, is_canonical
from feature_store.errors import InputError
from feature_store.schema import key_kind


def as_key(column: pa.ChunkedArray, wanted: pa.DataType, name: str, *, of: str = "spine") -> pa.ChunkedArray:
    """A column of join keys in the source's type; `of` says what has the column, for errors.

    Values of that kind keep their value. Those of another kind are taken if they have the same canonical text: whole
    floats for integers (pandas makes them of integers with nulls), text, midnights for dates. NaN is null.

    Raises:
        InputError: a value has no such text; names the column and the value.
    """
    column = _plain(column)
    if column.type == wanted:
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), type=wanted)])
    try:
        return _converted(column, wanted, key_kind(wanted))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, InputError) as error:
        raise InputError(f"{of} column '{name}' cannot be read as {wanted}: {error}") from error


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries, UUIDs as their text, NaN as null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column.type, pa.UuidType):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, type=pa.string())])
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, type=column.type), column)
    return column


def _converted(column: pa.ChunkedArray, wanted: pa.DataType, kind: KeyKind) -> pa.ChunkedArray:
    types, given = pa.types, column.type
    if types.is_string(given) or types.is_large_string(given) or types.is_string_view(given):
        return _from_text(column, wanted, kind)
    if kind == "int" and types.is_floating(given):
        _check(column, pc.and_(pc.equal(pc.floor(column), column), pc.less_equal(pc.abs(column), WHOLE_FLOAT)))
        return column.cast(pa.int64()).cast(wanted)
    if kind == "int" and types.is_decimal(given):
        return column.cast(pa.int64()).cast(wanted)
    if kind == "date" and types.is_timestamp(given) and given.tz is None:
        days = column.cast(pa.date32())
        _check(column, pc.equal(days.cast(given), column))
        return days
    has_text = types.is_integer(given) or types.is_boolean(given) or types.is_date(given)
    if (kind == "str" and has_text) or _is_kind(given, kind):
        return column.cast(wanted)
    raise InputError(f"the values are {given}")


def _is_kind(given: pa.DataType, kind: KeyKind) -> bool:
    types = pa.types
    if kind == "bytes":
        return any(
            is_a(given)
            for is_a in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
        )
    return bool(kind == "int" and types.is_integer(given))


def _from_text(column: pa.ChunkedArray, wanted: pa.DataType, kind: KeyKind) -> pa.ChunkedArray:
    if kind == "str":
        return column.cast(wanted)
    texts: list[str | None] = column.to_pylist()
    _check(column, pa.chunked_array([pa.array([text is None or is_canonical(text, kind) for text in texts])]))
    if kind != "bytes":
        return column.cast(wanted)
    values = [None if text is None else bytes.fromhex(text) for text in texts]
    return pa.chunked_array([pa.array(values, type=wanted)])


def _check(column: pa.ChunkedArray, fits: pa.ChunkedArray) -> None:
    """Refuse the first value that does not fit; a null always does."""
    wrong = column.filter(pc.invert(pc.fill_null(fits, True)))
    if len(wrong):
        raise InputError(f"got {wrong[0].as_py()!r}, which is not the canonical text of one")
