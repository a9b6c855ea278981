"""Rows that a load could not take: how many, why, and what they look like."""

from datetime import datetime

from feature_store_deploy.assets.markdown import table

from feature_store.dead_letters.shown import shown_text
from feature_store.declare import EventSource
from feature_store.store import FeatureStore

SAMPLE_ROWS = 5


def rejected_sample(store: FeatureStore, source: EventSource, *, start: datetime, end: datetime) -> str:
    """Some dead letters of loaded history with `start <= event time < end`, or without a time, as a markdown table."""
    cursor = store.lake.cursor()
    try:
        rows = cursor.execute(
            f"""
            WITH letters AS (
                SELECT kind, reason, decode(payload) AS payload,
                       TRY_CAST(decode(payload) ->> $column AS TIMESTAMPTZ) AS time
                FROM {store.lake.table_sql("rejected_events")} WHERE source = $source AND "partition" IS NULL
            )
            SELECT kind, reason, payload FROM letters WHERE time IS NULL OR time >= $start AND time < $end
            ORDER BY reason, payload LIMIT {SAMPLE_ROWS}
            """,
            {"column": source.event_time, "source": source.name, "start": start, "end": end},
        ).fetchall()
    finally:
        cursor.close()
    letters = [(kind, shown_text(store.registry, source.name, reason, payload)) for kind, reason, payload in rows]
    return table(["kind", "reason", "row"], [[kind, text.reason, text.payload] for kind, text in letters])
