"""`Lake`: the one door to events, tiles, batch rows and the lake's books."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import pyarrow as pa

from feature_store.lake import events as event_tables
from feature_store.lake import live, loaded, plain, sizes
from feature_store.lake.books import commits
from feature_store.lake.books.builds import Builds
from feature_store.lake.books.late import LATE_EVENTS, late_rows
from feature_store.lake.books.publications import Publications
from feature_store.lake.books.schema import ensure_books
from feature_store.lake.location import LakeLocation
from feature_store.lake.partitions import Partitions
from feature_store.lake.retention import Retention
from feature_store.lake.session import Session
from feature_store.lake.upkeep import PINS, Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date
    from pathlib import Path

    import duckdb

    from feature_store.clock import Clock
    from feature_store.lake.books.commits import Days
    from feature_store.lake.commit import Commit
    from feature_store.lake.tables import Columns, Rows

Result = TypeVar("Result")


class Lake:
    """A DuckLake of one environment. Open it once per process; threads take a cursor each.

    Reads see whole commits only and are never blocked by writers. A failed write leaves nothing.
    Days are UTC days of event time; spans of days include both ends. Every write raises LakeError
    when rows do not fit a table (naming the column) or the lake cannot be written.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.partitions = Partitions(session)
        """Tables of tiles and rows, written by whole days."""
        self.builds = Builds(session)
        """Which days of tiles and rows were built, from what, and whether that still holds."""
        self.publications = Publications(session)
        """Which rows of batch views readers were given."""
        self.retention = Retention(session)
        """Days of events that are removed for their age."""
        self.upkeep = Upkeep(session)
        """Merging files, and forgetting snapshots."""

    @classmethod
    def open(
        cls,
        location: LakeLocation | Path,
        *,
        env: str = "dev",
        clock: Clock | None = None,
        threads: int | None = None,
        memory_limit: str | None = None,
        lock_timeout_s: float = 60.0,
        read_only: bool = False,
    ) -> Lake:
        """Open the lake at `location`, creating it on first use; cleans up after processes that died.

        Args:
            location: where it is; a path is a directory that holds all of it.
            env: the environment; its tables live in a schema of that name.
            clock: stamps the books; the machine's by default.
            threads: DuckDB's worker threads; all cores by default.
            memory_limit: as DuckDB writes it, `1GB`; beyond it work spills to disk.
            lock_timeout_s: how long a commit waits for the writers of other processes.
            read_only: open what is there and write nothing: no table, no lock, no staging place. (SQLite keeps two
                small files beside its catalog while anyone reads.)

        Raises:
            LakeError: the directory is not writable, the lake is locked, or, of a shared lake, Postgres or the
                bucket is away or refuses, or the data is not where its catalog says; reading only, there is no such
                lake or environment.
            InputError: `env` is not a plain name.
        """
        options: dict[str, str | int] = {}
        if threads is not None:
            options["threads"] = threads
        if memory_limit is not None:
            options["memory_limit"] = memory_limit
        place = location if isinstance(location, LakeLocation) else LakeLocation(location)
        session = Session(
            place, env=env, clock=clock, options=options, lock_timeout_s=lock_timeout_s, read_only=read_only
        )
        if not read_only:
            ensure_books(session)
        return cls(session)

    def close(self) -> None:
        """Close every cursor and remove this process's staging place."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def location(self) -> LakeLocation:
        """Where the lake is."""
        return self._session.location

    @property
    def env(self) -> str:
        """The environment this handle reads and writes."""
        return self._session.env

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB cursor in UTC with `lake.<env>` as its schema; one per thread, closed by the caller."""
        return self._session.cursor()

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Such a cursor for the body of a `with`, in one read transaction: all that it reads is of one state of the lake.

        An error within ends the transaction, and what follows on the cursor fails.
        """
        return self._session.reading()

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder on disk for the body of a `with`, beside the lake's own files."""
        return self._session.scratch()

    def snapshot(self) -> int:
        """The newest snapshot; within `steady` the same one all the time."""
        return self._session.snapshot()

    def steady(self) -> AbstractContextManager[None]:
        """For the body of a `with`, in this thread, `snapshot` is what it was at its begin: many questions about one state."""
        return self._session.steady()

    def counts(self, source: str, days: Sequence[date], *, snapshot: int) -> dict[date, int]:
        """Day -> how many events it has at a snapshot, also none. A day is counted once."""
        return event_tables.count_days(self._session, source, days, snapshot=snapshot)

    def once(self, key: Hashable, find: Callable[[], Result]) -> Result:
        """What `find` says of the lake; within `steady` it is asked once for a key and a state of the lake."""
        held = self._session.held
        return find() if held is None else self._session.remembered((key, held), find)

    @contextmanager
    def pinned(self, snapshot: int) -> Iterator[Lake]:
        """A lake for reading at a snapshot: this one at the newest, otherwise one with a connection of its own.

        DuckLake remembers schemas by their number. Reading a table that the catalog itself holds can leave a wrong one for
        the number of an older snapshot, so a connection reads the snapshot before anything else.

        Raises:
            SnapshotGone: the snapshot was expired, or never was.
        """
        if snapshot == self.snapshot():
            yield self
            return
        with Lake.open(self.location, env=self.env, clock=self._session.clock, read_only=True) as lake:
            lake._session.check_snapshot(snapshot)  # noqa: SLF001 - of the same class
            yield lake

    def pin(self, snapshot: int, *, reason: str) -> None:
        """Keep a snapshot through every `expire`. Pinning it again changes nothing."""
        if snapshot not in self.pins():
            row = {"snapshot": snapshot, "reason": reason, "at_us": self._session.clock.now_us()}
            self.append(PINS, pa.Table.from_pylist([row]))

    def pins(self) -> dict[int, str]:
        """The pinned snapshots of this environment, and why."""
        if not self.exists(PINS):
            return {}
        with self._session.reading() as cursor:
            return dict(cursor.execute(f"SELECT snapshot, reason FROM {PINS} ORDER BY 1").fetchall())

    # ---- events

    def ensure_source(self, source: str, schema: pa.Schema) -> None:
        """Create the tables of a source, or add new columns to them and widen those whose type has grown.

        What is there may be wider than `schema`: who declared it earlier reads and writes on.
        """
        event_tables.ensure_source(self._session, source, schema)

    def sources(self) -> list[str]:
        """The sources that have tables here."""
        with self._session.reading() as cursor:
            return event_tables.sources(cursor)

    def has_source(self, source: str) -> bool:
        """Whether a source has tables here."""
        return event_tables.has_source(self._session, source)

    def replace_loaded(
        self,
        source: str,
        events: Rows,
        *,
        days: Sequence[date],
        rejected: pa.Table | None = None,
        cursor: duckdb.DuckDBPyConnection | None = None,
    ) -> Commit:
        """Replace exactly `days` of the loaded events, whole or not at all; days without rows become empty.

        Args:
            source: known from `ensure_source`.
            events: Arrow rows, or SQL run on `cursor`. Columns: the schema's, `_event_id`, `_event_us`; optional
                `_arrived_us` (null), `_late` (false), `_day` (the UTC day of `_event_us`). One row per event id is
                kept; repeated rows are counted, conflicting ones go to `rejected_events`.
            days: the UTC days of event time that are replaced; rows of other days are refused.
            rejected: dead letters of this load, as for `append_live` but without partition and offset; they are
                committed with it, once however often it is repeated.
            cursor: where SQL finds its tables; a fresh one by default.
        """
        return loaded.replace_loaded(self._session, source, events=events, days=days, rejected=rejected, cursor=cursor)

    def append_live(
        self,
        source: str,
        events: pa.Table,
        *,
        owner: str,
        start: Mapping[int, int],
        end: Mapping[int, int],
        rejected: pa.Table | None = None,
    ) -> Commit:
        """Append events read from the log and move the source's positions, in one commit.

        Args:
            source: known from `ensure_source`.
            events: the schema's columns and the system columns; `_late` and `_day` may be left out. Event ids must
                be new: whoever reads the log drops known ones.
            owner: who writes, for the books.
            start: partition -> position the batch starts at. A partition's first commit may start anywhere.
            end: partition -> next offset to read afterwards.
            rejected: dead letters of the same batch: `source`, `partition`, `offset`, `arrived_us`, `reason`,
                `payload`, `kind` (rejected, duplicate, conflict), optional `event_id`.

        Raises:
            PositionConflict: the lake does not stand at `start`; nothing was written.
        """
        return live.append_live(
            self._session, source, events=events, owner=owner, start=start, end=end, rejected=rejected
        )

    def positions(self, source: str, *, snapshot: int | None = None) -> dict[int, int]:
        """The next offset to read per partition, now or at a snapshot; empty before the first live commit."""
        return live.positions(self._session, source, snapshot=snapshot)

    def newest_arrival_us(self, source: str, *, snapshot: int | None = None) -> int | None:
        """Of the newest event committed from the log, the arrival; of the partition that is furthest behind."""
        return live.newest_arrival_us(self._session, source, snapshot=snapshot)

    def events_sql(
        self,
        source: str,
        *,
        snapshot: int | None = None,
        loaded_at: int | None = None,
        days: tuple[date, date] | None = None,
        where: str = "TRUE",
    ) -> str:
        """SQL text for a source's events, one row per event id, live before loaded. Works on any cursor of the lake.

        `days` (first, last) prunes files on both sides and is what keeps a read of few days cheap; `where` filters rows.
        `loaded_at` takes the loaded events as of another snapshot than the live ones.
        """
        return event_tables.events_sql(
            self._session, source, snapshot=snapshot, loaded_at=loaded_at, days=days, where=where
        )

    def days(self, source: str, *, snapshot: int | None = None) -> Days:
        """Days for which the lake was given events, now or at a snapshot."""
        if snapshot is not None:
            return event_tables.days_at(self._session, source, snapshot)
        with self._session.reading() as cursor:
            return commits.committed_days(cursor, source)

    def live_rows_since(self, source: str, since_us: int) -> int:
        """How many events of a source were committed from its log since a time."""
        with self._session.reading() as cursor:
            return commits.live_rows_since(cursor, source, since_us)

    def loads_since(self, source: str, snapshot: int) -> dict[date, int]:
        """Days that were loaded after a snapshot -> the snapshot of the newest load of each."""
        with self._session.reading() as cursor:
            return commits.loads_since(cursor, source, snapshot)

    # ---- plain tables

    def append(self, table: str, rows: pa.Table, *, once: Sequence[str] = ()) -> Commit:
        """Append to a plain table, created or widened by the rows' schema: `served_vectors`, `registry_versions`.

        Args:
            table: its name.
            rows: what is appended; columns that the table has and they do not are null.
            once: columns without nulls that tell rows apart, a number that grows with time first: a row of which the
                table has one with the same is left out, whoever appends at the same time.
        """
        return plain.append(self._session, table, rows=rows, once=once)

    def append_next(
        self,
        tables: Mapping[str, pa.Table],
        *,
        book: str,
        after: int,
        sources: Mapping[str, pa.Schema] | None = None,
    ) -> Commit | None:
        """Append to plain tables in one commit, if the highest `version` in the table `book` is still `after` (0: none).

        Returns None if it is not, because somebody else was first; nothing was written then.
        The tables of `sources` are created or widened in the same commit, as by `ensure_source`.
        """
        return plain.append_next(self._session, tables, book=book, after=after, sources=sources or {})

    def columns(self, table: str) -> Columns:
        """Names and DuckDB types of a table; UnknownNameError if there is none."""
        return plain.known_table(self._session, table)

    def exists(self, table: str, *, snapshot: int | None = None) -> bool:
        """Whether this environment has such a table, now or at a snapshot."""
        return self._session.exists(table, snapshot=snapshot)

    def table_sql(self, table: str, *, snapshot: int | None = None) -> str:
        """A table's full name for SQL on any cursor of the lake, now or at a snapshot."""
        return event_tables.qualified(self._session, table, snapshot=snapshot)

    def late_rows(self, table: str, *, days: tuple[date, date] | None = None) -> pa.Table:
        """What the book of late events says of the days of a table, in their order; see `history.late`."""
        if not self.exists(LATE_EVENTS):
            return pa.table({"day": pa.array([], pa.date32())})  # a lake from before this was noted, only read
        with self._session.reading() as cursor:
            return late_rows(cursor, table, days=days)

    # ---- sizes

    def extent(self) -> sizes.Extent:
        """How many files, bytes and snapshots there are, of all environments."""
        return sizes.extent(self._session)

    def size_of(self, table: str, days: tuple[date, date]) -> int:
        """Bytes of the files of some days of a table partitioned by day, as they are now; both ends are included."""
        return sizes.size_of(self._session, table, days)

    def column_bytes(self, tables: Sequence[str]) -> dict[str, dict[str, int]]:
        """Table -> column -> bytes in the files that are read now; see `sizes.column_bytes`."""
        return sizes.column_bytes(self._session, tables)
