"""Materialized tables by day: tiles, which are replaced, and batch rows, of which a rebuild adds a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.lake.books.builds import NOT_NOTED, Provenance, record_builds
from feature_store.lake.books.late import LATE_EVENTS, record_late
from feature_store.lake.books.publications import PUBLISHED
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, between_days
from feature_store.lake.events import qualified
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
    table_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import pyarrow as pa

    from feature_store.lake.session import Session, Transaction

ROW_VERSION = "row_version"


class Partitions:
    """Writes whole days of such tables, and reads those that have versions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def replace(
        self,
        table: str,
        rows: Rows,
        *,
        schema: pa.Schema,
        days: Sequence[date],
        provenance: Provenance = NOT_NOTED,
        late: pa.Table | None = None,
    ) -> Commit:
        """Replace exactly `days` of a table partitioned by `_day`, creating or widening it if needed.

        Args:
            table: `tiles_<view>_v<n>`.
            rows: Arrow rows, or SQL; the schema's columns.
            schema: with a `_day` column (date).
            days: the days that are replaced; rows of other days are refused.
            provenance: what the days are built from.
            late: what the book of late events says of these days from this commit on (`history.late`); None: nothing new.
        """
        columns = self._ensured(table, schema, keys=[DAY])
        return self._write(table, rows, columns=columns, days=days, provenance=provenance, late=late, versioned=False)

    def append_version(
        self,
        table: str,
        rows: Rows,
        *,
        schema: pa.Schema,
        days: Sequence[date],
        provenance: Provenance = NOT_NOTED,
        late: pa.Table | None = None,
    ) -> Commit:
        """Add a version of `days`: `row_version` is the commit's snapshot; older versions stay. See `latest_sql`."""
        columns = self._ensured(table, schema, keys=[DAY, ROW_VERSION])
        return self._write(table, rows, columns=columns, days=days, provenance=provenance, late=late, versioned=True)

    def latest_sql(self, table: str, *, snapshot: int | None = None, days: tuple[date, date] | None = None) -> str:
        """SQL text for the newest version of each day of a table written by `append_version`."""
        session = self._session
        return (
            f"SELECT r.* FROM {qualified(session, table, snapshot=snapshot)} AS r JOIN ("
            f"SELECT day, max(snapshot) AS newest FROM {qualified(session, 'builds', snapshot=snapshot)} "
            f"WHERE table_name = '{check_name(table, kind='table')}' GROUP BY day) AS b "
            f"ON r.{DAY} = b.day AND r.{ROW_VERSION} = b.newest WHERE {between_days(days)}"
        )

    def all_sql(self, table: str, *, snapshot: int | None = None, days: tuple[date, date] | None = None) -> str:
        """SQL text for the rows of all versions, each with its `row_version`, of such a table."""
        name = qualified(self._session, check_name(table, kind="table"), snapshot=snapshot)
        return f"SELECT * FROM {name} WHERE {between_days(days)}"

    def versions_sql(self, table: str, versions: Mapping[date, int]) -> str:
        """SQL text for the given version of each given day, as `Builds.newest` names them; cheaper for a few days.

        The condition itself prunes nothing (see `tables.is_of`); the caller's on the rows' time does.
        """
        chosen = ", ".join(f"'{day}/{version}'" for day, version in versions.items())
        condition = f"concat({DAY}, '/', {ROW_VERSION}) IN ({chosen})" if chosen else "FALSE"
        return f"SELECT * FROM {qualified(self._session, table)} WHERE {condition}"

    def drop(self, table: str) -> bool:
        """Drop the tiles or rows of a view, and what the books say of them; whether there were any.

        Older snapshots still read them: the files go when those are expired.
        """

        def work(transaction: Transaction) -> bool:
            cursor = transaction.cursor
            for book in ("builds", PUBLISHED, LATE_EVENTS):
                cursor.execute(
                    f"DELETE FROM {book} WHERE {is_of('table_name', '?')}", [check_name(table, kind="table")]
                )
            found = table_columns(cursor, table) is not None
            if found:
                cursor.execute(f"DROP TABLE {quote(table)}")
            return found

        return self._session.commit(work)

    def _ensured(self, table: str, schema: pa.Schema, *, keys: Sequence[str]) -> Columns:
        """The columns of the table for rows of a schema; it is created or widened to have them."""
        if DAY not in schema.names:
            listed = ", ".join(schema.names)
            raise InputError(f"table '{table}': the schema needs a `{DAY}` column (date), got {listed}")
        columns = arrow_columns(schema)
        wanted = {**columns, ROW_VERSION: "BIGINT"} if ROW_VERSION in keys else columns
        with self._session.reading() as cursor:
            there = table_columns(cursor, check_name(table, kind="table"))
        if not is_current(there, wanted):
            self._session.commit(lambda t: ensure_table(t.cursor, table, columns=wanted, partition_by=keys))
        return columns

    def _write(
        self,
        table: str,
        rows: Rows,
        *,
        columns: Columns,
        days: Sequence[date],
        provenance: Provenance,
        late: pa.Table | None,
        versioned: bool,
    ) -> Commit:
        session, wanted, what = self._session, sorted(set(days)), f"rows for table '{table}'"

        def select(given: Columns) -> str:
            return projection(given, columns, table=table)

        def record(transaction: Transaction) -> None:
            at_us = session.clock.now_us()
            if late is not None:
                record_late(transaction, table=table, days=wanted, late=late, at_us=at_us)
            record_builds(transaction, table, days=wanted, columns=list(columns), provenance=provenance, at_us=at_us)

        with session.working() as own, staged(session, rows, cursor=own, select=select, what=what) as stage:
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
