"""Materialized tables by day: tiles, which are replaced, and batch rows, of which a rebuild adds a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import InputError, UnknownNameError
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, between_days
from feature_store.lake.events import declare_source, fit_source, qualified
from feature_store.lake.late import LATE_EVENTS, record_late
from feature_store.lake.records import PUBLISHED, record_builds
from feature_store.lake.staging import check_days, commit_staged, staged
from feature_store.lake.tables import (
    Columns,
    Rows,
    arrow_columns,
    check_name,
    ensure_table,
    is_current,
    is_of,
    projection,
    relation,
    relation_columns,
    table_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import duckdb

    from feature_store.lake.session import Session, Transaction

ROW_VERSION = "row_version"


def write_days(
    session: Session,
    table: str,
    *,
    schema: pa.Schema,
    rows: Rows,
    days: Sequence[date],
    versioned: bool,
    source: str | None,
    built_from: int | None,
    lookback_days: int,
    meanings: Sequence[str] | None,
    late: pa.Table | None,
    cursor: duckdb.DuckDBPyConnection | None,
) -> Commit:
    """Write whole days of a table, creating it if needed: in place of what is there, or as a new row version."""
    if DAY not in schema.names:
        raise InputError(f"table '{table}': the schema needs a `{DAY}` column (date), got {', '.join(schema.names)}")
    wanted, what = sorted(set(days)), f"rows for table '{table}'"
    columns = arrow_columns(schema)
    _ensure(session, table, columns=columns, versioned=versioned)

    def select(given: Columns) -> str:
        return projection(given, columns, table=table)

    def record(transaction: Transaction) -> None:
        at_us = session.clock.now_us()
        if late is not None:
            record_late(transaction, table=table, days=wanted, late=late, at_us=at_us)
        record_builds(
            transaction,
            table=table,
            days=wanted,
            source=source,
            built_from=built_from,
            lookback_days=lookback_days,
            columns=list(columns),
            meanings=meanings,
            at_us=at_us,
        )

    with session.working() as own, staged(session, rows, cursor=cursor or own, select=select, what=what) as stage:
        check_days(stage, wanted, what=what)
        snapshot = commit_staged(
            session,
            stage,
            table,
            replace=() if versioned else wanted,
            version=(lambda number: f"{ROW_VERSION}={number}") if versioned else None,
            record=record,
        )
        return Commit(snapshot=snapshot, rows=stage.rows, days=tuple(wanted))


def _ensure(session: Session, table: str, *, columns: Columns, versioned: bool) -> None:
    wanted = {**columns, ROW_VERSION: "BIGINT"} if versioned else columns
    with session.reading() as cursor:
        if is_current(table_columns(cursor, check_name(table, kind="table")), wanted):
            return
    keys = [DAY, ROW_VERSION] if versioned else [DAY]
    session.commit(lambda t: ensure_table(t.cursor, table, columns=wanted, partition_by=keys))


def latest_sql(session: Session, table: str, *, snapshot: int | None, days: tuple[date, date] | None) -> str:
    """A query for the newest version of every day of a versioned table."""
    return (
        f"SELECT r.* FROM {qualified(session, table, snapshot=snapshot)} AS r JOIN ("
        f"SELECT day, max(snapshot) AS newest FROM {qualified(session, 'builds', snapshot=snapshot)} "
        f"WHERE table_name = '{check_name(table, kind='table')}' GROUP BY day) AS b "
        f"ON r.{DAY} = b.day AND r.{ROW_VERSION} = b.newest WHERE {between_days(days)}"
    )


def all_sql(session: Session, table: str, *, snapshot: int | None, days: tuple[date, date] | None) -> str:
    """A query for all versions of every day of a versioned table."""
    return f"SELECT * FROM {qualified(session, check_name(table, kind='table'), snapshot=snapshot)} WHERE {between_days(days)}"


def versions_sql(session: Session, table: str, *, versions: Mapping[date, int]) -> str:
    """A query for the given version of each given day of a versioned table.

    The condition itself prunes nothing (see `tables.is_of`); the caller's on the rows' time does.
    """
    chosen = ", ".join(f"'{day}/{version}'" for day, version in versions.items())
    condition = f"concat({DAY}, '/', {ROW_VERSION}) IN ({chosen})" if chosen else "FALSE"
    return f"SELECT * FROM {qualified(session, table, snapshot=None)} WHERE {condition}"


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


def drop(session: Session, table: str) -> bool:
    """Drop a materialized table with what the books say of it; whether there was one.

    Snapshots from before still read it, so its files go when those are expired.
    """

    def work(transaction: Transaction) -> bool:
        cursor = transaction.cursor
        for book in ("builds", PUBLISHED, LATE_EVENTS):
            cursor.execute(f"DELETE FROM {book} WHERE {is_of('table_name', '?')}", [check_name(table, kind="table")])
        found = table_columns(cursor, table) is not None
        if found:
            cursor.execute(f"DROP TABLE {quote(table)}")
        return found

    return session.commit(work)


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
