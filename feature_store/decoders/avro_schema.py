"""An Avro schema: read from JSON or a file, and asked which of its fields fits a column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from feature_store.decoders.columns import arrow_family
from feature_store.decoders.paths import Fields, Path, column_paths, dotted
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

# Avro type, with its logical type if it has one that is read -> what a column of it may be.
_FITS: Mapping[str, tuple[str, ...]] = {
    "boolean": ("boolean",),
    "int": ("integer", "float", "decimal"),
    "long": ("integer", "float", "decimal"),
    "float": ("float",),
    "double": ("float",),
    "string": ("string",),
    "enum": ("string",),
    "string-uuid": ("string",),
    "bytes": ("binary",),
    "fixed": ("binary",),
    "bytes-decimal": ("decimal",),
    "fixed-decimal": ("decimal",),
    "int-date": ("date",),
    "int-time-millis": ("time of day",),
    "long-time-micros": ("time of day",),
    "long-timestamp-millis": ("time",),
    "long-timestamp-micros": ("time",),
    "long-local-timestamp-millis": ("local time",),
    "long-local-timestamp-micros": ("local time",),
}


class Misfit(ValueError):  # noqa: N818 - it says what does not fit; who catches it knows whether that is an error
    """A column cannot come from a schema."""


class Missing(Misfit):
    """The schema has no such field."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AvroSchema:
    """A parsed schema of records."""

    parsed: Mapping[str, Any]
    """As fastavro reads and writes by it."""
    named: Mapping[str, Any]
    """The named types in it."""

    @property
    def name(self) -> str:
        """The record's full name."""
        return str(self.parsed["name"])

    def leaf(self, path: Path) -> object:
        """The type of the field at `path`.

        Raises:
            Missing: there is no such field.
        """
        place: object = self.parsed
        for depth, name in enumerate(path):
            inner = [branch for branch in self.branches(place) if branch != "null"]
            record = inner[0] if len(inner) == 1 and isinstance(inner[0], dict) else {}
            if record.get("type") == "map":
                place = record["values"]
                continue
            types = {field["name"]: field["type"] for field in record.get("fields", ())}
            if name not in types:
                known = f" (known: {', '.join(types)})" if types else ""
                raise Missing(f"schema '{self.name}' has no field `{dotted(path[: depth + 1])}`{known}")
            place = types[name]
        return place

    def branches(self, place: object) -> Iterator[object]:
        """What a value there can be: the branches of a union, names resolved."""
        if isinstance(place, list):
            for branch in place:
                yield from self.branches(branch)
        elif isinstance(place, str) and place in self.named:
            yield self.named[place]
        else:
            yield place

    def check(self, field: pa.Field, path: Path) -> None:
        """Raises Misfit unless every value of the field at `path` is of the column's kind."""
        place = self.leaf(path)
        for branch in self.branches(place):
            if branch != "null" and not self._fits(branch, field.type):
                kind = f"column '{field.name}' has type {field.type}"
                raise Misfit(f"{kind}, but `{dotted(path)}` of schema '{self.name}' is {_said(branch)}")

    def _fits(self, branch: object, kind: pa.DataType) -> bool:
        family = arrow_family(kind)
        if isinstance(branch, dict) and branch.get("type") == "array":
            inner = [item for item in self.branches(branch["items"]) if item != "null"]
            return family == "list" and all(
                avro_kind(item) != "string-uuid" and self._fits(item, kind.value_type) for item in inner
            )
        return family in _FITS.get(avro_kind(branch), ())


def avro_kind(branch: object) -> str:
    """The type's name, with its logical type if that is read: `long-timestamp-micros`."""
    if not isinstance(branch, Mapping):
        return str(branch)
    logical = f"{branch.get('type')}-{branch.get('logicalType')}"
    return logical if logical in _FITS else str(branch.get("type"))


def _said(branch: object) -> str:
    kind, _, logical = avro_kind(branch).partition("-")
    return f"`{kind}` with logicalType `{logical}`" if logical else f"`{kind}`"


def declared_schema(schema: Mapping[str, object] | str | FilePath) -> str | FilePath:
    """A schema as a value: JSON text, or the path of a file with it."""
    if isinstance(schema, FilePath):
        return schema
    if isinstance(schema, str):
        return schema if schema.lstrip().startswith("{") else FilePath(schema)
    return json.dumps(schema, separators=(",", ":"))


def schema_text(declared: str | FilePath) -> str:
    """The schema of a declaration as JSON text."""
    return declared.read_text() if isinstance(declared, FilePath) else declared


@lru_cache(maxsize=256)
def load_schema(declared: str | FilePath) -> AvroSchema:
    """The schema of a declaration; a file is read once.

    Raises:
        InputError: it cannot be read, or is no schema of a record.
    """
    try:
        return parse_schema(json.loads(schema_text(declared)))
    except (OSError, ValueError) as error:
        place = f" in '{declared}'" if isinstance(declared, FilePath) else ""
        raise InputError(f"`schema` must be an Avro schema of a record, the one{place} is not: {error}") from error


def parse_schema(schema: object, *, named: Sequence[object] = ()) -> AvroSchema:
    """A schema from its JSON value; `named` are the schemas that it refers to, in an order in which they can be read.

    Raises:
        ValueError: it is no schema of a record.
    """
    fastavro = avro_library()
    types: dict[str, Any] = {}
    try:
        for reference in named:
            fastavro.parse_schema(reference, named_schemas=types)
        parsed = fastavro.parse_schema(schema, named_schemas=types)
    except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise ValueError("it is not of type record")
    return AvroSchema(parsed=parsed, named=types)


def fitting_paths(avro: AvroSchema, schema: pa.Schema, fields: Fields) -> tuple[Path, ...]:
    """The path of each column, every one checked.

    Raises:
        Misfit: naming the first column that cannot come from `avro`.
    """
    paths = column_paths(schema, fields)
    for field, path in zip(schema, paths, strict=True):
        avro.check(field, path)
    return paths


def avro_library() -> Any:
    """The fastavro module.

    Raises:
        ImportError: it is not installed; names the extra.
    """
    try:
        import fastavro
        import fastavro.schema
        import fastavro.validation
    except ModuleNotFoundError as error:
        raise ImportError("Avro payloads need fastavro: install feature-store[avro]") from error
    return fastavro
