"""Plain tables: appended to, created and widened by what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.errors import UnknownNameError
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.events import declare_source, fit_source
from feature_store.lake.tables import (
    Columns,
    arrow_columns,
    check_name,
    ensure_table,
    is_current,
    projection,
    relation,
    relation_columns,
    table_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    import pyarrow as pa

    from feature_store.lake.session import Session, Transaction


def append(session: Session, table: str, *, rows: pa.Table, once: Sequence[str] = ()) -> Commit:
    """Append to a plain table, which is created or widened by the rows' schema; columns left out are null."""
    fresh = _unless_there(table, rows, once) if once else ""

    def work(transaction: Transaction) -> Commit:
        return Commit(snapshot=transaction.snapshot, rows=_append(transaction.cursor, table, rows, fresh))

    check_name(table, kind="table")
    return session.commit(work)


def append_next(
    session: Session, tables: Mapping[str, pa.Table], *, book: str, after: int, sources: Mapping[str, pa.Schema]
) -> Commit | None:
    """Append to plain tables and fit those of sources in one commit, if the highest `version` in `book` is still `after`."""
    declared = {source: declare_source(session, source, schema) for source, schema in sources.items()}

    def work(transaction: Transaction) -> Commit | None:
        cursor = transaction.cursor
        if newest_version(cursor, book) != after:
            return None
        for source, columns in declared.items():
            fit_source(transaction, source, columns, sources[source])
        for table, rows in tables.items():
            _append(cursor, check_name(table, kind="table"), rows)
        return Commit(snapshot=transaction.snapshot, rows=sum(rows.num_rows for rows in tables.values()))

    return session.commit(work)


def newest_version(cursor: duckdb.DuckDBPyConnection, book: str) -> int:
    """The highest `version` in a table; 0 if there is none."""
    if table_columns(cursor, book) is None:
        return 0
    row = cursor.execute(f"SELECT max(version) FROM {quote(book)}").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _append(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, fresh: str = "") -> int:
    wanted = arrow_columns(rows.schema)
    if not is_current(table_columns(cursor, table), wanted):
        ensure_table(cursor, table, columns=wanted)
    columns = table_columns(cursor, table) or wanted
    with relation(cursor, rows) as given:
        types = relation_columns(cursor, f"SELECT * FROM {given}")
        listed = projection(types, columns, table=table, defaults=dict.fromkeys(columns, "NULL"))
        done = cursor.execute(f"INSERT INTO {quote(table)} SELECT {listed} FROM {given}{fresh}").fetchone()
    return int(done[0]) if done else 0


def _unless_there(table: str, rows: pa.Table, columns: Sequence[str]) -> str:
    """What follows a FROM to leave out rows that a table has; of the table only what is as new is read."""
    import pyarrow.compute as pc

    names, least = ", ".join(map(quote, columns)), pc.min(rows.column(columns[0])).as_py()
    newer = "FALSE" if least is None else f"{quote(columns[0])} >= {int(least)}"
    return f" ANTI JOIN (SELECT {names} FROM {quote(table)} WHERE {newer}) USING ({names})"


def known_table(session: Session, table: str) -> Columns:
    """The columns of a table.

    Raises:
        UnknownNameError: there is no such table in this environment.
    """
    with session.reading() as cursor:
        columns = table_columns(cursor, table)
        if columns is None:
            raise UnknownNameError(
                "table in the lake", table, [row[0] for row in cursor.execute("SHOW TABLES").fetchall()]
            )
        return columns
