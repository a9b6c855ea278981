"""Entities whose text is too long to be asked for: events that name one are rejected, samples leave stored ones out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.key import LONGEST, KeyKind, entity_key_sql

Keys = Sequence[tuple[str, ...]]
"""Columns that together name an entity, for each of several."""

_KEYS = b"keys"
"""Metadata of an Arrow schema: the entities that its events name."""
_OTHERS = 22
"""No other key has as many bytes, with the bar behind it."""
_ESCAPED = 3
"""Bytes that one byte of text becomes at most; two of a key of bytes."""


def with_keys(schema: pa.Schema, keys: Keys) -> pa.Schema:
    """A schema that says which entities its events name."""
    others = {name: value for name, value in (schema.metadata or {}).items() if name != _KEYS}
    return schema.with_metadata({**others, **({_KEYS: json.dumps(keys).encode()} if keys else {})} or None)


def keys_of(schema: pa.Schema) -> Keys:
    """The entities that events of a schema name.

    >>> keys_of(with_keys(pa.schema([("origin", pa.string())]), [("origin",)]))
    (('origin',),)
    """
    return _decoded((schema.metadata or {}).get(_KEYS, b"[]"))


def too_long(table: pa.Table, keys: Keys) -> dict[int, str]:
    """The rows that name an entity which cannot be asked for, and why; one with a null is never an entity.

    >>> too_long(pa.table({"origin": ["JFK", "x" * 5_000, None]}), [("origin",)])
    {1: "column 'origin': must be at most 4,096 bytes as text, got 5,000"}
    """
    found: dict[int, str] = {}
    for columns in keys:
        wide = [table.column(name) for name in columns if _kind(table.schema.field(name).type) != "int"]
        if all((pc.max(pc.binary_length(each)).as_py() or 0) <= _surely_short(columns) for each in wide):
            continue
        lengths = reduce(pc.add, (_text_length(table.column(name)) for name in columns))
        lengths = pc.fill_null(pc.add(lengths, len(columns) - 1), 0).to_numpy()
        named = f"column{'s' if len(columns) > 1 else ''} '{', '.join(columns)}'"
        for row in np.flatnonzero(lengths > LONGEST).tolist():
            found.setdefault(row, f"{named}: must be at most {LONGEST:,} bytes as text, got {lengths[row]:,}")
    return found


def askable(table: pa.Table, keys: Keys) -> pa.Table:
    """The rows whose entities can be asked for."""
    left_out = too_long(table, keys)
    return table.take([row for row in range(table.num_rows) if row not in left_out]) if left_out else table


def askable_sql(schema: pa.Schema, keys: Iterable[Sequence[str]]) -> str:
    """The same as a condition on rows with columns of a schema."""
    return " AND ".join(filter(None, (_short_sql(schema, columns) for columns in keys))) or "TRUE"


def _short_sql(schema: pa.Schema, columns: Sequence[str]) -> str:
    """The text is only made of rows that may have a long one."""
    kinds = {name: _kind(schema.field(name).type) for name in columns}
    lengths = {"str": "strlen", "bytes": "octet_length"}
    wide = [f'{lengths[kind]}("{name}") <= {_surely_short(columns)}' for name, kind in kinds.items() if kind in lengths]
    exact = f"coalesce(strlen({entity_key_sql(kinds)}) <= {LONGEST}, TRUE)"
    return f"({' AND '.join(wide)} OR {exact})" if wide else ""


@lru_cache(maxsize=256)
def _decoded(said: bytes) -> Keys:
    return tuple(map(tuple, json.loads(said)))


def _surely_short(columns: Sequence[str]) -> int:
    """With so many bytes in each column, no entity of these columns is too long."""
    return LONGEST // (_ESCAPED * len(columns)) - _OTHERS


def _kind(kind: pa.DataType) -> KeyKind:
    """Text and bytes have any length; whatever else there is has the text that its cast gives."""
    if pa.types.is_string(kind):
        return "str"
    return "bytes" if pa.types.is_binary(kind) else "int"


def _text_length(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """How many bytes each value takes in the text of its entity."""
    kind = _kind(column.type)
    if kind == "int":
        return pc.binary_length(column.cast(pa.string()))
    length = pc.binary_length(column)
    if kind == "bytes":
        return pc.multiply(length, 2)
    return pc.add(length, pc.multiply(pc.count_substring_regex(column, "[%|{}]"), 2))
