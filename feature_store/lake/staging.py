"""Rows on their way in: written as Parquet beside the lake, brought into place and registered in one short commit."""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import duckdb

from feature_store.errors import LakeError
from feature_store.lake.connection import CATALOG, literal, quote
from feature_store.lake.days import DAY, in_days
from feature_store.lake.location import S3_SCHEME
from feature_store.lake.outage import first_line
from feature_store.lake.tables import Rows, relation, relation_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from feature_store.lake.session import Session, Transaction
    from feature_store.lake.tables import Columns


@dataclass(slots=True)
class Stage:
    """Parquet files of one write, by day: `<directory>/_day=2013-01-01/*.parquet`."""

    directory: Path
    rows: int = 0

    def files(self) -> list[Path]:
        """Every staged file, in a fixed order."""
        return sorted(self.directory.rglob("*.parquet"))

    def days(self) -> set[str]:
        """The days that have rows, as ISO dates; `__HIVE_DEFAULT_PARTITION__` stands for null."""
        return {unquote(file.parent.name.removeprefix(f"{DAY}=")) for file in self.files()}

    def scan(self) -> str:
        """A table expression over the staged rows."""
        return f"read_parquet({literal(str(self.directory / '**' / '*.parquet'))}, hive_partitioning => false)"


@contextmanager
def staged(
    session: Session,
    rows: Rows,
    *,
    cursor: duckdb.DuckDBPyConnection,
    select: Callable[[Columns], str],
    what: str,
) -> Iterator[Stage]:
    """Stage `rows`; the files are gone afterwards unless they were moved into the lake.

    `select` gives the select list for the input's columns.

    Raises:
        LakeError: the rows do not fit, or the query fails; nothing is left.
    """
    stage = Stage(session.staging / uuid.uuid4().hex)
    try:
        with relation(cursor, rows) as source:
            try:
                listed = select(relation_columns(cursor, f"SELECT * FROM {source}"))
                write(stage, f"SELECT {listed} FROM {source}", cursor=cursor)
            except duckdb.Error as error:
                raise LakeError(session.explained(error, doing=f"{what} cannot be staged")) from error
        yield stage
    finally:
        shutil.rmtree(stage.directory, ignore_errors=True)


def write(stage: Stage, query: str, *, cursor: duckdb.DuckDBPyConnection) -> None:
    """Replace what is staged by the rows of `query`, one folder a day."""
    fresh = stage.directory.with_name(uuid.uuid4().hex)
    row = cursor.execute(
        f"COPY ({query}) TO {literal(str(fresh))} (FORMAT parquet, PARTITION_BY ({DAY}), WRITE_PARTITION_COLUMNS true)"
    ).fetchone()
    shutil.rmtree(stage.directory, ignore_errors=True)
    stage.directory, stage.rows = fresh, int(row[0]) if row else 0


def check_days(stage: Stage, days: Sequence[date], *, what: str) -> None:
    """Refuse rows outside the days that are being replaced.

    Raises:
        LakeError: with the first offending days.
    """
    outside = sorted(stage.days() - {day.isoformat() for day in days})
    if outside:
        shown = ", ".join("null" if day.startswith("__") else day for day in outside[:5])
        raise LakeError(f"{what} holds rows of days that are not being written: {shown}; nothing was written")


def commit_staged(
    session: Session,
    stage: Stage,
    table: str,
    *,
    replace: Sequence[date] = (),
    version: Callable[[int], str] | None = None,
    record: Callable[[Transaction], None] = lambda _: None,
) -> int:
    """Bring the staged files in and register them, in one transaction; returns the snapshot that it made.

    Args:
        session: the lake.
        stage: checked rows.
        table: an existing table, partitioned by day.
        replace: days whose present rows go.
        version: the folder below the day for the commit's snapshot, `row_version=57`.
        record: further writes of the same transaction.
    """
    placed: list[str] = []
    if version is None and session.location.is_shared:
        placed.extend(_upload(session, stage, table))  # before the lock, since this takes its time

    def work(transaction: Transaction) -> int:
        if not placed:
            below = "" if version is None else version(transaction.snapshot)
            placed.extend(_place(stage, session.table_folder(table), below=below, cursor=transaction.cursor))
        _delete_days(transaction, table, replace)
        _register(transaction, table, placed, env=session.env)
        record(transaction)
        return transaction.snapshot

    try:
        return session.commit(work)
    except BaseException:
        # A server may have committed although its answer was lost: there, files that nobody owns are upkeep's to find.
        if not session.location.is_shared:
            for file in placed:
                Path(file).unlink(missing_ok=True)
        raise


def _upload(session: Session, stage: Stage, table: str) -> list[str]:
    try:
        with session.reading() as cursor:
            return _place(stage, session.table_folder(table), cursor=cursor)
    except (duckdb.Error, OSError) as error:
        raise LakeError(
            f"rows of table '{table}' cannot be stored, nothing was committed: {first_line(error)}"
        ) from error


def _place(stage: Stage, folder: str, *, cursor: duckdb.DuckDBPyConnection, below: str = "") -> list[str]:
    """Bring files to `<folder>/_day=.../<below>/`, named uniquely. Compaction needs one flat folder per partition."""
    placed = []
    for file in stage.files():
        parts = (folder, file.parent.name, below, f"{uuid.uuid4().hex}.parquet")
        target = "/".join(part for part in parts if part)
        put_file(file, target, cursor=cursor)
        placed.append(target)
    return placed


def put_file(file: Path, target: str, *, cursor: duckdb.DuckDBPyConnection) -> None:
    """Move a file to a path, or upload its bytes to an `s3://` one."""
    if target.startswith(S3_SCHEME):
        content = f"SELECT content FROM read_blob({literal(str(file))})"
        cursor.execute(f"COPY ({content}) TO {literal(target)} (FORMAT blob)")
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)


def _register(transaction: Transaction, table: str, files: Sequence[str], *, env: str) -> None:
    """Hand files over to DuckLake, which owns them from this commit on."""
    if files:
        transaction.cursor.execute(
            f"CALL ducklake_add_data_files('{CATALOG}', {literal(table)}, ?, schema => {literal(env)}, "
            "hive_partitioning => true)",
            [list(files)],
        )


def _delete_days(transaction: Transaction, table: str, days: Sequence[date]) -> None:
    """Empty these days of a table partitioned by day: whole files, so no delete files are written."""
    if days:
        transaction.cursor.execute(f"DELETE FROM {quote(table)} WHERE {in_days(days)}")
