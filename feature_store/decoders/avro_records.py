"""Avro records as rows, decoded by fastavro."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal

from feature_store.decoders.avro_schema import (
    AvroSchema,
    Misfit,
    avro_kind,
    avro_library,
    declared_schema,
    fitting_paths,
    load_schema,
    schema_text,
)
from feature_store.decoders.columns import decoded, with_unknown
from feature_store.decoders.paths import Fields, Path, declared_fields, nested, tree
from feature_store.decoders.protocol import Decoded, Rejected, checked_choice
from feature_store.decoders.values import plain_row
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

# What a payload can do to fastavro: end too early, say a length, a union branch or a value that cannot be.
_BAD_RECORD = (
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    TypeError,
    ArithmeticError,
    struct.error,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True, slots=True, repr=False)
class AvroDecoder:
    """One Avro record per payload: its bytes alone, all written by one schema."""

    schema: str | FilePath
    """The schema that the payloads were written by: JSON text, or the path of a file."""
    reader_schema: str | FilePath | None = None
    fields: Fields = ()
    unknown_fields: str = "ignore"

    def __repr__(self) -> str:
        options = "" if self.reader_schema is None else f", reader_schema={said_schema(self.reader_schema)}"
        options += f", fields={dict(self.fields)}" if self.fields else ""
        return f"avro(schema={said_schema(self.schema)}{options})"

    @property
    def written_by(self) -> str:
        """A fingerprint of the writer's schema: without a header, nothing else says how the bytes are read."""
        fastavro = avro_library()
        form = fastavro.schema.to_parsing_canonical_form(json.loads(schema_text(self.schema)))
        return str(fastavro.schema.fingerprint(form, "CRC-64-AVRO"))

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`."""
        writer = load_schema(self.schema)
        reader = None if self.reader_schema is None else load_schema(self.reader_schema)
        try:
            paths = fitting_paths(reader or writer, schema, self.fields)
        except Misfit as error:
            raise InputError(str(error)) from error
        rejected: list[Rejected] = []
        rows, kept = read_records(enumerate(payloads), writer, reader, rejected)
        columns = record_columns(rows, paths, reader or writer)
        found = decoded(columns, kept, schema=schema, paths=paths, rejected=rejected)
        if self.unknown_fields != "keep":
            return found
        return with_unknown(found, kept_rests([(n, payloads[n]) for n in kept], rows, paths, writer, reader))

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`. A column that the row does not have becomes the field's default."""
        return write_records(rows, load_schema(self.schema), self.fields)


def avro(
    *,
    schema: Mapping[str, object] | str | FilePath,
    reader_schema: Mapping[str, object] | str | FilePath | None = None,
    fields: Mapping[str, str] | None = None,
    unknown_fields: Literal["ignore", "keep"] = "ignore",
) -> AvroDecoder:
    """The decoder of plain Avro records, without a header; for those of a schema registry see `confluent_avro`.

    Args:
        schema: what the payloads were written by: a mapping, JSON text, or the path of a file, read when it is first used.
        reader_schema: what they are read as, by Avro's rules of resolution: defaults, wider types, aliases.
        fields: column -> dotted path in the record, `{"amount": "payment.amount.value"}`; any other column comes from the
            field of its own name. Where something on the way is null, the column is null.
        unknown_fields: what becomes of fields of `schema` that no column comes from: `ignore`, or `keep` them as in `json`.
            Since every payload has them, they cannot be rejected.
    """
    return AvroDecoder(
        declared_schema(schema),
        None if reader_schema is None else declared_schema(reader_schema),
        declared_fields(fields),
        checked_choice(unknown_fields, among=("ignore", "keep"), why="every payload has all fields of `schema`"),
    )


def said_schema(schema: str | FilePath) -> str:
    """A schema in a line: the path of its file, or the name of its record."""
    return repr(str(schema)) if isinstance(schema, FilePath) else f"<{load_schema(schema).name}>"


def read_records(
    payloads: Iterable[tuple[int, bytes]],
    writer: AvroSchema,
    reader: AvroSchema | None,
    rejected: list[Rejected],
    *,
    start: int = 0,
    source: str = "",
) -> tuple[list[Mapping[str, Any]], list[int]]:
    """The records of numbered payloads, which begin at byte `start`, and the numbers of those that could be read.

    `source` stands before each reason.
    """
    fastavro = avro_library()
    read, bad = fastavro.schemaless_reader, (*_BAD_RECORD, fastavro.read.SchemaResolutionError)
    written, wanted = writer.parsed, None if reader is None else reader.parsed
    name = f"{source}no Avro record of schema '{writer.name}'"
    rows, kept = [], []
    for index, payload in payloads:
        stream = BytesIO(payload)
        if start:
            stream.seek(start)
        try:
            row = read(stream, written, wanted)
        except bad as error:
            rejected.append(Rejected(index, f"{name}: {_reason(error)}"))
            continue
        left = len(payload) - stream.tell()
        if left:
            rejected.append(Rejected(index, f"{name}: {left} bytes are left over"))
            continue
        rows.append(row)
        kept.append(index)
    return rows, kept


