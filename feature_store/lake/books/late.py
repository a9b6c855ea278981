"""The book of late events: of each day of a view that was built, what came late and what that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.lake.connection import literal
from feature_store.lake.tables import Columns, is_of, projection, relation, relation_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import duckdb
    import pyarrow as pa

    from feature_store.lake.session import Transaction

LATE_EVENTS = "late_events"
"""Table: one row per day of a view that was built with events from the log: how many were late, and what they changed."""

LATE: Columns = {
    "snapshot": "BIGINT",  # the snapshot that built the day
    "table_name": "VARCHAR",
    "view": "VARCHAR",  # name@version
    "day": "DATE",
    "policy": "VARCHAR",
    "limit_us": "BIGINT",  # what arrives later than that after it happened is late
    "events": "BIGINT",  # that came over the log
    "late": "BIGINT",
    "delays": "MAP(VARCHAR, BIGINT)",  # how many late events had which delay
    "longest_us": "BIGINT",
    "entities": "BIGINT",  # that late events are about
    "compared": "BIGINT",  # of these, whose values were compared
    "changed": "BIGINT",  # values
    "ignored": "BIGINT",  # values that would be others if the policy were `correct`
    "at_us": "BIGINT",
}


def record_late(transaction: Transaction, *, table: str, days: Sequence[date], late: pa.Table, at_us: int) -> None:
    """Replace what the book says of `days` of `table`; a day without a row had no events that count."""
    cursor = transaction.cursor
    listed = ", ".join(literal(day.isoformat()) for day in days)
    cursor.execute(f"DELETE FROM {LATE_EVENTS} WHERE {is_of('table_name', '?')} AND concat(day) IN ({listed})", [table])
    if not late.num_rows:
        return
    own = {"snapshot": str(transaction.snapshot), "table_name": literal(table), "at_us": str(at_us)}
    with relation(cursor, late) as rows:
        given = relation_columns(cursor, f"SELECT * FROM {rows}")
        columns = projection(given, LATE, table=LATE_EVENTS, defaults=own)
        cursor.execute(f"INSERT INTO {LATE_EVENTS} SELECT {columns} FROM {rows}")


def late_rows(cursor: duckdb.DuckDBPyConnection, table: str, *, days: tuple[date, date] | None) -> pa.Table:
    """The book's rows of a table, by day."""
    span = "TRUE" if days is None else f"concat(day) BETWEEN '{days[0].isoformat()}' AND '{days[1].isoformat()}'"
    return cursor.execute(
        f"SELECT * FROM {LATE_EVENTS} WHERE {is_of('table_name', '?')} AND {span} ORDER BY day", [table]
    ).to_arrow_table()
