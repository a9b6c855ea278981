"""The lake's one DuckDB instance in this process: extensions loaded from their packages, the catalog attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from feature_store.duck import extension_file, literal, quote, silence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CATALOG = "lake"
METADATA = f"__ducklake_metadata_{CATALOG}"
_BUSY_TIMEOUT_MS = 10_000


def connect(*, temp: Path, options: Mapping[str, str | int]) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that loads DuckLake, downloads nothing and spills into `temp`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "temp_directory": str(temp),
        **options,
    }
    connection = duckdb.connect(config=config)
    for package in ("duckdb_extension_ducklake", "duckdb_extension_sqlite_scanner"):
        connection.execute(f"LOAD {literal(str(extension_file(package)))}")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    silence(connection)
    # A commit names its own snapshot inside its transaction, so DuckLake must not rebase it silently.
    connection.execute("SET GLOBAL ducklake_max_retry_count = 0")
    return connection


def attach(connection: duckdb.DuckDBPyConnection, *, catalog: Path, data: Path, read_only: bool = False) -> None:
    """Attach the SQLite catalog, creating it on first use; small writes become Parquet unless a table says otherwise."""
    writing = "READ_ONLY" if read_only else "META_JOURNAL_MODE 'WAL', DATA_INLINING_ROW_LIMIT 0"
    connection.execute(
        f"ATTACH {literal(f'ducklake:sqlite:{catalog}')} AS {CATALOG} (DATA_PATH {literal(str(data))}, "
        f"OVERRIDE_DATA_PATH true, META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS}, {writing})"
    )


__all__ = ["CATALOG", "METADATA", "attach", "connect", "extension_file", "literal", "quote"]
