"""Tables and columns: from Arrow schemas to DuckLake tables, and from any input to exactly a table's columns."""

from __future__ import annotations

import re
import uuid
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import duckdb
import pyarrow as pa

from feature_store.duck import scratch
from feature_store.errors import InputError, LakeError
from feature_store.lake.connection import CATALOG, literal, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Columns = dict[str, str]
"""Column name -> DuckDB type, in order."""

Rows: TypeAlias = "pa.Table | pa.RecordBatchReader | str"
"""Arrow data, or the text of an SQL query."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGERS = (("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"))
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


def check_name(name: str, *, kind: str) -> str:
    """`name`, fit for a table.

    Raises:
        InputError: it is not letters, digits and underscores.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"`{kind}` must be letters, digits and _, got {name!r}")
    return name


def arrow_columns(schema: pa.Schema) -> Columns:
    """The DuckDB types in which the lake keeps columns of these Arrow types."""
    return dict(_arrow_columns(schema))


@lru_cache(maxsize=256)
def _arrow_columns(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    with scratch() as session:
        session.register("arrow_columns", schema.empty_table())
        found = relation_columns(session, "SELECT * FROM arrow_columns")
    return tuple((name, _kept(kind)) for name, kind in found.items())


def relation_columns(cursor: duckdb.DuckDBPyConnection, query: str) -> Columns:
    """Names and types of what `query` returns."""
    rows = cursor.execute(f"DESCRIBE {query}").fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


@contextmanager
def relation(cursor: duckdb.DuckDBPyConnection, rows: Rows) -> Iterator[str]:
    """A table expression for `rows` on this cursor."""
    if isinstance(rows, str):
        yield f"({rows}) AS input_rows"
        return
    name = f"input_{uuid.uuid4().hex}"
    cursor.register(name, rows)
    try:
        yield name
    finally:
        cursor.unregister(name)


def table_columns(cursor: duckdb.DuckDBPyConnection, table: str) -> Columns | None:
    """Names and types of a table, or None where there is no such table."""
    try:
        return relation_columns(cursor, f"SELECT * FROM {quote(table)}")
    except duckdb.CatalogException:
        return None


def ensure_table(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    *,
    columns: Columns,
    partition_by: Sequence[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Create `table`, or add the columns that it does not have yet and widen those that are narrower.

    `defaults`: column -> text of what rows have that were or will be written without it.

    Raises:
        LakeError: a column exists with a type that neither holds the wanted one nor can be widened to it.
    """
    existing = table_columns(cursor, table)
    given = {name: f" DEFAULT {literal(text)}" for name, text in (defaults or {}).items()}
    declared = {name: f"{quote(name)} {kind}{given.get(name, '')}" for name, kind in columns.items()}
    if existing is None:
        listed = ", ".join(declared.values())
        cursor.execute(f"CREATE TABLE {quote(table)} ({listed})")
        if partition_by:
            cursor.execute(f"ALTER TABLE {quote(table)} SET PARTITIONED BY ({', '.join(map(quote, partition_by))})")
        return
    _check_evolution(table, existing, columns)
    for name, kind in columns.items():
        if name not in existing:
            cursor.execute(f"ALTER TABLE {quote(table)} ADD COLUMN {declared[name]}")
        elif not widens(kind, existing[name]):
            cursor.execute(f"ALTER TABLE {quote(table)} ALTER COLUMN {quote(name)} SET DATA TYPE {kind}")


def _check_evolution(table: str, existing: Columns, wanted: Columns) -> None:
    for name, kind in wanted.items():
        if name in existing and not widens(existing[name], kind) and not widens(kind, existing[name]):
            raise LakeError(
                f"table '{table}': column '{name}' is {existing[name]} in the lake, but {kind} is wanted; "
                "a column keeps its type or is widened, give the new one another name"
            )


def is_current(existing: Columns | None, wanted: Columns) -> bool:
    """Whether a table has all wanted columns with the wanted types, or wider ones that a later declaration gave them."""
    return existing is not None and all(
        name in existing and widens(kind, existing[name]) for name, kind in wanted.items()
    )


def widens(narrow: str, wide: str) -> bool:
    """Whether a column of the first type can become one of the second and keep each value, or is one already."""
    if narrow == wide or (narrow, wide) == ("FLOAT", "DOUBLE"):
        return True
    for family in (_INTEGERS[0][:4], _INTEGERS[1]):
        if narrow in family and wide in family:
            return family.index(narrow) <= family.index(wide)
    scales = [match and match[2] for match in (_DECIMAL.fullmatch(narrow), _DECIMAL.fullmatch(wide))]
    return scales[0] is not None and scales[0] == scales[1] and _decimal_fits(narrow, wide)


def column_defaults(cursor: duckdb.DuckDBPyConnection, table: str, *, env: str) -> dict[str, str]:
    """SQL of what a row of a table has in each column that it was written without."""
    rows = cursor.execute(
        "SELECT column_name, coalesce(column_default, 'NULL') FROM duckdb_columns() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
        [CATALOG, env, table],
    ).fetchall()
    return {str(name): str(default) for name, default in rows}


def is_of(column: str, parameter: str) -> str:
    """The condition `column = parameter` on a book, kept from DuckLake's pruning.

    A filter that is pushed down makes DuckLake read its statistics of every file of the lake, since SQLite has them
    under no index; the books are much smaller than that.
    """
    return f"concat({quote(column)}) = {parameter}"


def projection(given: Columns, wanted: Columns, *, table: str, defaults: Mapping[str, str] | None = None) -> str:
    """A select list that turns input columns into exactly the table's columns, losing nothing.

    `defaults`: SQL for columns that the input may leave out.

    Raises:
        LakeError: a column is missing, unknown or of a type that does not fit, by name.
    """
    defaults = defaults or {}
    missing = [name for name in wanted if name not in given and name not in defaults]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        problems = [f"column '{name}' is missing" for name in missing] + [f"unknown column '{n}'" for n in unknown]
        raise LakeError(f"rows for table '{table}' do not fit: {'; '.join(problems)} (columns: {', '.join(wanted)})")
    return ", ".join(_select(name, kind, given, defaults, table) for name, kind in wanted.items())


def _select(name: str, kind: str, given: Columns, defaults: Mapping[str, str], table: str) -> str:
    source = quote(name) if name in given else defaults[name]
    if name in given and not _fits(given[name], kind):
        raise LakeError(f"rows for table '{table}' do not fit: column '{name}' is {given[name]}, expected {kind}")
    return f"CAST({source} AS {kind}) AS {quote(name)}"


def _kept(kind: str) -> str:
    if kind.startswith("ENUM"):
        return "VARCHAR"  # an Arrow dictionary
    if kind in ('"NULL"', "NULL"):
        return "INTEGER"
    return {"TIMESTAMP_NS": "TIMESTAMP", "TIMESTAMP_S": "TIMESTAMP", "TIMESTAMP_MS": "TIMESTAMP"}.get(kind, kind)


def _fits(given: str, wanted: str) -> bool:
    """Whether every value of type `given` is also one of `wanted`."""
    if given in (wanted, '"NULL"', "NULL") or _kept(given) == wanted or (given, wanted) == ("FLOAT", "DOUBLE"):
        return True
    for family in _INTEGERS:
        if given in family and wanted in family:
            return family.index(given) <= family.index(wanted)
    unsigned = _INTEGERS[1]
    if given in unsigned and wanted in _INTEGERS[0]:
        return unsigned.index(given) < _INTEGERS[0].index(wanted)
    return _decimal_fits(given, wanted)


def _decimal_fits(given: str, wanted: str) -> bool:
    left, right = _DECIMAL.fullmatch(given), _DECIMAL.fullmatch(wanted)
    if not left or not right:
        return False
    (p1, s1), (p2, s2) = (map(int, match.groups()) for match in (left, right))
    return s1 <= s2 and p1 - s1 <= p2 - s2
