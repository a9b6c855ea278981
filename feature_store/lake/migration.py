"""From a lake in a directory to a shared one: files and catalog copied as they are, so snapshots keep their numbers."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from feature_store.errors import InputError, LakeError
from feature_store.lake.catalog_copy import clear_catalog, copy_catalog, take_out
from feature_store.lake.connection import CATALOG, SQLITE, attach, connect, literal, quote
from feature_store.lake.location import S3_SCHEME, LakeLocation
from feature_store.lake.locks import AdvisoryLock, FileCommitLock
from feature_store.lake.orphans import is_abandoned
from feature_store.lake.outage import first_line, outage
from feature_store.lake.postgres import Postgres
from feature_store.lake.session import current_snapshot
from feature_store.lake.staging import put_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_UPLOADS = 8

Digest = dict[str, tuple[int, int]]
"""`environment.table` -> rows, and a number that depends on every value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What was copied."""

    tables: int
    rows: int
    files: int
    bytes: int
    snapshot: int
    """The newest snapshot there; all older ones that the source had are there too, under their numbers."""


def migrate(source: LakeLocation, target: LakeLocation, *, lock_timeout_s: float = 60.0) -> Migration:
    """Copy a local lake, with all its environments and snapshots, to an empty shared place.

    Whole or not at all: the catalog is written last, in one transaction, after each file was read back, and is removed
    again if a table does not read the same there. The source is only read, and nobody else may have it open meanwhile.

    Raises:
        LakeError: there is no lake at the source, processes have it open, the target is not empty or not reachable, or
            what arrived is not what was sent.
        InputError: the source is no local lake, or the target no shared one.
    """
    if source.is_shared or not target.is_shared or target.catalog is None:
        raise InputError(f"a lake moves from a directory to a shared place, got '{source}' and '{target}'")
    if not (source.directory / SQLITE).is_file():
        raise LakeError(f"there is no lake at {source.directory}")
    server = Postgres(target.catalog)
    with ExitStack() as held:
        for lock in (
            FileCommitLock(source.directory, timeout_s=lock_timeout_s),
            AdvisoryLock(server, timeout_s=lock_timeout_s),
        ):
            held.callback(lock.close)
            lock.acquire()
            held.callback(lock.release)
        _check_unused(source)
        scratch = held.enter_context(tempfile.TemporaryDirectory(prefix="lake-migration-"))
        try:
            return _copy(source, target, server, scratch=Path(scratch))
        except duckdb.Error as error:
            problem = outage(error, target, server) or first_line(error)
            raise LakeError(f"the lake at {source} was not migrated: {problem}") from error


def _copy(source: LakeLocation, target: LakeLocation, server: Postgres, *, scratch: Path) -> Migration:
    copy = LakeLocation(scratch)
    files = take_out(source, copy)
    with _attached(copy, None) as connection:
        wanted, snapshot = _digest(connection), current_snapshot(connection)
    with ExitStack() as undo:
        with _attached(target, server) as connection:
            _check_no_lake(connection, target)
            undo.callback(clear_catalog, server)
            _check_no_files(connection, target)
            size = _send_all(connection, copy, target, files)
        copy_catalog(copy, target, server)
        with _attached(target, server) as connection:
            _check_same(wanted, _digest(connection))
        undo.pop_all()
    rows = sum(count for count, _ in wanted.values())
    return Migration(tables=len(wanted), rows=rows, files=len(files), bytes=size, snapshot=snapshot)


@contextmanager
def _attached(location: LakeLocation, server: Postgres | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory() as spill:
        connection = connect(temp=Path(spill), options={})
        try:
            attach(connection, location, server=server)
            yield connection
        finally:
            connection.close()


def _check_unused(source: LakeLocation) -> None:
    staging = source.directory / "staging"
    users = [place for place in staging.iterdir() if not is_abandoned(place)] if staging.is_dir() else []
    if users:
        raise LakeError(
            f"the lake at {source} is open in {len(users)} other process{'es' if len(users) > 1 else ''}; stop what uses it "
            "(flow, archiver, Dagster), migrate, and start it with the new settings"
        )


def _check_no_lake(connection: duckdb.DuckDBPyConnection, target: LakeLocation) -> None:
    snapshot = current_snapshot(connection)
    if snapshot:
        raise LakeError(
            f"the catalog '{target.catalog}' holds a lake already (snapshot {snapshot}); name an empty database"
        )


def _check_no_files(connection: duckdb.DuckDBPyConnection, target: LakeLocation) -> None:
    found = connection.execute(f"SELECT file FROM glob({literal(f'{target.files}/**')}) LIMIT 1").fetchone()
    if found:
        raise LakeError(f"'{target.files}' is not empty (it holds '{found[0]}'); name an empty place for the data")


def _send_all(
    connection: duckdb.DuckDBPyConnection, copy: LakeLocation, target: LakeLocation, files: Sequence[str]
) -> int:
    """Copy the files, several at once, each read back; returns their bytes."""

    def send(name: str) -> int:
        with connection.cursor() as cursor:
            return _send(cursor, Path(copy.files) / name, f"{target.files}/{name}")

    with ThreadPoolExecutor(_UPLOADS) as pool:
        return sum(pool.map(send, files))


def _send(cursor: duckdb.DuckDBPyConnection, file: Path, to: str) -> int:
    if to.startswith(S3_SCHEME):
        put_file(file, to, cursor=cursor)
    else:
        Path(to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    content = file.read_bytes()
    arrived = cursor.execute(f"SELECT md5(content) FROM read_blob({literal(to)})").fetchone()
    if arrived != (hashlib.md5(content, usedforsecurity=False).hexdigest(),):
        raise LakeError(f"'{to}' does not hold what was written to it; the lake was not migrated")
    return len(content)


def _digest(connection: duckdb.DuckDBPyConnection) -> Digest:
    """What every table of every environment holds now."""
    names = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL", [CATALOG]
    ).fetchall()
    return {f"{schema}.{table}": _table_digest(connection, schema, table) for schema, table in names}


def _table_digest(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> tuple[int, int]:
    name = f"{CATALOG}.{quote(schema)}.{quote(table)}"
    row = connection.execute(f"SELECT count(*), coalesce(sum(hash(t)), 0) FROM {name} AS t").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _check_same(wanted: Digest, found: Digest) -> None:
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        raise LakeError(f"tables read otherwise than at the source: {', '.join(different)}; the lake was not migrated")
