"""Avro records whose schema stands in a registry: byte 0, the schema's id in four bytes, the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from feature_store.decoders.avro_records import kept_rests, read_records, record_columns, said_schema, write_records
from feature_store.decoders.avro_schema import (
    AvroSchema,
    Misfit,
    Missing,
    declared_schema,
    fitting_paths,
    load_schema,
    schema_text,
)
from feature_store.decoders.columns import decoded, merged, with_unknown
from feature_store.decoders.paths import Fields, Path, column_paths, declared_fields
from feature_store.decoders.protocol import Decoded, Rejected, UnknownFields, checked_choice
from feature_store.decoders.schema_registry import SchemaRegistry
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = 5
"""Bytes before the record."""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ConfluentAvroDecoder:
    """One Avro record per payload, each after the id of the schema that it was written by."""

    registry: SchemaRegistry
    subject: str
    reader_schema: str | FilePath | None = None
    fields: Fields = ()
    register: bool = False
    unknown_fields: str = "ignore"

    def __repr__(self) -> str:
        options = "" if self.reader_schema is None else f", reader_schema={said_schema(self.reader_schema)}"
        options += f", fields={dict(self.fields)}" if self.fields else ""
        return f"confluent_avro(registry_url={self.registry.url!r}, subject={self.subject!r}{options})"

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`. Payloads of different schemas may be mixed; each schema is asked for once."""
        reader = None if self.reader_schema is None else load_schema(self.reader_schema)
        self._check(reader, schema)
        groups: dict[int, list[tuple[int, bytes]]] = {}
        rejected: list[Rejected] = []
        for index, payload in enumerate(payloads):
            if len(payload) < HEAD or payload[0]:
                rejected.append(Rejected(index, unframed(payload)))
            else:
                groups.setdefault(int.from_bytes(payload[1:HEAD], "big"), []).append((index, payload))
        rests: dict[int, bytes | None] = {}
        parts = [self._group(schema_id, group, reader, schema, rests) for schema_id, group in groups.items()]
        found = merged(parts, schema, rejected=rejected)
        return found if self.unknown_fields != "keep" else with_unknown(found, rests)

    def _check(self, reader: AvroSchema | None, schema: pa.Schema) -> None:
        column_paths(schema, self.fields)
        try:
            if reader is not None:
                fitting_paths(reader, schema, self.fields)
        except Misfit as error:
            raise InputError(str(error)) from error

    def refusals(self) -> list[str]:
        """What the registry has to say against `reader_schema`, by the compatibility of the subject."""
        if self.reader_schema is None:
            return []
        said = self.registry.refusals(self.subject, schema_text(self.reader_schema))
        return [f"`reader_schema` is not compatible with subject '{self.subject}': {message}" for message in said]

    def _group(
        self,
        schema_id: int,
        payloads: Sequence[tuple[int, bytes]],
        reader: AvroSchema | None,
        schema: pa.Schema,
        rests: dict[int, bytes | None],
    ) -> Decoded:
        """The payloads of one id; what no column comes from is added to `rests`, if that is kept."""
        source = f"schema id {schema_id} of subject '{self.subject}': "
        columns: list[list[object]] = [[] for _ in schema]
        paths = column_paths(schema, self.fields)
        kept: list[int] = []
        rejected: list[Rejected] = []
        try:
            writer = self.registry.by_id(schema_id)
            if self.unknown_fields == "reject":
                _refuse_unknown(writer, reader, paths)
            found = paths if reader is not None else self._found(writer, schema)
        except Misfit as error:
            rejected = [Rejected(index, f"{source}{error}") for index, _ in payloads]
        else:
            rows, kept = read_records(payloads, writer, reader, rejected, start=HEAD, source=source)
            columns = record_columns(rows, found, reader or writer)
            if self.unknown_fields == "keep":
                read = set(kept)
                bodies = [each for each in payloads if each[0] in read]
                rests |= kept_rests(bodies, rows, paths, writer, reader, start=HEAD)
        return decoded(columns, kept, schema=schema, paths=paths, rejected=rejected)

    def _found(self, writer: AvroSchema, schema: pa.Schema) -> Sequence[Path | None]:
        """Where the writer's schema has each column; None where it has none and the column may be null."""
        paths: list[Path | None] = []
        for field, path in zip(schema, column_paths(schema, self.fields), strict=True):
            try:
                writer.check(field, path)
                paths.append(path)
            except Missing:
                if not field.nullable:
                    raise
                paths.append(None)
        return paths

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`. Rows are written by `reader_schema`, or else by the subject's newest schema."""
        if self.reader_schema is None:
            schema_id, writer = self.registry.latest(self.subject)
        else:
            writer = load_schema(self.reader_schema)
            schema_id = self.registry.id_of(self.subject, schema_text(self.reader_schema), register=self.register)
        return write_records(rows, writer, self.fields, head=b"\x00" + schema_id.to_bytes(4, "big"))


def confluent_avro(
    *,
    registry_url: str,
    subject: str,
    reader_schema: Mapping[str, object] | str | FilePath | None = None,
    fields: Mapping[str, str] | None = None,
    user_env: str | None = None,
    password_env: str | None = None,
    register: bool = False,
    unknown_fields: UnknownFields = "ignore",
    timeout_s: float = 5.0,
) -> ConfluentAvroDecoder:
    """The decoder of Avro records in Confluent's wire format. Nothing is asked before the first record.

    Args:
        registry_url: http or https, without credentials.
        subject: what the topic's schemas are registered under, usually `<topic>-value`.
        reader_schema: what records are read as, whichever schema they were written by (Avro's rules of resolution). Without it
            each record is read by its writer's schema: a column that may be null is null where that one has no such field.
        fields: see `avro`.
        user_env: the environment variable with the user's name, for basic authentication.
        password_env: the environment variable with the password.
        register: whether encoding registers `reader_schema` where the subject does not have it.
        unknown_fields: what becomes of records whose writer has a field that no column comes from (and that `reader_schema`
            does not have): `ignore` it; `reject` them; `keep` all that no column comes from, as in `json`.
        timeout_s: of one of three attempts to ask the registry.
    """
    registry = SchemaRegistry(url=registry_url, user_env=user_env, password_env=password_env, timeout_s=timeout_s)
    return ConfluentAvroDecoder(
        registry=registry,
        subject=subject,
        reader_schema=None if reader_schema is None else declared_schema(reader_schema),
        fields=declared_fields(fields),
        register=register,
        unknown_fields=checked_choice(unknown_fields),
    )


def _refuse_unknown(writer: AvroSchema, reader: AvroSchema | None, paths: Sequence[Path]) -> None:
    """Raises Misfit if the writer has a top-level field that neither a column nor the reader knows."""
    known = {path[0] for path in paths}
    for field in () if reader is None else reader.parsed["fields"]:
        known |= {field["name"], *field.get("aliases", ())}
    for field in writer.parsed["fields"]:
        if field["name"] not in known:
            raise Misfit(f"no column comes from field `{field['name']}`")


def unframed(payload: bytes) -> str:
    """Why a payload is not in Confluent's wire format."""
    if not payload:
        return "an empty payload has no schema id"
    if payload[0]:
        return f"must begin with byte 0 and a schema id of four bytes, begins with byte {payload[0]}"
    return f"must begin with byte 0 and a schema id of four bytes, has {len(payload)} bytes"
