"""How a log record's payload becomes a row, and a row a payload. A payload that does not fit costs only itself."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, cast

import msgspec

from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

ROW = "_row"
"""The column of a decoded table that says which payload a row came from."""

FLOAT32_MAX = 3.4028234663852886e38

# What a payload can do to msgspec: malformed, of another shape, not UTF-8, nested too deeply.
_BAD_PAYLOAD = (ValueError, RecursionError)
# What a value can do to Arrow; its own errors are of these.
_BAD_VALUE = (ValueError, TypeError, OverflowError)


class Rejected(NamedTuple):
    """A payload that is no row of the source."""

    row: int
    """Its index in the payloads."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What came of some payloads: each is either a row of `table` or in `rejected`."""

    table: pa.Table
    """The schema's columns, and `_row`, the index of the payload (int64)."""
    rejected: Sequence[Rejected]


class Decoder(Protocol):
    """The format of a source's payloads: a frozen value, so that it can be part of a declaration."""

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """Payloads as rows of `schema`, in order."""

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """Rows as payloads, in order.

        Raises:
            InputError: a value has no place in this format; names row and column.
        """


@dataclass(frozen=True, slots=True)
class JsonDecoder:
    """One JSON object per payload.

    Types are strict: `"1"` and `1.0` are no integers, NaN and Infinity no numbers. Times are ISO 8601 with a zone.
    A column that may be null may be missing; fields that the schema does not know are ignored.
    """

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`."""
        row_type = _row_type(schema)
        decode = msgspec.json.Decoder(row_type).decode
        rejected: list[Rejected] = []
        try:
            rows, kept = list(map(decode, payloads)), list(range(len(payloads)))
        except _BAD_PAYLOAD:
            rows, kept = _each(decode, payloads, rejected)
        return _table(rows, kept, schema, rejected)

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`. NaN becomes null."""
        encode = msgspec.json.Encoder(enc_hook=_plain).encode
        payloads = []
        for index, row in enumerate(rows):
            _refuse_naive(row, index)
            try:
                payloads.append(encode(row))
            except (TypeError, ValueError) as error:
                raise InputError(f"row {index} is no JSON object: {error}") from error
        return payloads


def json() -> JsonDecoder:
    """The decoder of JSON objects."""
    return JsonDecoder()


def _each(
    decode: Callable[[bytes], msgspec.Struct], payloads: Sequence[bytes], rejected: list[Rejected]
) -> tuple[list[msgspec.Struct], list[int]]:
    rows, kept = [], []
    for index, payload in enumerate(payloads):
        try:
            rows.append(decode(payload))
            kept.append(index)
        except _BAD_PAYLOAD as error:
            rejected.append(Rejected(index, str(error)))
    return rows, kept


def _table(rows: Sequence[msgspec.Struct], kept: Sequence[int], schema: pa.Schema, rejected: list[Rejected]) -> Decoded:
    """Rows as columns. A value that JSON can say and the column cannot hold rejects its row."""
    import pyarrow as pa

    full = schema.append(pa.field(ROW, pa.int64(), nullable=False))
    try:
        return Decoded(table=_columns(rows, kept, full), rejected=rejected)
    except _BAD_VALUE:
        unfit = _unfit(rows, schema)
        fit = [n for n in range(len(rows)) if n not in unfit]
        rejected += [Rejected(kept[n], reason) for n, reason in unfit.items()]
        table = _columns([rows[n] for n in fit], [kept[n] for n in fit], full)
        return Decoded(table=table, rejected=sorted(rejected))


def _columns(rows: Sequence[msgspec.Struct], kept: Sequence[int], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    *columns, row = schema
    arrays = [pa.array(map(_column(n), rows), field.type, size=len(rows)) for n, field in enumerate(columns)]
    return pa.Table.from_arrays([*arrays, pa.array(kept, row.type)], schema=schema)


def _unfit(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> dict[int, str]:
    """The rows with a value that its column cannot hold, each with the reason."""
    import pyarrow as pa

    reasons: dict[int, str] = {}
    for number, field in enumerate(schema):
        for index, value in enumerate(map(_column(number), rows)):
            try:
                pa.array([value], field.type)
            except _BAD_VALUE as error:
                reasons.setdefault(index, f"{error} - at `$.{field.name}`")
    return reasons


def _column(number: int) -> Callable[[msgspec.Struct], object]:
    return operator.attrgetter(f"c{number}")


@lru_cache(maxsize=256)
def _row_type(schema: pa.Schema) -> type[msgspec.Struct]:
    """A struct with one attribute per column: `c0`, `c1`, ..., because column names need not be identifiers."""
    fields: list[tuple[str, object] | tuple[str, object, object]] = []
    for number, field in enumerate(schema):
        kind = _json_type(field)
        fields.append((f"c{number}", kind | None, None) if field.nullable else (f"c{number}", kind))
    names = {f"c{number}": field.name for number, field in enumerate(schema)}
    return msgspec.defstruct("Row", fields, rename=names, kw_only=True, gc=False)


def _json_type(field: pa.Field) -> Any:
    """The Python type that msgspec decodes a column's values to.

    Raises:
        InputError: the column's type has no JSON form.
    """
    import pyarrow as pa

    kind = field.type
    if pa.types.is_integer(kind):
        return _integer_type(kind)
    if pa.types.is_float32(kind):  # Arrow would make infinity of what is beyond
        return Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
    if pa.types.is_timestamp(kind):
        return Annotated[datetime, msgspec.Meta(tz=kind.tz is not None)]
    if pa.types.is_dictionary(kind):
        return _json_type(field.with_type(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _json_type(kind.value_field)
        return list[item | None] if kind.value_field.nullable else list[item]  # type: ignore[valid-type]
    for matches, python_type in (
        (pa.types.is_float64, float),
        (pa.types.is_boolean, bool),
        (pa.types.is_string, str),
        (pa.types.is_large_string, str),
        (pa.types.is_decimal, Decimal),
        (pa.types.is_date, date),
        (pa.types.is_time, time),
        (pa.types.is_binary, bytes),
    ):
        if matches(kind):
            return python_type
    raise InputError(f"column '{field.name}' has type {kind}, which JSON payloads cannot carry")


def _integer_type(kind: pa.DataType) -> Any:
    import pyarrow as pa

    if pa.types.is_signed_integer(kind):
        bound = 1 << kind.bit_width - 1
        return Annotated[int, msgspec.Meta(ge=-bound, le=bound - 1)]
    if kind.bit_width == 64:  # msgspec's bounds are signed; Arrow refuses what is too large
        return Annotated[int, msgspec.Meta(ge=0)]
    return Annotated[int, msgspec.Meta(ge=0, le=(1 << kind.bit_width) - 1)]


def _refuse_naive(row: Mapping[str, object], index: int) -> None:
    for name, value in row.items():
        if isinstance(value, datetime) and value.tzinfo is None and not _is_missing(value):
            raise InputError(f"row {index}: `{name}` must be a time with a zone, got '{value.isoformat()}'")


def _plain(value: object) -> object:
    """What msgspec can encode in place of a NumPy or pandas value."""
    if _is_missing(value):
        return None
    for name in ("to_pydatetime", "tolist"):
        convert = getattr(value, name, None)
        if callable(convert):
            return cast("object", convert())
    raise TypeError(f"{type(value).__name__} values have no JSON form")


def _is_missing(value: object) -> bool:
    return type(value).__name__ in {"NAType", "NaTType"}  # pandas' own, known without importing it
