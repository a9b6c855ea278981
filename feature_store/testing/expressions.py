"""The SQL expressions of a view over single events: what DuckDB, by whose language they are declared, says of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feature_store.duck import scratch

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from feature_store.declare.view import FeatureView

Kind = Literal["int", "float", "bool", "decimal", "str", "timestamp", "date"]

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """An expression's value for every event, None where it is null or fails."""

    kind: Kind
    values: Sequence[object]
    """Times as microseconds, dates as days since the epoch; decimals as such."""
    shown: Sequence[object]
    """The same, decimals as the doubles that they are served as."""
    scale: int = 0
    """Decimal places of a decimal."""


def evaluate(view: FeatureView, rows: pa.Table) -> tuple[Sequence[object], Mapping[str, Operands]]:
    """Whether `where` holds for each event, and the operands of each expression of the view's features."""
    connection = scratch(threads=1)
    try:
        connection.register("rows", rows.append_column("_n", [list(range(rows.num_rows))]))
        connection.execute("CREATE TEMP TABLE events AS SELECT * FROM rows ORDER BY _n")
        holds = _column(connection, view.where) if view.where else [True] * int(rows.num_rows)
        expressions = dict.fromkeys(f.column for f in view.declared if f.column is not None)
        return holds, {expression: _operands(connection, expression) for expression in expressions}
    finally:
        connection.close()


def _operands(connection: duckdb.DuckDBPyConnection, expression: str) -> Operands:
    described = connection.execute(f"DESCRIBE SELECT TRY({expression}) FROM events").fetchone()
    kind = str(described[1]) if described else "NULL"
    decimal = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", kind)
    if decimal:
        values, shown = _column(connection, expression), _column(connection, f"({expression})::DOUBLE")
        return Operands(kind="decimal", values=values, shown=shown, scale=int(decimal[1]))
    plain, sql = _plain(kind, expression)
    values = _column(connection, sql)
    return Operands(kind=plain, values=values, shown=values)


def _plain(kind: str, expression: str) -> tuple[Kind, str]:
    """The kind of a type, and SQL for its values as plain numbers or text."""
    if kind in _INTEGERS:
        return "int", expression
    if kind == "BOOLEAN":
        return "bool", expression
    if kind in ("FLOAT", "DOUBLE"):
        return "float", f"({expression})::DOUBLE"
    if kind == "DATE":
        return "date", f"({expression}) - DATE '1970-01-01'"
    if kind.startswith("TIMESTAMP"):
        return "timestamp", f"epoch_us({expression})"
    return "str", f"({expression})::VARCHAR"


def _column(connection: duckdb.DuckDBPyConnection, sql: str) -> list[object]:
    """One expression alone, so that no other can share a part of it and take that out of its TRY."""
    return [row[0] for row in connection.execute(f"SELECT TRY({sql}) FROM events ORDER BY _n").fetchall()]
