"""What every lake operation stands on: cursors, the commit lock, transactions, and this process's staging place."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
import uuid
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import duckdb
from filelock import FileLock

from feature_store.clock import Clock, SystemClock
from feature_store.errors import FeatureStoreError, InputError, LakeError, SnapshotGone, unknown_name
from feature_store.lake.connection import CATALOG, SQLITE, at_version, attach, connect, quote
from feature_store.lake.location import S3_SCHEME, LakeLocation
from feature_store.lake.locks import AdvisoryLock, CommitLock, FileCommitLock
from feature_store.lake.orphans import ORPHAN_AGE, OWNER_LOCK, delete_orphans, is_abandoned
from feature_store.lake.outage import first_line, outage, unreadable
from feature_store.lake.postgres import Postgres
from feature_store.lake.sizes import tables_at
from feature_store.lake.view_tables import ROWS, TILES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

Result = TypeVar("Result")

_ATTEMPTS = 8
_REMEMBERED = 300
"""How many answers about snapshots a session remembers: what is asked next is about the same ones."""
DROPPED = (TILES, ROWS)
"""How the names of tables begin that go with the version of a view; all others stay."""
_ENV = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Transaction:
    """A running commit."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.cursor = cursor

    @cached_property
    def snapshot(self) -> int:
        """The id of the snapshot that it will make. Asked for when it is wanted, since the answer takes milliseconds."""
        return current_snapshot(self.cursor) + 1


