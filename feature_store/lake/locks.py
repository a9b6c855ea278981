"""The one lock of all writers of a lake: a file's where the lake is a directory, Postgres' where it is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from filelock import FileLock, Timeout

from feature_store.errors import LakeError
from feature_store.lake.postgres import Postgres

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

_POLL_S = 0.002
_LOCK = 7_310_579_606_146_315_116
"""The advisory lock of a database's one lake; any number that nobody else takes."""

_HOLDER = """
    SELECT coalesce(nullif(application_name, ''), 'unnamed'), pid FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND database = (SELECT oid FROM pg_database
    WHERE datname = current_database()) AND (classid::bigint << 32) | objid::bigint = %s
"""


class CommitLock(Protocol):
    """What a process holds while it commits; for one thread at a time."""

    def acquire(self) -> None:
        """Wait for the lock.

        Raises:
            LakeError: it was not free within the timeout.
        """

    def release(self) -> None:
        """Free the lock."""

    def close(self) -> None:
        """Give back what the lock needs."""


class FileCommitLock:
    """The commit lock of a lake in a directory; the system frees it when the process dies."""

    def __init__(self, directory: Path, *, timeout_s: float) -> None:
        self._directory, self._timeout_s = directory, timeout_s
        self._lock = FileLock(directory / "commit.lock", timeout=timeout_s, poll_interval=_POLL_S)

    def acquire(self) -> None:
        """Wait for the lock; LakeError if it was not free within the timeout."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise LakeError(
                f"the lake at {self._directory} has been locked by another process for {self._timeout_s:g} s "
                "(commit.lock); see which process holds it, it is released when that process ends"
            ) from error

    def release(self) -> None:
        """Free the lock."""
        self._lock.release()

    def close(self) -> None:
        """Nothing is open between commits."""


class AdvisoryLock:
    """The commit lock of a shared lake. Postgres frees it when the connection ends, so also when the process dies."""

    def __init__(self, server: Postgres, *, timeout_s: float) -> None:
        self._server, self._timeout_s = server, timeout_s
        self._connection: psycopg.Connection | None = None

    def acquire(self) -> None:
        """Wait for the lock.

        Raises:
            LakeError: it was not free within the timeout (says who holds it), or Postgres is away.
        """
        import psycopg

        if self._connection is not None and not _answers(self._connection):
            self.close()  # it has died since it was used last
        self._connection = self._connection or self._server.connect()
        try:
            self._lock(self._connection)
        except psycopg.Error as error:
            self.close()
            raise LakeError(self._server.away(str(error))) from error

    def release(self) -> None:
        """Free the lock; a connection that is lost has freed it already."""
        import psycopg

        if self._connection is None:
            return
        try:
            self._connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _lock(self, connection: psycopg.Connection) -> None:
        import psycopg

        try:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{self._timeout_s * 1000:.0f}ms"])
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        except psycopg.errors.LockNotAvailable as error:
            raise LakeError(
                f"the lake at {self._server.catalog} has been locked by {self._holder(connection)} for "
                f"{self._timeout_s:g} s (an advisory lock of Postgres); it is released when that process ends"
            ) from error

    def _holder(self, connection: psycopg.Connection) -> str:
        row = connection.execute(_HOLDER, [_LOCK]).fetchone()
        return f"'{row[0]}' (backend {row[1]})" if row else "another process"


def _answers(connection: psycopg.Connection) -> bool:
    import psycopg

    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
