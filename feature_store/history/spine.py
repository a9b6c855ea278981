"""The rows for which a training set is asked: entities and times, from whatever form the caller has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.declare.key import LONGEST, KeyKind, entity_key_sql
from feature_store.duck import scratch
from feature_store.errors import InputError, unknown_name
from feature_store.history.join_keys import as_key
from feature_store.schema import key_kind
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    import pandas as pd

    from feature_store.declare.keyed import KeyedView
    from feature_store.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class Spine:
    """The caller's rows in the caller's order, and their times."""

    table: pa.Table
    time_column: str
    time_us: Ints
    """int64[n], microseconds since the epoch."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def digest(self) -> str:
        """A hash of the rows' values: equal spines have equal training sets."""
        digest, rows = hashlib.blake2b(digest_size=16), _without_dictionaries(self.table.replace_schema_metadata())
        with pa.ipc.new_stream(_HashSink(digest), rows.schema) as stream:
            stream.write_table(rows, max_chunksize=1 << 16)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpineKeys:
    """The spine's entities, numbered."""

    codes: Ints
    """int64[n], each row's entity as an index into `keys`; -1 where a join key is null."""
    entities: pa.Table
    """The distinct entities: their join keys and, as `_code`, their numbers from 0."""
    text: pa.Array
    """Their canonical keys, in that order."""

    def __len__(self) -> int:
        return int(self.entities.num_rows)


def read_spine(spine: pd.DataFrame | pa.Table | Path | str, *, lake: Lake, time_column: str) -> Spine:
    """The spine as Arrow.

    Args:
        spine: a pandas or Arrow table, the path of a Parquet file, or SQL over the lake.
        lake: where SQL runs.
        time_column: the column of the rows' times, aware.

    Raises:
        InputError: it cannot be read, or its time column is missing, naive, no time, or has nulls.
    """
    table = _laid_out(_to_arrow(spine, lake))
    if time_column not in table.schema.names:
        raise InputError(f"spine: {unknown_name('time column', time_column, table.schema.names)}")
    return Spine(table=table, time_column=time_column, time_us=_times(table.column(time_column), time_column))


def spine_keys(spine: Spine, read: KeyedView, schema: pa.Schema, *, asked_by: str = "") -> SpineKeys:
    """Number the spine's entities.

    Args:
        spine: the rows.
        read: the view whose entities they are, and in which columns.
        schema: of its source; `7`, `7.0` and '7' name one entity if the join key is an integer there.
        asked_by: who needs the columns, for errors.

    Raises:
        InputError: a column is missing, or its values cannot be join keys of the source's type, or are too long.
    """
    columns = {}
    for key, name in read.columns.items():
        if name not in spine.table.schema.names:
            what = f"column for the join key '{key}' of {read.told}{asked_by}"
            raise InputError(f"spine: {unknown_name(what, name, spine.table.schema.names)}")
        columns[key] = as_key(spine.table.column(name), schema.field(key).type, name)
    if not columns:
        return _one(len(spine))
    found = _numbered(pa.table(columns), {key: key_kind(column.type) for key, column in columns.items()})
    longest = pc.max(pc.binary_length(found.text)).as_py() or 0
    if longest > LONGEST:
        named = ", ".join(read.columns.values())
        raise InputError(f"spine: `{named}` must be at most {LONGEST:,} bytes as text, got {longest:,}")
    return found


def _one(rows: int) -> SpineKeys:
    """Every row is about the same: everything."""
    entities = pa.table({"_code": np.zeros(1, dtype=np.int64)})
    return SpineKeys(codes=np.zeros(rows, dtype=np.int64), entities=entities, text=pa.array([""]))


def _numbered(columns: pa.Table, kinds: Mapping[str, KeyKind]) -> SpineKeys:
    connection = scratch()
    try:
        connection.register("spine_rows", columns.append_column("_n", pa.array(np.arange(columns.num_rows))))
        listed = ", ".join(f'"{name}"' for name in kinds)
        whole = " AND ".join(f'"{name}" IS NOT NULL' for name in kinds)
        # Numbered by first appearance, so that equal spines have equal numbers.
        entities = connection.execute(
            f"SELECT {listed}, {entity_key_sql(kinds)} AS _key, row_number() OVER (ORDER BY min(_n)) - 1 AS _code "
            f"FROM spine_rows WHERE {whole} GROUP BY {listed} ORDER BY _code"
        ).to_arrow_table()
        connection.register("entities", entities)
        on = " AND ".join(f'r."{name}" = e."{name}"' for name in kinds)
        codes = connection.execute(
            f"SELECT coalesce(_code, -1) AS _code FROM spine_rows AS r LEFT JOIN entities AS e ON {on} ORDER BY _n"
        ).to_arrow_table()
    finally:
        connection.close()
    return SpineKeys(
        codes=codes.column("_code").to_numpy(),
        entities=entities.drop_columns(["_key"]),
        text=entities.column("_key").combine_chunks(),
    )


def _laid_out(table: pa.Table) -> pa.Table:
    """The same values in buffers of their own, zeros behind nulls: equal tables are equal bytes, also cut from larger ones."""
    rows = pa.array(np.arange(table.num_rows))
    columns = [
        pa.array(column.to_pylist(), type=column.type) if pa.types.is_nested(column.type) else column.take(rows)
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema).combine_chunks()


def _without_dictionaries(table: pa.Table) -> pa.Table:
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    schema = pa.schema([field.remove_metadata() for field in fields])
    return table if schema == table.schema else _laid_out(table.cast(schema))


class _HashSink:
    """A file that only hashes what is written to it."""

    closed = False

    def __init__(self, digest: hashlib.blake2b) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def writable(self) -> bool:
        return True


def _to_arrow(spine: pd.DataFrame | pa.Table | Path | str, lake: Lake) -> pa.Table:
    if isinstance(spine, pa.Table):
        return spine
    if isinstance(spine, Path) or (isinstance(spine, str) and spine.rstrip().endswith(".parquet")):
        return _query(
            f"SELECT * FROM read_parquet('{str(spine).replace(chr(39), chr(39) * 2)}')", lake, what=str(spine)
        )
    if isinstance(spine, str):
        return _query(spine, lake, what="SQL")
    if hasattr(spine, "columns") and hasattr(spine, "index"):
        return pa.Table.from_pandas(spine, preserve_index=False)
    raise InputError(f"`spine` must be a pandas or Arrow table, a Parquet path or SQL, got {type(spine).__name__}")


def _query(sql: str, lake: Lake, *, what: str) -> pa.Table:
    cursor = lake.cursor()
    try:
        return cursor.execute(sql).to_arrow_table()
    except duckdb.Error as error:
        raise InputError(f"the spine ({what}) cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        cursor.close()


def _times(column: pa.ChunkedArray, name: str) -> Ints:
    kind = column.type
    if not pa.types.is_timestamp(kind):
        raise InputError(f"spine column '{name}' must be a time with a zone, got {kind}")
    if kind.tz is None:
        raise InputError(
            f"spine column '{name}' must carry a time zone, got naive times; say which zone they are in, "
            f"such as with spine['{name}'].dt.tz_localize('UTC')"
        )
    if column.null_count:
        raise InputError(f"spine column '{name}' must not be null, got {column.null_count} nulls")
    # Below a microsecond is rounded down, as a window's head excludes its own time.
    micros = pc.floor_temporal(column, unit="microsecond") if kind.unit == "ns" else column
    times: Ints = micros.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64()).to_numpy()
    return times
