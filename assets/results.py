"""What a materialization tells: rows, snapshot, a preview."""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from feature_store_deploy.assets.markdown import table

from feature_store.history.late import LateEvents
from feature_store.masked import masked
from feature_store.store import FeatureStore

PREVIEW_ROWS = 5


def written(
    store: FeatureStore,
    name: str,
    *,
    rows: int,
    snapshot: int,
    days: tuple[datetime, datetime],
    columns: dg.TableSchema,
    seconds: float,
    personal: bool,
) -> dict[str, Any]:
    """Metadata of days that were written to a table of the lake in so many seconds; the second of `days` is the end, excluded.

    `personal`: its rows hold personal data, which is not shown.
    """
    first, last = days[0].date(), (days[1] - timedelta(days=1)).date()
    relation = store.lake.table_sql(name)
    return {
        "dagster/row_count": _count(store, relation),
        "dagster/relation_identifier": f"lake.{store.lake.env}.{name}",
        "dagster/column_schema": columns,
        "rows_written": rows,
        "bytes_written": store.lake.size_of(name, (first, last)),
        "seconds": round(seconds, 3),
        "snapshot_id": snapshot,
        "days": f"{first} to {last}",
        "preview": preview(
            store,
            f"SELECT * FROM {relation} WHERE _day BETWEEN DATE '{first}' AND DATE '{last}'",
            personal=personal,
        ),
    }


def told_late(late: LateEvents) -> dict[str, Any]:
    """Metadata of the late events of days that were built."""
    return {
        "late": late.late,
        "late_policy": late.policy,
        "late_delays": str(late),
        "late_changed_values": late.changed,
        **({"late_ignored_values": late.ignored} if late.policy == "ignore" else {}),
    }


def preview(store: FeatureStore, query: str, *, personal: bool) -> dg.MarkdownMetadataValue:
    """The first rows of a query as a table; of personal data only which columns have a value."""
    cursor = store.lake.cursor()
    try:
        found = cursor.execute(f"SELECT * FROM ({query}) LIMIT {PREVIEW_ROWS}").to_arrow_table()
    finally:
        cursor.close()
    rows = [[masked(value, personal=personal) for value in row.values()] for row in found.to_pylist()]
    return dg.MetadataValue.md(table(found.schema.names, rows) if rows else "no rows")


def _count(store: FeatureStore, relation: str) -> int:
    cursor = store.lake.cursor()
    try:
        row = cursor.execute(f"SELECT count(*) FROM {relation}").fetchone()
    finally:
        cursor.close()
    return int(row[0]) if row else 0
