"""JSON objects as rows, decoded by msgspec into structs that are made from the columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from feature_store.decoders.columns import decoded, with_unknown
from feature_store.decoders.paths import Fields, Path, column_paths, declared_fields, nested, tree
from feature_store.decoders.protocol import ROW, Decoded, Rejected, UnknownFields, checked_choice
from feature_store.decoders.values import plain, refuse_naive
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FLOAT32_MAX = 3.4028234663852886e38

# What a payload can do to msgspec: malformed, of another shape, not UTF-8, nested too deeply.
_BAD_PAYLOAD = (ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class JsonDecoder:
    """One JSON object per payload.

    Types are strict: `"1"` and `1.0` are no integers, NaN and Infinity no numbers. Times are ISO 8601 with a zone.
    A column that may be null may be missing, and so may what it lies in.
    """

    fields: Fields = ()
    """See `json`."""
    unknown_fields: str = "ignore"

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`."""
        shape = _shape(schema, self.fields, self.unknown_fields == "reject")
        decode = msgspec.json.Decoder(shape.row_type).decode
        rejected: list[Rejected] = []
        try:
            rows, kept = list(map(decode, payloads)), list(range(len(payloads)))
        except _BAD_PAYLOAD:
            rows, kept = _each(decode, payloads, rejected)
        columns: dict[int, list[object]] = {}
        shape.collect(rows, columns)
        paths = column_paths(schema, self.fields)
        values = [columns[n] for n in range(len(paths))]
        found = decoded(values, kept, schema=schema, paths=paths, rejected=rejected)
        return found if self.unknown_fields != "keep" else _with_unknown(found, payloads, paths)

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`. NaN becomes null."""
        encode = msgspec.json.Encoder(enc_hook=plain).encode
        payloads = []
        for index, row in enumerate(rows):
            refuse_naive(row, index)
            try:
                payloads.append(encode(nested(row, self.fields)))
            except (TypeError, ValueError) as error:
                raise InputError(f"row {index} is no JSON object: {error}") from error
        return payloads


def json(*, fields: Mapping[str, str] | None = None, unknown_fields: UnknownFields = "ignore") -> JsonDecoder:
    """The decoder of JSON objects.

    Args:
        unknown_fields: what becomes of fields that no column comes from: `ignore`; `reject` the payload; `keep` them
            beside the event in the lake, where a column that is declared later finds them.
        fields: column -> dotted path in the object, `{"amount": "payment.amount.value"}`; any other column comes from
            the field of its own name. Where something on the way is missing or null, the column is null.
    """
    return JsonDecoder(declared_fields(fields), checked_choice(unknown_fields))


def _with_unknown(found: Decoded, payloads: Sequence[bytes], paths: Sequence[Path]) -> Decoded:
    """What was decoded with the rest of each payload, its values as they were written."""
    known = tree(paths)
    rests = {row: _rest(payloads[row], known) for row in found.table.column(ROW).to_pylist()}
    return with_unknown(found, rests)


def _rest(payload: bytes | msgspec.Raw, known: Mapping[str, Any]) -> bytes | None:
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:  # null where an object may be
        return None
    rest = {}
    for name, value in fields.items():
        inner = known.get(name)
        left = value if inner is None else _rest(value, inner) if isinstance(inner, dict) else None
        if left is not None:
            rest[name] = msgspec.Raw(left)
    return msgspec.json.encode(rest) if rest else None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """An object of the payload: its struct, and which of its attributes are columns and which are objects again."""

    row_type: type[msgspec.Struct]
    columns: Sequence[int]
    inner: Mapping[str, _Shape]
    """Attribute -> the object there."""
    required: bool

    def collect(self, rows: Sequence[msgspec.Struct], into: dict[int, list[object]]) -> None:
        """Put the columns' values into `into`."""
        for number in self.columns:
            into[number] = list(map(operator.attrgetter(f"c{number}"), rows))
        for attribute, shape in self.inner.items():
            objects = list(map(operator.attrgetter(attribute), rows))
            if not shape.required and None in objects:
                empty = shape.row_type()
                objects = [empty if one is None else one for one in objects]
            shape.collect(objects, into)


@lru_cache(maxsize=256)
def _shape(schema: pa.Schema, fields: Fields, strict: bool) -> _Shape:
    return _object(tree(column_paths(schema, fields)), schema, strict=strict)


def _object(tree: Mapping[str, Any], schema: pa.Schema, *, strict: bool) -> _Shape:
    """A struct with attributes `c0`, `c1`, ... for columns and `o0`, `o1`, ... for objects: names need not be identifiers."""
    fields: list[tuple[str, object] | tuple[str, object, object]] = []
    names: dict[str, str] = {}
    columns: list[int] = []
    inner: dict[str, _Shape] = {}
    for name, node in tree.items():
        if isinstance(node, dict):
            attribute = f"o{len(inner)}"
            inner[attribute] = shape = _object(node, schema, strict=strict)
            kind, required = shape.row_type, shape.required
        else:
            attribute, field = f"c{node}", schema.field(node)
            columns.append(node)
            kind, required = _json_type(field), not field.nullable
        fields.append((attribute, kind) if required else (attribute, kind | None, None))
        names[attribute] = name
    row_type = msgspec.defstruct("Row", fields, rename=names, kw_only=True, gc=False, forbid_unknown_fields=strict)
    return _Shape(row_type=row_type, columns=columns, inner=inner, required=any(len(field) == 2 for field in fields))


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