def _reason(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def record_columns(
    rows: Sequence[Mapping[str, Any]], paths: Sequence[Path | None], avro: AvroSchema
) -> list[list[object]]:
    """The values of each column; null where it has no path."""
    levels: dict[Path, Sequence[Mapping[str, Any] | None]] = {(): rows}
    columns: list[list[object]] = []
    for path in paths:
        if path is None:
            columns.append([None] * len(rows))
            continue
        for end in range(1, len(path)):
            if path[:end] not in levels:
                levels[path[:end]] = _inside(levels[path[: end - 1]], path[end - 1])
        values = _inside(levels[path[:-1]], path[-1])
        for branch in avro.branches(avro.leaf(path)):
            values = _checked(values, branch)
        columns.append(values)
    return columns


def kept_rests(
    payloads: Sequence[tuple[int, bytes]],
    rows: Sequence[Mapping[str, Any]],
    paths: Sequence[Path],
    writer: AvroSchema,
    reader: AvroSchema | None,
    *,
    start: int = 0,
) -> dict[int, bytes | None]:
    """By number, what a record was written with and no column comes from, as JSON: times in ISO 8601, bytes in base64.

    Args:
        payloads: numbered, those that could be read.
        rows: what was read from them.
        paths: of the columns.
        writer: what they were written by.
        reader: what they were read as, if that is something else.
        start: the byte at which a record begins.
    """
    import msgspec

    if reader is not None:
        rows, _ = read_records(payloads, writer, None, [], start=start)
    known = tree(paths)
    for field in () if reader is None else reader.parsed["fields"]:
        if field["name"] in known:
            known |= dict.fromkeys(field.get("aliases", ()), known[field["name"]])
    rests = ((number, _rest(row, known)) for (number, _), row in zip(payloads, rows, strict=True))
    return {number: msgspec.json.encode(rest, enc_hook=str) if rest else None for number, rest in rests}


def _rest(row: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, object]:
    rest: dict[str, object] = {}
    for name, value in row.items():
        inner = known.get(name)
        left = value if inner is None else _rest(value, inner) if isinstance(inner, dict) and value else None
        if left not in (None, {}):
            rest[name] = left
    return rest


def _checked(values: list[Any], branch: Any) -> list[Any]:
    """The values of a type as Arrow takes them; what fastavro has changed in reading becomes text, which no column takes."""
    kind = avro_kind(branch)
    if kind == "string-uuid":
        return [None if value is None else str(value) for value in values]
    if kind.endswith("-decimal"):  # digits beyond the precision are rounded away, which shows in the exponent
        exponent = -branch.get("scale", 0)
        return [one if one is None or one.as_tuple().exponent == exponent else str(one) for one in values]
    return values


def _inside(rows: Sequence[Mapping[str, Any] | None], name: str) -> list[Any]:
    get: Callable[[Any], Any] = itemgetter(name)
    try:
        return list(map(get, rows))
    except (TypeError, KeyError):  # null on the way, or a map without the key
        return [None if row is None else row.get(name) for row in rows]


def write_records(
    rows: Iterable[Mapping[str, object]], avro: AvroSchema, fields: Fields, *, head: bytes = b""
) -> list[bytes]:
    """Rows as payloads, each after `head`.

    Raises:
        InputError: a value has no place in the schema; names row and column.
    """
    fastavro = avro_library()
    payloads = []
    for index, row in enumerate(rows):
        record, stream = nested(plain_row(row, index), fields), BytesIO()
        stream.write(head)
        try:  # the writer alone writes an `int` of any size, and its errors do not name the field
            fastavro.validation.validate(record, avro.parsed)
            fastavro.schemaless_writer(stream, avro.parsed, record, strict_allow_default=True)
        except fastavro.validation.ValidationError as error:
            why = "; ".join(map(str, error.errors))
            raise InputError(f"row {index} is no Avro record of schema '{avro.name}': {why}") from error
        except _BAD_RECORD as error:
            why = f"{_culprit(record, avro)}{error}"
            raise InputError(f"row {index} is no Avro record of schema '{avro.name}': {why}") from error
        payloads.append(stream.getvalue())
    return payloads


def _culprit(record: Mapping[str, object], avro: AvroSchema) -> str:
    """The first field that cannot be written, as far as it can be written alone."""
    fastavro = avro_library()
    for field in avro.parsed["fields"]:
        try:
            fastavro.schemaless_writer(BytesIO(), field["type"], record.get(field["name"], field.get("default")))
        except fastavro.schema.UnknownType:  # the name of a type that another field defines
            continue
        except _BAD_RECORD:
            return f"`{field['name']}`: "
    return ""
