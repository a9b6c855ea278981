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
from feature_store.lake.records import PINS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import date

    from feature_store.lake.session import Session

ORPHAN_AGE = timedelta(days=1)
"""How long a write to a shared lake may take: files that no commit names and that are older belong to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How large a lake is, with all its environments."""

    files: int
    """Data files that the newest snapshot reads."""
    size_bytes: int
    snapshots: int


def extent(session: Session) -> Extent:
    """What the lake holds now."""
    with session.reading() as cursor:
        files, size = cursor.execute(
            "SELECT coalesce(sum(file_count), 0), coalesce(sum(file_size_bytes), 0) "
            f"FROM ducklake_table_info('{CATALOG}')"
        ).fetchall()[0]
        snapshots = cursor.execute(f"SELECT count(*) FROM ducklake_snapshots('{CATALOG}')").fetchall()[0][0]
    return Extent(files=int(files), size_bytes=int(size), snapshots=int(snapshots))


def size_of(session: Session, table: str, days: tuple[date, date]) -> int:
    """Bytes of the files that the newest snapshot reads of some days of a table, both ends included."""
    first, last = (literal(day.isoformat()) for day in days)
    with session.reading() as cursor:
        row = cursor.execute(
            f"""SELECT coalesce(sum(data_file_size_bytes), 0)
            FROM ducklake_list_files({literal(CATALOG)}, {literal(table)}, schema => {literal(session.env)})
            WHERE regexp_extract(data_file, '_day=([0-9-]+)', 1) BETWEEN {first} AND {last}"""
        ).fetchone()
    return int(row[0]) if row else 0


def compact_all(session: Session, *, dry_run: bool = False) -> dict[str, int]:
    """Merge the small files of every table of the environment; table -> files merged away, where there were some.

    `positions` is left: its rows are updated where they stand, in the catalog, and old snapshots need them there.
    """
    with session.reading() as cursor:
        tables = sorted(str(row[0]) for row in cursor.execute("SHOW TABLES").fetchall())
    merged = {table: compact(session, table, dry_run=dry_run) for table in tables if table != "positions"}
    return {table: count for table, count in merged.items() if count}


def compact(session: Session, table: str, *, dry_run: bool = False) -> int:
    """Merge a table's small files, and move rows kept in the catalog to Parquet. Returns files merged away.

    Reads at older snapshots stay the same; they still find what they read, because files go only by `expire`. A dry run
    merges and takes it back, so it knows the number, and costs as much; what it wrote is deleted with the orphans.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What was forgotten, or would be."""

    snapshots: int
    files: int
    """Deleted: those that no snapshot has needed for the time of grace, and those of that age that no commit ever named."""
    size_bytes: int


def expire(
    session: Session,
    *,
    older_than_us: int,
    keep: Collection[int],
    grace_us: int,
    environments: Collection[str],
    dry_run: bool = False,
) -> Expiry:
    """Forget snapshots made before `older_than_us`, except the pinned ones in `keep`; says what went.

    Files that no snapshot needs are deleted once they have been unneeded for `grace_us`, so running reads end well;
    so are files of that age that no commit ever named. A dry run says the same and changes nothing.

    Raises:
        InputError: the lake has an environment that is neither the session's nor in `environments`.
    """
    with session.commit_lock(), session.working() as cursor:
        _refuse_strangers(cursor, {session.env, *environments})
        rows = cursor.execute(
            f"SELECT snapshot_id FROM ducklake_snapshots('{CATALOG}') WHERE epoch_us(snapshot_time) < ? "
            f"AND snapshot_id < (SELECT id FROM ducklake_current_snapshot('{CATALOG}'))",
            [older_than_us],
        ).fetchall()
        kept = {*keep, *_pins(cursor, {session.env, *environments})}
        gone = sorted({int(row[0]) for row in rows} - kept)
        unneeded = f"older_than => make_timestamptz({session.clock.now_us() - grace_us})"
        orphaned = _of_age(timedelta(microseconds=grace_us))
        with _kept_unless(cursor, dry_run):
            if gone:
                cursor.execute(f"CALL ducklake_expire_snapshots('{CATALOG}', versions => ?)", [gone])
            files = [
                str(row[0])
                for call in (
                    f"cleanup_old_files('{CATALOG}', {unneeded}",
                    f"delete_orphaned_files('{CATALOG}', {orphaned}",
                )
                for row in cursor.execute(f"CALL ducklake_{call}, dry_run => true)").fetchall()
            ]
        found = Expiry(snapshots=len(gone), files=len(files), size_bytes=_size_bytes(cursor, files))
        if not dry_run:
            cursor.execute(f"CALL ducklake_cleanup_old_files('{CATALOG}', {unneeded})")
            cursor.execute(f"CALL ducklake_delete_orphaned_files('{CATALOG}', {orphaned})")
        return found


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


def delete_orphans(cursor: duckdb.DuckDBPyConnection, *, age: timedelta | None) -> None:
    """Delete files of at least this age that no commit has named; None: of any age.

    To be called under the commit lock, and with None only where files come to their place under it.
    """
    cursor.execute(f"CALL ducklake_delete_orphaned_files('{CATALOG}', {_of_age(age)})")


def _of_age(age: timedelta | None) -> str:
    if age is None:
        return "cleanup_all => true"
    return f"older_than => now() - to_microseconds({age // timedelta(microseconds=1)})"
