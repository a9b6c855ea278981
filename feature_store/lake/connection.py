"""The lake's one DuckDB instance in this process: extensions loaded from their packages, the catalog attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from feature_store.duck import TRUSTING, distrust, literal, load_extension, quote, silence
from feature_store.lake.location import S3_SCHEME
from feature_store.loaders.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from feature_store.lake.location import LakeLocation
    from feature_store.lake.postgres import Postgres

CATALOG = "lake"
METADATA = f"__ducklake_metadata_{CATALOG}"
"""Where DuckDB shows the tables of DuckLake's own catalog."""
SQLITE = "catalog.sqlite"
SHARED = "shared"
"""The extra that brings what a shared lake needs."""
_BUSY_TIMEOUT_MS = 10_000


def at_version(snapshot: int | None) -> str:
    """What follows a table's name in SQL to read it as of a snapshot; None: now."""
    return "" if snapshot is None else f"AT (VERSION => {int(snapshot)})"


def connect(*, temp: Path, options: Mapping[str, str | int]) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that loads DuckLake, downloads nothing and spills into `temp`; to be attached next."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "temp_directory": str(temp),
        **TRUSTING,
        **options,
    }
    connection = duckdb.connect(config=config)
    load_extension(connection, "duckdb_extension_ducklake")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    silence(connection)
    # A commit names its own snapshot inside its transaction, so DuckLake must not rebase it silently.
    connection.execute("SET GLOBAL ducklake_max_retry_count = 0")
    return connection


def attach(
    connection: duckdb.DuckDBPyConnection, location: LakeLocation, *, server: Postgres | None, read_only: bool = False
) -> None:
    """Attach the catalog, creating it on first use; small writes become Parquet unless a table says otherwise.

    Args:
        connection: a fresh one.
        location: of the lake.
        server: where the catalog of a shared lake is.
        read_only: create and write nothing.

    Raises:
        LakeError: a package is missing.
        InputError: the credentials of S3 are incomplete.
        duckdb.Error: the catalog cannot be opened, or the data is not where the catalog says.
    """
    if server is None:
        _attach_file(connection, location, read_only=read_only)
    else:
        _attach_server(connection, location, server, read_only=read_only)


def _attach_file(connection: duckdb.DuckDBPyConnection, location: LakeLocation, *, read_only: bool) -> None:
    load_extension(connection, "duckdb_extension_sqlite_scanner")
    distrust(connection)
    writing = "READ_ONLY" if read_only else "META_JOURNAL_MODE 'WAL', DATA_INLINING_ROW_LIMIT 0"
    connection.execute(
        f"ATTACH {literal(f'ducklake:sqlite:{location.directory / SQLITE}')} AS {CATALOG} (DATA_PATH {literal(location.files)}, "
        f"OVERRIDE_DATA_PATH true, META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}, {writing})"
    )


def _attach_server(
    connection: duckdb.DuckDBPyConnection, location: LakeLocation, server: Postgres, *, read_only: bool
) -> None:
    load_extension(connection, "duckdb_extension_postgres_scanner", extra=SHARED)
    if location.files.startswith(S3_SCHEME):
        S3().connect(connection, extra=SHARED)
    distrust(connection)
    if location.files.startswith(S3_SCHEME):
        # Asks the bucket for nothing, so that one that is missing or closed is known now.
        connection.execute(f"SELECT file FROM glob({literal(location.files + '/.nothing*')})")
    writing = "READ_ONLY" if read_only else "DATA_INLINING_ROW_LIMIT 0"
    options = [f"DATA_PATH {literal(location.files + '/')}", writing]
    server.attach(connection, CATALOG, prefix="ducklake:postgres:", options=options)


__all__ = ["CATALOG", "METADATA", "at_version", "attach", "connect", "literal", "quote"]
