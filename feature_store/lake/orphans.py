"""What processes that died leave behind: their staging places, and files that no commit has named."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from feature_store.lake.connection import CATALOG

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

OWNER_LOCK = "owner.lock"
"""The file of a staging place that its process holds locked."""

ORPHAN_AGE = timedelta(days=1)
"""How long a write to a shared lake may take: files that no commit names and that are older belong to nobody."""


def delete_orphans(cursor: duckdb.DuckDBPyConnection, *, age: timedelta | None) -> None:
    """Delete files of at least this age that no commit has named; None: of any age.

    To be called under the commit lock, and with None only where files come to their place under it.
    """
    cursor.execute(f"CALL ducklake_delete_orphaned_files('{CATALOG}', {of_age(age)})")


def of_age(age: timedelta | None) -> str:
    """Which of them DuckLake is to delete; None: of any age."""
    if age is None:
        return "cleanup_all => true"
    return f"older_than => now() - to_microseconds({age // timedelta(microseconds=1)})"


def is_abandoned(place: Path) -> bool:
    """Whether the process that staged in `place` is gone: its lock is free."""
    lock = FileLock(place / OWNER_LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except FileNotFoundError:
        return not place.exists()
    lock.release()
    return True
