"""The book of dead letters: what a load or a log brought that is no event, or contradicts one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.lake.connection import quote
from feature_store.lake.tables import Columns, projection, relation, relation_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.lake.session import Transaction

REJECTED: Columns = {
    "source": "VARCHAR",
    "partition": "INTEGER",
    "offset": "BIGINT",
    "arrived_us": "BIGINT",
    "reason": "VARCHAR",
    "payload": "BLOB",
    "kind": "VARCHAR",  # rejected | duplicate | conflict
    "event_id": "VARCHAR",
}


def record_rejected(transaction: Transaction, rejected: pa.Table | None) -> None:
    """Append to the dead letters; `event_id` may be left out.

    What came by loading (no partition) and is there already is not added again, so loading twice changes nothing.
    """
    if rejected is None or not rejected.num_rows:
        return
    cursor = transaction.cursor
    with relation(cursor, rejected) as rows:
        given = relation_columns(cursor, f"SELECT * FROM {rows}")
        listed = projection(given, REJECTED, table="rejected_events", defaults={"event_id": "NULL"})
        same = " AND ".join(f"r.{quote(name)} IS NOT DISTINCT FROM old.{quote(name)}" for name in REJECTED)
        cursor.execute(
            f"""INSERT INTO rejected_events SELECT r.* FROM (SELECT {listed} FROM {rows}) AS r
            ANTI JOIN (SELECT * FROM rejected_events WHERE "partition" IS NULL) AS old ON {same}"""
        )
