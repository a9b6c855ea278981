"""SQL expressions of declarations: what they may contain, and of what type they are.

An expression is scalar and deterministic, because DuckDB evaluates it over the lake in batch and over each
micro-batch in the stream, and both must see the same value for the same event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import duckdb

from feature_store.duck import scratch

if TYPE_CHECKING:
    import pyarrow as pa

_FORBIDDEN = {
    "WINDOW": "a window function",
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "STAR": "a star",
}


class Expressions:
    """Checks expressions over one table's columns; those that are `expected` cost DuckDB one question in all."""

    def __init__(self, schema: pa.Schema, expected: Iterable[str] = ()) -> None:
        self.schema = schema
        self._columns = set(schema.names)
        self._types = _types_of(list(dict.fromkeys(expected)), schema)

    def problem(self, expression: str) -> str | None:
        """What is wrong with the expression, or None."""
        return _parse_problem(expression) or self._column_problem(expression) or self._binding_problem(expression)

    def type_of(self, expression: str) -> str:
        """DuckDB's name for the expression's type, such as `BIGINT` or `DECIMAL(10,2)`."""
        return self._types.get(expression) or _type_of(expression, self.schema)

    def _column_problem(self, expression: str) -> str | None:
        names = {
            cast("list[str]", node["column_names"])[-1]
            for node in _nodes(_parse(expression))
            if node.get("class") == "COLUMN_REF"
        }
        unknown = sorted(names - self._columns)
        if not unknown:
            return None
        return (
            f"no column {', '.join(repr(n) for n in unknown)} in the schema (it has {', '.join(sorted(self._columns))})"
        )

    def _binding_problem(self, expression: str) -> str | None:
        try:
            self.type_of(expression)
        except duckdb.Error as error:
            return str(error).splitlines()[0]
        return None


def _types_of(expressions: Sequence[str], schema: pa.Schema) -> Mapping[str, str]:
    """The types of some expressions; of none if one is wrong, which asking for each by itself tells."""
    names = [f"x{number}" for number in range(len(expressions))]
    listed = ", ".join(f"TRY({each}) AS {name}" for each, name in zip(expressions, names, strict=True))
    with scratch(threads=1) as session:
        session.register("events", schema.empty_table())
        try:
            rows = session.execute(f"DESCRIBE SELECT {listed} FROM events").fetchall() if expressions else []
        except duckdb.Error:
            return {}
    as_asked = [row[0] for row in rows] == names  # what is no expression may be taken for several
    return {each: str(row[1]) for each, row in zip(expressions, rows, strict=True)} if as_asked else {}


@lru_cache(maxsize=4096)
def _type_of(expression: str, schema: pa.Schema) -> str:
    with scratch(threads=1) as session:
        session.register("events", schema.empty_table())
        row = session.execute(f"DESCRIBE SELECT TRY({expression}) AS x FROM events").fetchone()
    return str(row[1]) if row else "NULL"


_COMPARING = {"COMPARISON", "BETWEEN", "CONJUNCTION", "OPERATOR", "CONSTANT", "COLUMN_REF"}


def takes_any_width(expression: str, column: str, *, compared: bool) -> bool:
    """Whether the expression's value cannot depend on how wide the type of a column is.

    So it is if it does not name the column, is the column, or asks whether it is null; of integers and decimals
    (`compared`) also if it compares and nothing more.
    """
    nodes = list(_nodes(_selected(expression)))
    if not any(_names(node, column) for node in nodes):
        return True
    if len([node for node in nodes if "class" in node]) == 1:
        return True
    kinds = {(str(node["class"]), str(node.get("type", ""))) for node in nodes if "class" in node}
    if compared:
        return all(kind in _COMPARING and not name.startswith("OPERATOR_COALESCE") for kind, name in kinds)
    asking = {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_NOT"}
    return all(kind in ("CONJUNCTION", "COLUMN_REF") or name in asking for kind, name in kinds)


def _names(node: dict[str, object], column: str) -> bool:
    names = cast("list[str]", node.get("column_names") or [""])
    return node.get("class") == "COLUMN_REF" and names[-1].lower() == column.lower()


def _selected(expression: str) -> object:
    statements = cast("list[dict[str, dict[str, object]]]", _parse(expression)["statements"])
    return statements[0]["node"]["select_list"]


def columns_of(expression: str, schema: pa.Schema) -> list[str]:
    """The columns of a schema that an expression reads, in order.

    >>> import pyarrow as pa
    >>> columns_of("coalesce(delay, 0) + info.extra", pa.schema([("delay", pa.int64()), ("info", pa.struct([]))]))
    ['delay', 'info']
    """
    named = {name.lower(): name for name in schema.names}
    found: dict[str, None] = {}
    for node in _nodes(_selected(expression)):
        parts = cast("list[str]", node.get("column_names") or []) if node.get("class") == "COLUMN_REF" else []
        found |= {named[part.lower()]: None for part in parts[:2] if part.lower() in named}
    return list(found)


def isolated_sql(expression: str) -> str:
    """The expression over an events relation, null where it fails.

    DuckDB computes what several expressions of one SELECT have in common only once, and takes it out of `TRY` for
    that: one bad row then fails the query. It leaves alone what stands behind a condition.
    """
    return f"CASE WHEN _event_us IS NOT NULL THEN TRY({expression}) END"


def _parse_problem(expression: str) -> str | None:
    tree = _parse(expression)
    if tree.get("error"):
        return f"not valid SQL: {tree.get('error_message', '')}"
    statements = cast("list[dict[str, dict[str, object]]]", tree["statements"])
    query = statements[0]["node"]
    selected, origin = cast("list[object]", query["select_list"]), cast("dict[str, object]", query["from_table"])
    if len(statements) != 1 or len(selected) != 1 or origin["type"] != "EMPTY":
        return "must be one expression"
    for node in _nodes(selected):
        reason = _node_problem(node)
        if reason:
            return reason
    return None


def _node_problem(node: dict[str, object]) -> str | None:
    kind = str(node.get("class", ""))
    if kind in _FORBIDDEN:
        return f"{_FORBIDDEN[kind]} is not allowed: an expression sees one event"
    return _function_problem(str(node["function_name"])) if kind == "FUNCTION" else None


@lru_cache
def _function_problem(name: str) -> str | None:
    rows = duckdb.execute(
        "SELECT function_type, stability, macro_definition FROM duckdb_functions() WHERE function_name = ?",
        [name.lower()],
    ).fetchall()
    kinds = {row[0] for row in rows}
    if "aggregate" in kinds and "scalar" not in kinds:
        return f"{name}() is an aggregate or window function: an expression sees one event"
    unstable = [row[1] for row in rows if row[0] == "scalar" and row[1] != "CONSISTENT"]
    if unstable:
        return f"{name}() is not deterministic ({unstable[0]}): training and serving would see different values"
    for kind, _, definition in rows:
        inner = _parse_problem(definition) if kind == "macro" and definition else None
        if inner:
            return f"{name}(): {inner}"
    return None


@lru_cache(maxsize=1024)
def _parse(expression: str) -> dict[str, object]:
    with scratch(threads=1) as session:
        row = session.execute("SELECT json_serialize_sql(?)", [f"SELECT {expression}"]).fetchone()
    return dict(json.loads(row[0])) if row else {"error": True}


def _nodes(tree: object) -> Iterator[dict[str, object]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
