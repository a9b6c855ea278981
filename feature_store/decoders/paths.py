"""Where in a payload a column comes from: `fields={"amount": "payment.amount.value"}`, or the field of its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from feature_store.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa

Fields = tuple[tuple[str, str], ...]
"""(column, dotted path in the payload), by column."""

Path = tuple[str, ...]
"""The names from the payload's top to a value."""


def declared_fields(fields: Mapping[str, str] | None) -> Fields:
    """The declaration as a value, the same in whatever order it was given.

    Raises:
        InputError: a path with an empty name, or one that two columns share.
    """
    columns: dict[str, str] = {}
    for column, path in sorted((fields or {}).items()):
        if not all(path.split(".")):
            raise InputError(
                f"`fields` must map columns to paths such as 'payment.amount', got '{path}' for '{column}'"
            )
        if path in columns:
            raise InputError(
                f"`fields` must map each path to one column, got '{path}' for '{columns[path]}' and '{column}'"
            )
        columns[path] = column
    return tuple((column, path) for path, column in sorted(columns.items(), key=lambda item: item[1]))


@lru_cache(maxsize=256)
def column_paths(schema: pa.Schema, fields: Fields) -> tuple[Path, ...]:
    """The path of each column of `schema`. A name with dots in it is a path in `fields` only.

    Raises:
        InputError: a column that the schema does not have; a path that ends where another one goes on.
    """
    declared = dict(fields)
    for column in declared:
        if column not in schema.names:
            raise InputError(unknown_name("column in `fields`", column, schema.names))
    paths = [tuple(declared[name].split(".")) if name in declared else (name,) for name in schema.names]
    owners: dict[Path, str] = {}
    for name, path in zip(schema.names, paths, strict=True):
        if path in owners:
            raise InputError(
                f"columns '{owners[path]}' and '{name}' must come from different fields, got `{dotted(path)}`"
            )
        owners[path] = name
    for name, path in zip(schema.names, paths, strict=True):
        for end in range(1, len(path)):
            if path[:end] in owners:
                inner = f"column '{owners[path[:end]]}' is `{dotted(path[:end])}`"
                raise InputError(f"{inner}, so column '{name}' cannot come from `{dotted(path)}` inside it")
    return tuple(paths)


def nested(row: Mapping[str, object], fields: Fields) -> Mapping[str, object]:
    """A row as the payload holds it: each column at its path."""
    if not fields:
        return row
    declared = dict(fields)
    payload: dict[str, object] = {}
    for column, value in row.items():
        *outer, name = declared[column].split(".") if column in declared else [column]
        place = payload
        for step in outer:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                raise InputError(f"column '{column}' cannot be written inside `{step}`, which is another column")
            place = inner
        place[name] = value
    return payload


def tree(paths: Sequence[Path]) -> dict[str, Any]:
    """Objects within objects down to the numbers of the columns."""
    root: dict[str, Any] = {}
    for number, (*outer, name) in enumerate(paths):
        place = root
        for step in outer:
            place = place.setdefault(step, {})
        place[name] = number
    return root


def dotted(path: Sequence[str]) -> str:
    """The path as text."""
    return ".".join(path)
