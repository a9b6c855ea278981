"""The part of a lake that training sets use, over DuckDB in memory.

A DuckLake on disk takes the better part of a second to open and to fill, which is too much for a unit test. What is
not here: snapshots, transactions, files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.duck import in_memory
from feature_store.lake.commit import Commit
from feature_store.transforms.project import ARRIVED, DAY, ID, LATE, OFFSET, PARTITION, TIME

if TYPE_CHECKING:
    import duckdb

_SYSTEM = (
    f"NULL::INTEGER AS {PARTITION}, NULL::BIGINT AS {OFFSET}, FALSE AS {LATE}, make_timestamp({TIME})::DATE AS {DAY}"
)


def _loaded(source: str) -> str:
    return f"events_{source}_loaded"


class MemoryLake:
    """What `history` asks of a `Lake`, with one snapshot."""

    def __init__(self) -> None:
        self._connection = in_memory(threads=1)
        self._built: dict[str, list[date]] = {}
        self._until_us: int | None = None

    def load(self, source: str, events: pa.Table) -> None:
        """Take events in the order given: one for each id, the first that arrived."""
        numbered = events.append_column("_n", pa.array(range(events.num_rows), type=pa.int64()))
        first = f"row_number() OVER (PARTITION BY {ID} ORDER BY {ARRIVED}, _n) = 1"
        with self.cursor() as cursor:
            cursor.register("numbered", numbered)
            taken = f"SELECT * EXCLUDE (_n), {_SYSTEM} FROM numbered QUALIFY {first} ORDER BY _n"
            cursor.execute(f"CREATE TABLE {_loaded(source)} AS {taken}")
            cursor.execute(f"CREATE TABLE events_{source}_live AS FROM {_loaded(source)} LIMIT 0")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    @contextmanager
    def arrived_by(self, time_us: int) -> Iterator[None]:
        """Within, the lake is as it was at that time: later arrivals are not there yet."""
        self._until_us = time_us
        try:
            yield
        finally:
            self._until_us = None

    def snapshot(self) -> int:
        return 1

    def ensure_source(self, source: str, schema: pa.Schema) -> None:
        del source, schema  # all are loaded from the start

    def positions(self, source: str, *, snapshot: int | None = None) -> dict[int, int]:
        del source, snapshot
        return {}

    def table_sql(self, table: str, *, snapshot: int | None = None) -> str:
        del snapshot
        return table

    def events_sql(
        self,
        source: str,
        *,
        snapshot: int | None = None,
        days: tuple[date, date] | None = None,
        where: str = "TRUE",
    ) -> str:
        del snapshot
        within = "TRUE" if days is None else f"{DAY} BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'"
        arrived = "TRUE" if self._until_us is None else f"{ARRIVED} <= {self._until_us}"
        return f"SELECT * FROM {_loaded(source)} WHERE {within} AND {arrived} AND ({where})"

    def append_rows(
        self,
        table: str,
        rows: pa.Table,
        *,
        schema: pa.Schema,
        days: Sequence[date],
        source: str | None = None,
        built_from: int | None = None,
        lookback_days: int = 0,
    ) -> Commit:
        del schema, source, built_from, lookback_days
        with self.cursor() as cursor:
            cursor.register("built", rows)
            cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM built")
        self._built[table] = list(days)
        return Commit(snapshot=1, rows=rows.num_rows, days=tuple(days))

    def newest_builds(self, table: str, *, snapshot: int | None = None) -> dict[date, int]:
        del snapshot
        return dict.fromkeys(self._built.get(table, []), 1)

    def latest_rows_sql(self, table: str, *, snapshot: int | None = None, days: tuple[date, date] | None = None) -> str:
        del snapshot, days
        return f"SELECT * FROM {table}"

    def stale_days(self, table: str, *, source: str, snapshot: int | None = None) -> list[date]:
        del table, source, snapshot
        return []
