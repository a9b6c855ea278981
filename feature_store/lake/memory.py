"""The part of a lake that training sets use, over DuckDB in memory: for unit tests, and for drafts in a notebook.

A DuckLake on disk takes the better part of a second to open and to fill. What is not here: snapshots, transactions,
files.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.duck import scratch
from feature_store.lake.books.builds import NOT_NOTED, Provenance
from feature_store.lake.books.commits import Days
from feature_store.lake.books.publications import Publication
from feature_store.lake.commit import Commit
from feature_store.transforms.project import ARRIVED, DAY, ID, LATE, OFFSET, PARTITION, TIME

if TYPE_CHECKING:
    import duckdb

_numbers = itertools.count()

_SYSTEM = (
    f"NULL::INTEGER AS {PARTITION}, NULL::BIGINT AS {OFFSET}, FALSE AS {LATE}, make_timestamp({TIME})::DATE AS {DAY}"
)


def _loaded(source: str) -> str:
    return f"events_{source}_loaded"


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="feature_store_scratch_") as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What a lake knows of a source beside its events."""

    days: Days = field(default_factory=lambda: Days([], [], 0))
    newest_arrival_us: int | None = None
    positions: Mapping[int, int] = field(default_factory=dict)
    kept_from: date | None = None


class MemoryLake:
    """What `history` asks of a `Lake`, with one snapshot."""

    def __init__(self, *, threads: int | None = 1, snapshot: int = 1) -> None:
        self._connection = scratch(threads=threads)
        self._name = f"memory_{next(_numbers)}"
        self._connection.execute(f"ATTACH ':memory:' AS {self._name}")
        self._snapshot = snapshot
        self._books: dict[str, Books] = {}
        self.partitions, self.builds = _Partitions(self), _Builds(self)
        self.publications, self.retention = _Publications(), _Retention(self)
        self._until_us: int | None = None

    def close(self) -> None:
        self._connection.execute(f"DETACH {self._name}")
        self._connection.close()

    def load(self, source: str, events: pa.Table) -> None:
        """Take events in the order given: one for each id, the first that arrived."""
        numbered = events.append_column("_n", pa.array(range(events.num_rows), type=pa.int64()))
        first = f"row_number() OVER (PARTITION BY {ID} ORDER BY {ARRIVED}, _n) = 1"
        with self.cursor() as cursor:
            cursor.register("numbered", numbered)
            taken = f"SELECT * EXCLUDE (_n), {_SYSTEM} FROM numbered QUALIFY {first} ORDER BY _n"
            cursor.execute(f"CREATE TABLE {_loaded(source)} AS {taken}")
            cursor.execute(f"CREATE TABLE events_{source}_live AS FROM {_loaded(source)} LIMIT 0")

    def copy(self, source: str, events: pa.Table, books: Books) -> None:
        """Take events of another lake, as its `events_sql` gives them, and what it knows of the source."""
        with self.cursor() as cursor:
            cursor.register("copied", events)
            cursor.execute(f"CREATE TABLE {_loaded(source)} AS FROM copied ORDER BY {TIME}, {ID}")
            cursor.execute(f"CREATE TABLE events_{source}_live AS FROM {_loaded(source)} LIMIT 0")
        self._books[source] = books

    def cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        cursor.execute(f"SET TimeZone = 'UTC'; USE {self._name}")
        return cursor

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return self.cursor()

    @contextmanager
    def arrived_by(self, time_us: int) -> Iterator[None]:
        """Within, the lake is as it was at that time: later arrivals are not there yet."""
        self._until_us = time_us
        try:
            yield
        finally:
            self._until_us = None

    @contextmanager
    def pinned(self, snapshot: int) -> Iterator[MemoryLake]:
        del snapshot  # there is one
        yield self

    def scratch(self) -> AbstractContextManager[Path]:
        return _scratch()

    def snapshot(self) -> int:
        return self._snapshot

    def ensure_source(self, source: str, schema: pa.Schema) -> None:
        del source, schema  # all are loaded from the start

    def positions(self, source: str, *, snapshot: int | None = None) -> dict[int, int]:
        del snapshot
        return dict(self.books(source).positions)

    def days(self, source: str, *, snapshot: int | None = None) -> Days:
        del snapshot
        with self.cursor() as cursor:
            row = cursor.execute(f"SELECT count(*) FROM {_loaded(source)}").fetchone()
        return self.books(source).days._replace(events=int(row[0]) if row else 0)

    def newest_arrival_us(self, source: str, *, snapshot: int | None = None) -> int | None:
        del snapshot
        return self.books(source).newest_arrival_us

    def books(self, source: str) -> Books:
        return self._books.get(source, Books())

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

    def exists(self, table: str, *, snapshot: int | None = None) -> bool:
        del table, snapshot  # the books of a stream stay in the lake that events were copied from
        return False


class _Partitions:
    """Days of rows, one version of each."""

    def __init__(self, lake: MemoryLake) -> None:
        self._lake = lake
        self.built: dict[str, set[date]] = {}

    def append_version(
        self,
        table: str,
        rows: pa.Table,
        *,
        schema: pa.Schema,
        days: Sequence[date],
        provenance: Provenance = NOT_NOTED,
        late: pa.Table | None = None,
    ) -> Commit:
        del schema, provenance, late
        with self._lake.cursor() as cursor:
            cursor.register("built", rows)
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM built LIMIT 0")
            cursor.execute(f"DELETE FROM {table} WHERE {DAY} IN (SELECT unnest(?::DATE[]))", [list(days)])
            cursor.execute(f"INSERT INTO {table} FROM built")
        self.built.setdefault(table, set()).update(days)
        return Commit(snapshot=self._lake.snapshot(), rows=rows.num_rows, days=tuple(days))

    def latest_sql(self, table: str, *, snapshot: int | None = None, days: tuple[date, date] | None = None) -> str:
        del snapshot, days
        return f"SELECT * FROM {table}"

    def all_sql(self, table: str, *, snapshot: int | None = None, days: tuple[date, date] | None = None) -> str:
        del snapshot, days
        return f"SELECT *, {self._lake.snapshot()} AS row_version FROM {table}"


class _Builds:
    """Everything is computed now, from all there is."""

    def __init__(self, lake: MemoryLake) -> None:
        self._lake = lake

    def newest(self, table: str, *, snapshot: int | None = None) -> dict[date, int]:
        del snapshot
        return dict.fromkeys(sorted(self._lake.partitions.built.get(table, ())), self._lake.snapshot())

    def columns(self, table: str, versions: Sequence[int]) -> dict[int, frozenset[str]]:
        del table, versions  # what is computed now has all of them
        return {}

    def stale_days(self, table: str, *, source: str, snapshot: int | None = None) -> list[date]:
        del table, source, snapshot
        return []


class _Publications:
    """What is computed now was never served."""

    def of(self, table: str, *, snapshot: int | None = None) -> list[Publication]:
        del table, snapshot
        return []


class _Retention:
    """What the lake that events were copied from had removed."""

    def __init__(self, lake: MemoryLake) -> None:
        self._lake = lake

    def kept_from(self, source: str, *, snapshot: int | None = None) -> date | None:
        del snapshot
        return self._lake.books(source).kept_from