class Session:
    """One process's hold on a lake. Cursors may be used by many threads, each its own.

    In the lake's directory: `staging/<session>/` (files on their way in, and what spills); of a local lake also
    `catalog.sqlite`, `data/` (Parquet, owned by DuckLake) and `commit.lock`. Commits of all processes take the commit
    lock, so a transaction always sees the latest state.
    """

    def __init__(
        self,
        location: LakeLocation,
        *,
        env: str,
        clock: Clock | None,
        options: Mapping[str, str | int],
        lock_timeout_s: float,
        read_only: bool = False,
    ) -> None:
        if not _ENV.fullmatch(env):
            raise InputError(f"`env` must be lower-case letters, digits and _ (at most 31), got {env!r}")
        self.location, self.env, self.clock = location, env, clock or SystemClock()
        self.server = None if location.catalog is None else Postgres(location.catalog)
        self.staging = location.directory / "staging" / uuid.uuid4().hex
        self.declared: dict[str, Mapping[str, str]] = {}
        self._lasting: set[str] = set()
        self.fitted: dict[str, Mapping[str, str]] = {}
        """Source -> columns that its tables are known to have: they lose none, and are never dropped."""
        self._remembered: dict[Hashable, object] = {}
        self._held = threading.local()
        self._lock_timeout_s, self._read_only = lock_timeout_s, read_only
        self._thread_lock = threading.Lock()
        self._lock: CommitLock = (
            FileCommitLock(location.directory, timeout_s=lock_timeout_s)
            if self.server is None
            else AdvisoryLock(self.server, timeout_s=lock_timeout_s)
        )
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._open(options)

    def _open(self, options: Mapping[str, str | int]) -> None:
        try:
            if self._read_only:
                self._look(options)
            else:
                self._prepare(options)
        except OSError as error:
            self._give_up()
            done, able = ("read", "readable") if self._read_only else ("written", "writable")
            raise LakeError(
                f"the lake at {self.location} cannot be {done} ({error.strerror or error}); "
                f"make the directory {able} for this user or choose another with the lake's directory setting"
            ) from error
        except duckdb.Error as error:
            self._give_up()
            raise LakeError(self.explained(error, doing=f"the lake at {self.location} cannot be opened")) from error
        except FeatureStoreError:
            self._give_up()
            raise

    def _prepare(self, options: Mapping[str, str | int]) -> None:
        self.location.directory.mkdir(parents=True, exist_ok=True)
        if not self.location.files.startswith(S3_SCHEME):
            Path(self.location.files).mkdir(parents=True, exist_ok=True)
        with self.commit_lock():
            self.staging.mkdir(parents=True)
            self._owner = FileLock(self.staging / OWNER_LOCK, thread_local=False)
            self._owner.acquire()
            self._connection = connect(temp=self.staging / "spill", options=options)
            attach(self._connection, self.location, server=self.server)
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{quote(self.env)}")
            self._sweep()

    def _look(self, options: Mapping[str, str | int]) -> None:
        """Attach what is there; nothing is written, and spilling goes to a place of its own."""
        if self.server is None and not (self.location.directory / SQLITE).exists():
            raise LakeError(f"there is no lake at {self.location}")
        self.staging = Path(tempfile.mkdtemp(prefix="feature_store_"))
        self._connection = connect(temp=self.staging / "spill", options=options)
        attach(self._connection, self.location, server=self.server, read_only=True)
        schemas = self._connection.execute(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = ? AND schema_name <> 'main'", [CATALOG]
        ).fetchall()
        if (self.env,) not in schemas:
            known = [str(name) for (name,) in schemas]
            raise LakeError(f"the lake at {self.location}: {unknown_name('environment', self.env, sorted(known))}")

    def _sweep(self) -> None:
        """Remove what processes of this machine that died left behind."""
        dead = [place for place in self.staging.parent.iterdir() if place != self.staging and is_abandoned(place)]
        if not dead:
            return
        delete_orphans(self._connection, age=ORPHAN_AGE if self.location.is_shared else None)
        for place in dead:
            shutil.rmtree(place, ignore_errors=True)

    def _give_up(self) -> None:
        self._lock.close()
        shutil.rmtree(self.staging, ignore_errors=True)

    def explained(self, error: duckdb.Error, *, doing: str) -> str:
        """The sentence for what failed: the server that is away or refuses, or what DuckDB says in its first line."""
        return outage(error, self.location, self.server) or f"{doing}: {first_line(error)}"

    def table_folder(self, table: str) -> str:
        """Where DuckLake keeps the files of a table of this environment."""
        return f"{self.location.files}/{self.env}/{table}"

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor in the lake's schema. For one thread; close it when done.

        Raises:
            LakeError: Postgres is away.
        """
        cursor = self._connection.cursor()
        with self._telling_outages():
            cursor.execute(f"USE {CATALOG}.{quote(self.env)}")
        return cursor

    @contextmanager
    def _telling_outages(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            problem = outage(error, self.location, self.server) or unreadable(error, self.location)
            if problem is None:
                raise
            raise LakeError(problem) from error

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for the body alone, in one read transaction: all its statements see the same state.

        DuckLake asks its catalog for the newest snapshot and its schema once per transaction, and outside of one at each
        statement. Within `steady` transactions are begun once, and lent again.
        """
        begun: list[duckdb.DuckDBPyConnection] | None = getattr(self._held, "begun", None)
        if begun is not None:
            with self._lent(begun, self._begin) as cursor:
                yield cursor
            return
        with self.working() as cursor:
            cursor.execute("BEGIN")
            yield cursor
            cursor.execute("ROLLBACK")

    def remembered(self, key: Hashable, find: Callable[[], Result]) -> Result:
        """What `find` returns, asked once under a key: of a snapshot, which stays what it is."""
        found = self._remembered.get(key)
        if found is None:
            found = find()
            others = self._remembered if len(self._remembered) < _REMEMBERED else {}
            self._remembered = {**others, key: found}
        return cast("Result", found)

    @property
    def held(self) -> int | None:
        """The snapshot that `steady` holds in this thread."""
        held: int | None = getattr(self._held, "snapshot", None)
        return held

    def snapshot(self) -> int:
        """The newest snapshot, or the one that is held."""
        if (held := self.held) is not None:
            return held
        with self.reading() as cursor:
            return current_snapshot(cursor)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """For the body, in this thread, `snapshot` is what it was at its begin, and `reading` reads that state."""
        if self.held is not None:
            yield
            return
        begun: list[duckdb.DuckDBPyConnection] = []
        self._held.begun = begun
        try:
            self._held.snapshot = self.snapshot()
            yield
        finally:
            self._held.snapshot = self._held.begun = None
            with self._telling_outages():
                for cursor in begun:
                    cursor.execute("ROLLBACK")
                    self._idle.append(cursor)

    def working(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A cursor for the body alone; one that was used before, if there is one, since a new one costs milliseconds."""
        return self._lent(self._idle, self.cursor)

    @contextmanager
    def _lent(
        self, idle: list[duckdb.DuckDBPyConnection], new: Callable[[], duckdb.DuckDBPyConnection]
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """An idle cursor or a new one, which is idle again after the body."""
        cursor = _taken(idle) or new()
        try:
            with self._telling_outages():
                yield cursor
        except BaseException:
            cursor.close()  # whatever state it is in
            raise
        idle.append(cursor)

    def _begin(self) -> duckdb.DuckDBPyConnection:
        """A cursor in a transaction."""
        with self._telling_outages():
            cursor = _taken(self._idle) or self.cursor()
            cursor.execute("BEGIN")
            return cursor

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for the body alone; if this process dies, the next one that opens the lake removes it."""
        folder = self.staging / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def exists(self, table: str, *, snapshot: int | None = None) -> bool:
        """Whether this environment has such a table, and had it at a snapshot, which is there.

        Of one that is never dropped it is asked until it is there, and at a snapshot of all such tables together.
        """
        lasts = not table.startswith(DROPPED)
        if lasts and snapshot is not None:
            return table in self.remembered(("tables", snapshot), lambda: tables_at(self, snapshot))
        found = table in self._lasting or self._reads(quote(table))
        if found and lasts:
            self._lasting.add(table)
        return found and (snapshot is None or self._reads(f"{quote(table)} {at_version(snapshot)}"))

    def check_snapshot(self, snapshot: int) -> None:
        """Read a snapshot.

        Raises:
            SnapshotGone: it was expired, or never was.
        """
        with self.working() as cursor:  # which an error does not end
            try:
                cursor.execute(f"SELECT 1 FROM builds {at_version(snapshot)} LIMIT 0")
            except (duckdb.CatalogException, duckdb.InvalidInputException) as error:
                found = f"SELECT min(snapshot_id), max(snapshot_id) FROM ducklake_snapshots('{CATALOG}')"
                oldest, newest = cursor.execute(found).fetchone() or (None, None)
                gone = "it was expired" if newest is not None and snapshot <= newest else "it never was"
                raise SnapshotGone(
                    f"snapshot {snapshot} is not in the lake at {self.location}: {gone} (oldest {oldest}, newest {newest}); "
                    "what was read then cannot be read again"
                ) from error

    def _reads(self, table: str) -> bool:
        with self.reading() as cursor:
            try:
                cursor.execute(f"SELECT 1 FROM {table} LIMIT 0")
            except duckdb.CatalogException:
                return False
            return True

    @contextmanager
    def commit_lock(self) -> Iterator[None]:
        """The one lock of all writers of this lake.

        Raises:
            LakeError: it was not free within the lock timeout, Postgres is away, or the lake is open for reading only.
        """
        if self._read_only:
            raise LakeError(f"the lake at {self.location} is open for reading only; nothing was written")
        with self._thread_lock:
            self._lock.acquire()
            try:
                yield
            finally:
                self._lock.release()

    def commit(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction under the commit lock; all of it is written, or nothing.

        Contention with writers outside this library is retried a bounded number of times, so `work` may run again.
        """
        with self.commit_lock(), self.working() as cursor:
            deadline = time.perf_counter() + self._lock_timeout_s
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return _transact(cursor, work)
                except duckdb.Error as error:
                    if attempt == _ATTEMPTS or time.perf_counter() > deadline or not _is_contention(error):
                        doing = (
                            f"nothing was committed to the lake at {self.location} (attempt {attempt} of {_ATTEMPTS})"
                        )
                        raise LakeError(self.explained(error, doing=doing)) from error
                time.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Close the connection and remove this process's staging place."""
        while self._idle:
            self._idle.pop().close()
        self._connection.close()
        self._lock.close()
        if not self._read_only:
            self._owner.release()
        shutil.rmtree(self.staging, ignore_errors=True)


def _taken(idle: list[duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection | None:
    """One of them, which threads may share."""
    try:
        return idle.pop()
    except IndexError:
        return None


def current_snapshot(cursor: duckdb.DuckDBPyConnection) -> int:
    """The snapshot this cursor's transaction reads."""
    row = cursor.execute(f"SELECT id FROM ducklake_current_snapshot('{CATALOG}')").fetchone()
    assert row is not None
    return int(row[0])


def _transact(cursor: duckdb.DuckDBPyConnection, work: Callable[[Transaction], Result]) -> Result:
    cursor.execute("BEGIN")
    try:
        result = work(Transaction(cursor))
        cursor.execute("COMMIT")
    except BaseException:
        _roll_back(cursor)
        raise
    return result


def _roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.execute("ROLLBACK")
    except duckdb.TransactionException:
        return  # a failed COMMIT has already ended it


def _is_contention(error: duckdb.Error) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("database is locked", "conflict", "maximum retry count"))
