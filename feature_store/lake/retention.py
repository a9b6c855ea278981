"""Retention of events, and its book: days of a source that it took, and since which snapshot they are gone.

Days go from the oldest on, so the day after the last one is from where the lake still has every event.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from feature_store.lake.connection import METADATA, at_version, quote
from feature_store.lake.days import in_days
from feature_store.lake.events import live_table, loaded_table
from feature_store.lake.tables import Columns, ensure_table, is_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feature_store.lake.session import Session, Transaction

REMOVED_EVENTS = "removed_events"
"""Table: one row per day of a source whose events were removed."""
_REMOVED: Columns = {
    "snapshot": "BIGINT",  # since which they are gone; older ones still read them
    "source": "VARCHAR",
    "day": "DATE",
    "at_us": "BIGINT",
}


_BYTES_BY_DAY = f"""
    SELECT v.partition_value, sum(f.file_size_bytes)::BIGINT FROM {METADATA}.ducklake_data_file AS f
    JOIN {METADATA}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
    JOIN {METADATA}.ducklake_schema AS s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL
    JOIN {METADATA}.ducklake_file_partition_value AS v ON v.data_file_id = f.data_file_id
    WHERE f.end_snapshot IS NULL AND s.schema_name = ? AND t.table_name IN (?, ?) GROUP BY ALL
"""


class OldEvents(NamedTuple):
    """What the lake holds of a day of a source, loaded and live."""

    day: date
    events: int
    size_bytes: int
    """Of its files."""


class Retention:
    """Removes days of events from the lake, and knows which are gone."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def kept_from(self, source: str, *, snapshot: int | None = None) -> date | None:
        """The first day of which no event was removed, now or at a snapshot; None if none ever was."""
        if not self._session.exists(REMOVED_EVENTS, snapshot=snapshot):
            return None
        with self._session.reading() as cursor:
            row = cursor.execute(
                f"SELECT max(day) FROM {REMOVED_EVENTS} {at_version(snapshot)} WHERE {is_of('source', '?')}", [source]
            ).fetchone()
        return None if row is None or row[0] is None else row[0] + timedelta(days=1)

    def old_events(self, source: str, *, before: date) -> list[OldEvents]:
        """The days before a day of which there are events, in order, with how many and the bytes of their files."""
        tables = [loaded_table(source), live_table(source)]
        counts = " UNION ALL ".join(
            f"SELECT _day, count(*) AS events FROM {quote(table)} WHERE _day < DATE '{before}' GROUP BY _day"
            for table in tables
        )
        with self._session.reading() as cursor:
            rows = cursor.execute(
                f"SELECT _day, sum(events)::BIGINT FROM ({counts}) GROUP BY _day ORDER BY _day"
            ).fetchall()
            sizes = dict(cursor.execute(_BYTES_BY_DAY, [self._session.env, *tables]).fetchall())
        return [OldEvents(day, events, sizes.get(day.isoformat(), 0)) for day, events in rows]

    def remove(self, source: str, days: Sequence[date]) -> int:
        """Remove all events of some days, whole or not at all; returns how many (live and loaded ones counted each).

        Snapshots from before still read them: the files go when those are expired. Whether anything still needs them is
        for the caller to know (`housekeeping.events`).
        """

        def work(transaction: Transaction) -> int:
            cursor = transaction.cursor
            ensure_table(cursor, REMOVED_EVENTS, columns=_REMOVED)
            gone = 0
            for table in (loaded_table(source), live_table(source)):
                row = cursor.execute(f"DELETE FROM {quote(table)} WHERE {in_days(days)}").fetchone()
                gone += int(row[0]) if row else 0
            cursor.execute(
                f"INSERT INTO {REMOVED_EVENTS} SELECT ?, ?, unnest(?::DATE[]), ?",
                [transaction.snapshot, source, list(days), self._session.clock.now_us()],
            )
            return gone

        return self._session.commit(work)
