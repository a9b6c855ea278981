"""Keeping the lake small: merging files, and forgetting snapshots that nobody pinned."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from feature_store.errors import InputError
from feature_store.lake.connection import CATALOG, literal, quote
from feature_store.lake.location import S3_SCHEME
from feature_store.lake.orphans import delete_orphans, of_age
from feature_store.time_rule import DAY_US

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from feature_store.lake.session import Session

PINS = "pinned_snapshots"
"""Table: one row per snapshot that must survive expiry, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What was forgotten, or would be."""

    snapshots: int
    files: int
    """Deleted: those that no snapshot has needed for the time of grace, and those of that age that no commit ever named."""
    size_bytes: int


class Upkeep:
    """Maintenance of an environment's tables and of the whole lake's snapshots; each call takes the commit lock."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def compact_all(self, *, dry_run: bool = False) -> dict[str, int]:
        """Merge the small files of every table; table -> how many fewer there are, where there are.

        A dry run says the same, as slowly, and leaves them. `positions` is left: its rows are updated where they stand, in
        the catalog, and old snapshots need them there.
        """
        with self._session.reading() as cursor:
            tables = sorted(str(row[0]) for row in cursor.execute("SHOW TABLES").fetchall())
        merged = {table: self.compact(table, dry_run=dry_run) for table in tables if table != "positions"}
        return {table: count for table, count in merged.items() if count}

    def compact(self, table: str, *, dry_run: bool = False) -> int:
        """Merge a table's small files, and move rows kept in the catalog to Parquet; returns how many fewer there are.

        Reads at older snapshots stay the same; they still find what they read, because files go only by `expire`. A dry
        run merges and takes it back, so it knows the number, and costs as much; what it wrote is deleted with the orphans.
        """
        session = self._session
        with session.commit_lock(), session.working() as cursor:
            where = f"schema => {literal(session.env)}"
            with _kept_unless(cursor, dry_run):
                rows = cursor.execute(
                    f"CALL ducklake_merge_adjacent_files('{CATALOG}', {literal(table)}, {where})"
                ).fetchall()
            if not dry_run:  # behind the merge, which in a dry run would not see the file that this makes
                cursor.execute(
                    f"CALL ducklake_flush_inlined_data('{CATALOG}', schema_name => {literal(session.env)}, "
                    f"table_name => {literal(table)})"
                )
            elif rows and not session.location.is_shared:
                delete_orphans(cursor, age=None)
            return sum(int(row[2]) - int(row[3]) for row in rows)

    def expire(
        self,
        *,
        older_than_us: int,
        keep: Collection[int] = (),
        grace_us: int = DAY_US,
        environments: Collection[str] = (),
        dry_run: bool = False,
    ) -> Expiry:
        """Forget old snapshots, except pinned ones and those in `keep`, and delete files that nobody needs; says what went.

        A snapshot is one of the whole lake: of another environment too, which may have pinned it. A file is deleted once it
        has been unneeded for the time of grace, so running reads end well; so is one of that age that no commit ever named.

        Args:
            older_than_us: the time since which all are kept.
            keep: further snapshots that some manifest names. What was pinned, in any of these environments, is kept.
            grace_us: how long a file stays after the last snapshot that needs it, or that no commit ever named: longer
                than a read takes, and on a shared lake longer than any upload.
            environments: all that live in this lake, if it is more than this one.
            dry_run: say the same, and change nothing.

        Raises:
            InputError: the lake has an environment that was not named; nothing is forgotten.
        """
        session, known = self._session, {self._session.env, *environments}
        with session.commit_lock(), session.working() as cursor:
            _refuse_strangers(cursor, known)
            gone = sorted(_older(cursor, older_than_us) - {*keep, *_pins(cursor, known)})
            with _kept_unless(cursor, dry_run):
                if gone:
                    cursor.execute(f"CALL ducklake_expire_snapshots('{CATALOG}', versions => ?)", [gone])
                deletions = (
                    f"cleanup_old_files('{CATALOG}', older_than => make_timestamptz({session.clock.now_us() - grace_us})",
                    f"delete_orphaned_files('{CATALOG}', {of_age(timedelta(microseconds=grace_us))}",
                )
                asked = [cursor.execute(f"CALL ducklake_{call}, dry_run => true)").fetchall() for call in deletions]
                files = [str(row[0]) for rows in asked for row in rows]
            found = Expiry(snapshots=len(gone), files=len(files), size_bytes=_size_bytes(cursor, files))
            for call in () if dry_run else deletions:
                cursor.execute(f"CALL ducklake_{call})")
            return found


def _older(cursor: duckdb.DuckDBPyConnection, than_us: int) -> set[int]:
    """The snapshots that were made before a time, without the present one."""
    rows = cursor.execute(
        f"SELECT snapshot_id FROM ducklake_snapshots('{CATALOG}') WHERE epoch_us(snapshot_time) < ? "
        f"AND snapshot_id < (SELECT id FROM ducklake_current_snapshot('{CATALOG}'))",
        [than_us],
    ).fetchall()
    return {int(row[0]) for row in rows}


@contextmanager
def _kept_unless(cursor: duckdb.DuckDBPyConnection, dry_run: bool) -> Iterator[None]:
    """A transaction for the body, which is rolled back at the end of a dry run."""
    cursor.execute("BEGIN")
    try:
        yield
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("ROLLBACK" if dry_run else "COMMIT")


def _size_bytes(cursor: duckdb.DuckDBPyConnection, files: Sequence[str]) -> int:
    """Of those that are there; of a file that is gone already the catalog may still have the name."""
    local = [Path(file) for file in files if not file.startswith(S3_SCHEME)]
    total = sum(file.stat().st_size for file in local if file.exists())
    if len(local) < len(files):
        with suppress(duckdb.Error):
            rows = cursor.execute("SELECT sum(size) FROM read_blob(?)", [list(files)]).fetchall()
            total += int(rows[0][0] or 0)
    return total


def _pins(cursor: duckdb.DuckDBPyConnection, environments: Collection[str]) -> set[int]:
    """The snapshots that were pinned in some environments."""
    found = cursor.execute(
        "SELECT schema_name FROM duckdb_tables() WHERE database_name = ? AND table_name = ?", [CATALOG, PINS]
    ).fetchall()
    tables = [f"{CATALOG}.{quote(env)}.{PINS}" for (env,) in found if env in environments]
    return {int(row[0]) for table in tables for row in cursor.execute(f"SELECT snapshot FROM {table}").fetchall()}


def _refuse_strangers(cursor: duckdb.DuckDBPyConnection, known: Collection[str]) -> None:
    rows = cursor.execute(
        "SELECT DISTINCT schema_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [CATALOG]
    ).fetchall()
    strangers = [name for (name,) in rows if name not in known]
    if strangers:
        listed = ", ".join(f"'{name}'" for name in strangers)
        raise InputError(
            f"the lake also holds the environment{'s' if len(strangers) > 1 else ''} {listed}, whose snapshots would be "
            "forgotten too: pass what they have pinned in `keep`, and name them in `environments`"
        )
