"""A local lake's catalog, taken out of its SQLite file and written into Postgres: plain tables, the same in both."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.duck import distrust, in_memory, load_extension
from feature_store.errors import LakeError
from feature_store.lake.connection import CATALOG, SHARED, SQLITE, attach, connect, literal, quote

if TYPE_CHECKING:
    import duckdb

    from feature_store.lake.location import LakeLocation
    from feature_store.lake.postgres import Postgres

_SKIPPED = ("ducklake_files_scheduled_for_deletion", "ducklake_inlined_data_tables")
"""Files that nobody needs any more stay behind, and rows kept in the catalog have become files."""

_FILES = """
    SELECT DISTINCT s.path || t.path || f.path FROM {kind} AS f
    JOIN ducklake_table AS t USING (table_id) JOIN ducklake_schema AS s USING (schema_id)
"""
_ABSOLUTE = "SELECT count(*) FROM {kind} WHERE NOT path_is_relative"
_WITH_PATHS = ("ducklake_schema", "ducklake_table", "ducklake_data_file", "ducklake_delete_file")


def take_out(source: LakeLocation, copy: LakeLocation) -> list[str]:
    """Copy a local lake's catalog, with links to the files; returns their paths below the data folder.

    Rows that the catalog itself keeps become files of the copy, each still of its own snapshot.

    Raises:
        LakeError: a path in the catalog is not below the data folder.
    """
    with (
        closing(sqlite3.connect(f"{(source.directory / SQLITE).as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(copy.directory / SQLITE)) as taken,
    ):
        original.backup(taken)
    for name in _files(copy):
        link = Path(copy.files) / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(source.files) / name)
    _flush(copy)
    return _files(copy)


def _files(lake: LakeLocation) -> list[str]:
    with closing(sqlite3.connect(lake.directory / SQLITE)) as catalog:
        if any(catalog.execute(_ABSOLUTE.format(kind=kind)).fetchone()[0] for kind in _WITH_PATHS):
            raise LakeError(
                "the lake names files outside its data folder; only a lake that can be moved can be migrated"
            )
        rows = [
            row
            for kind in ("ducklake_data_file", "ducklake_delete_file")
            for row in catalog.execute(_FILES.format(kind=kind))
        ]
    return sorted(str(row[0]) for row in rows)


def _flush(lake: LakeLocation) -> None:
    Path(lake.files).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as spill:
        connection = connect(temp=Path(spill), options={})
        try:
            attach(connection, lake, server=None)
            connection.execute(f"CALL ducklake_flush_inlined_data('{CATALOG}')")
        finally:
            connection.close()


def copy_catalog(copy: LakeLocation, target: LakeLocation, server: Postgres) -> None:
    """Write a catalog that was taken out over the empty one of the target, in one transaction.

    Raises:
        LakeError: the two are of different versions of DuckLake, or a table did not arrive whole.
    """
    connection = in_memory(trusting=True)
    try:
        for package in ("duckdb_extension_sqlite_scanner", "duckdb_extension_postgres_scanner"):
            load_extension(connection, package, extra=SHARED)
        distrust(connection)
        connection.execute("SET sqlite_all_varchar = true")  # casts by the target's types, not by SQLite's idea of them
        connection.execute(f"ATTACH {literal(str(copy.directory / SQLITE))} AS taken (TYPE sqlite, READ_ONLY)")
        server.attach(connection, "target")
        connection.execute("BEGIN")
        for table, columns in _tables(connection).items():
            _copy_table(connection, table, columns)
        connection.execute(
            f"UPDATE target.public.ducklake_metadata SET value = {literal(f'{target.files}/')} WHERE key = 'data_path'"
        )
        connection.execute("COMMIT")
    finally:
        connection.close()


def _tables(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The target's tables with their columns, all of which the copy must have."""
    rows = connection.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = 'target' AND schema_name = 'public' AND starts_with(table_name, 'ducklake_') GROUP BY ALL"
    ).fetchall()
    return {str(table): list(columns) for table, columns in rows if table not in _SKIPPED}


def _copy_table(connection: duckdb.DuckDBPyConnection, table: str, columns: list[str]) -> None:
    listed = ", ".join(map(quote, columns))
    connection.execute(f"DELETE FROM target.public.{table}")
    connection.execute(f"INSERT INTO target.public.{table} ({listed}) SELECT {listed} FROM taken.{table}")
    sent, arrived = (
        connection.execute(f"SELECT count(*) FROM {side}.{table}").fetchone() for side in ("taken", "target.public")
    )
    if sent != arrived:
        raise LakeError(f"the catalog's table '{table}' did not arrive whole; the lake was not migrated")


def clear_catalog(server: Postgres) -> None:
    """Remove a catalog: of a database that was empty before, and whose commit lock is held."""
    with server.connect() as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND starts_with(tablename, 'ducklake_')"
        ).fetchall()
        if names:
            connection.execute("DROP TABLE " + ", ".join(f"public.{quote(name)}" for (name,) in names))
