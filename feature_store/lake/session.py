"""What every lake operation stands on: cursors, the commit lock, transactions, and this process's staging place."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
from filelock import FileLock, Timeout

from feature_store.clock import Clock, SystemClock
from feature_store.errors import InputError, LakeError, unknown_name
from feature_store.lake.connection import CATALOG, attach, connect, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Result = TypeVar("Result")

_LOCK_POLL_S = 0.002
_ATTEMPTS = 8
_ENV = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True)
class Transaction:
    """A running commit: its cursor, and the id of the snapshot that it will make."""

    cursor: duckdb.DuckDBPyConnection
    snapshot: int


class Session:
    """One process's hold on a lake directory. Cursors may be used by many threads, each its own.

    Layout: `catalog.sqlite`, `data/` (Parquet, owned by DuckLake), `staging/<session>/` (files on their way in),
    `commit.lock`. Commits of all processes take that lock, so a transaction always sees the latest state.
    """

    def __init__(
        self,
        directory: Path,
        *,
        env: str,
        clock: Clock | None,
        options: Mapping[str, str | int],
        lock_timeout_s: float,
        read_only: bool = False,
    ) -> None:
        if not _ENV.fullmatch(env):
            raise InputError(f"`env` must be lower-case letters, digits and _ (at most 31), got {env!r}")
        self.directory, self.env, self.clock = directory.absolute(), env, clock or SystemClock()
        self.data = self.directory / "data"
        self.staging = self.directory / "staging" / uuid.uuid4().hex
        self.declared: dict[str, Mapping[str, str]] = {}
        self._lock_timeout_s, self._read_only = lock_timeout_s, read_only
        self._thread_lock = threading.Lock()
        self._idle: list[duckdb.DuckDBPyConnection] = []
        try:
            if read_only:
                self._look(options)
            else:
                self._prepare(options)
        except OSError as error:
            shutil.rmtree(self.staging, ignore_errors=True)
            raise LakeError(
                f"the lake at {self.directory} cannot be written ({error.strerror or error}); "
                "make the directory writable for this user or choose another with the lake's directory setting"
            ) from error
        except LakeError:
            shutil.rmtree(self.staging, ignore_errors=True)
            raise
        except duckdb.Error as error:
            shutil.rmtree(self.staging, ignore_errors=True)
            raise LakeError(f"the lake at {self.directory} cannot be opened: {first_line(error)}") from error

    def _prepare(self, options: Mapping[str, str | int]) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._file_lock = FileLock(
            self.directory / "commit.lock", timeout=self._lock_timeout_s, poll_interval=_LOCK_POLL_S
        )
        with self.commit_lock():
            self.staging.mkdir(parents=True)
            self._owner = FileLock(self.staging / "owner.lock", thread_local=False)
            self._owner.acquire()
            self._connection = connect(temp=self.staging / "spill", options=options)
            attach(self._connection, catalog=self.directory / "catalog.sqlite", data=self.data)
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{quote(self.env)}")
            self._sweep()

    def _look(self, options: Mapping[str, str | int]) -> None:
        """Attach what is there; nothing is written, and spilling goes to a place of its own."""
        catalog = self.directory / "catalog.sqlite"
        if not catalog.exists():
            raise LakeError(f"there is no lake at {self.directory}")
        self.staging = Path(tempfile.mkdtemp(prefix="feature_store_"))
        self._connection = connect(temp=self.staging / "spill", options=options)
        attach(self._connection, catalog=catalog, data=self.data, read_only=True)
        schemas = self._connection.execute(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = ? AND schema_name <> 'main'", [CATALOG]
        ).fetchall()
        if (self.env,) not in schemas:
            known = [str(name) for (name,) in schemas]
            raise LakeError(f"the lake at {self.directory}: {unknown_name('environment', self.env, sorted(known))}")

    def _sweep(self) -> None:
        """Remove what processes that died left behind. Under the commit lock no live file is unregistered."""
        dead = [place for place in self.staging.parent.iterdir() if place != self.staging and _abandoned(place)]
        if not dead:
            return
        self._connection.execute(f"CALL ducklake_delete_orphaned_files('{CATALOG}', cleanup_all => true)")
        for place in dead:
            shutil.rmtree(place, ignore_errors=True)

    def table_folder(self, table: str) -> Path:
        """Where DuckLake keeps the files of a table of this environment."""
        return self.data / self.env / table

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor in the lake's schema. For one thread; close it when done."""
        cursor = self._connection.cursor()
        cursor.execute(f"USE {CATALOG}.{quote(self.env)}")
        return cursor

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for the body alone; one that was used before, if there is one, since a new one costs milliseconds."""
        try:
            cursor = self._idle.pop()
        except IndexError:
            cursor = self.cursor()
        try:
            yield cursor
        except BaseException:
            cursor.close()  # whatever state it is in
            raise
        self._idle.append(cursor)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for the body alone; if this process dies, the next one that opens the lake removes it."""
        folder = self.staging / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def exists(self, table: str) -> bool:
        """Whether this environment has such a table."""
        with self.reading() as cursor:
            return table in {row[0] for row in cursor.execute("SHOW TABLES").fetchall()}

    @contextmanager
    def commit_lock(self) -> Iterator[None]:
        """The one lock of all writers of this lake.

        Raises:
            LakeError: it was not free within the lock timeout, or the lake is open for reading only.
        """
        if self._read_only:
            raise LakeError(f"the lake at {self.directory} is open for reading only; nothing was written")
        with self._thread_lock:
            try:
                self._file_lock.acquire()
            except Timeout as error:
                raise LakeError(
                    f"the lake at {self.directory} has been locked by another process for {self._lock_timeout_s:g} s "
                    "(commit.lock); see which process holds it, it is released when that process ends"
                ) from error
            try:
                yield
            finally:
                self._file_lock.release()

    def commit(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in one transaction under the commit lock; all of it is written, or nothing.

        Contention with writers outside this library is retried a bounded number of times, so `work` may run again.
        """
        with self.commit_lock(), self.reading() as cursor:
            deadline = time.perf_counter() + self._lock_timeout_s
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return _transact(cursor, work)
                except duckdb.Error as error:
                    if attempt == _ATTEMPTS or time.perf_counter() > deadline or not _is_contention(error):
                        raise LakeError(
                            f"nothing was committed to the lake at {self.directory} "
                            f"(attempt {attempt} of {_ATTEMPTS}): {first_line(error)}"
                        ) from error
                time.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Close the connection and remove this process's staging place."""
        while self._idle:
            self._idle.pop().close()
        self._connection.close()
        if not self._read_only:
            self._owner.release()
        shutil.rmtree(self.staging, ignore_errors=True)


def first_line(error: Exception) -> str:
    """What DuckDB says, without query excerpts and stack traces."""
    return str(error).split("\n", 1)[0]


def current_snapshot(cursor: duckdb.DuckDBPyConnection) -> int:
    """The snapshot this cursor's transaction reads."""
    row = cursor.execute(f"SELECT id FROM ducklake_current_snapshot('{CATALOG}')").fetchone()
    assert row is not None
    return int(row[0])


def _transact(cursor: duckdb.DuckDBPyConnection, work: Callable[[Transaction], Result]) -> Result:
    cursor.execute("BEGIN")
    try:
        result = work(Transaction(cursor, current_snapshot(cursor) + 1))
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


def _abandoned(place: Path) -> bool:
    """Whether the process that staged in `place` is gone: its lock is free."""
    lock = FileLock(place / "owner.lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except FileNotFoundError:
        return not place.exists()
    lock.release()
    return True
