"""Parquet files as parts: files of one schema are read together, so that a type that changes costs its own rows only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.duck import literal
from feature_store.loaders.found import exactly
from feature_store.loaders.part import PART_ROWS, Part, gathered
from feature_store.loaders.selection import FILE, ROW

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from feature_store.loaders.found import Files
    from feature_store.loaders.selection import Selection


def parquet_parts(connection: duckdb.DuckDBPyConnection, files: Files, selection: Selection) -> Iterator[Part]:
    """The selected rows of all files; at least one part."""
    groups = _groups(connection, files.paths)
    columns = [_columns(connection, group) for group in groups]
    known = list(dict.fromkeys(name for one in columns for name in one))
    selection.check(known)
    empty: Part | None = None
    found = False
    for group, types in zip(groups, columns, strict=True):
        query = (
            f"SELECT {selection.listed(types, known)}, filename AS {FILE}, file_row_number AS {ROW} "
            f"FROM {_scan(group, 'filename => true, file_row_number => true')} WHERE {selection.where(types)}"
        )
        reader = connection.execute(query).to_arrow_reader(PART_ROWS)
        empty = empty or _part(reader.schema.empty_table())
        for table in gathered(reader):
            found = True
            yield _part(table)
    if not found and empty is not None:
        yield empty


def _groups(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> list[list[str]]:
    """Files of one schema together, groups and files in the order of the paths."""
    listed = ", ".join(literal(exactly(path)) for path in paths)
    rows = connection.execute(
        "SELECT file_name, name, type, num_children, logical_type, converted_type, scale, precision "
        f"FROM parquet_schema([{listed}])"
    ).fetchall()
    schemas: dict[str, list[object]] = {}
    for path, *column in rows:
        schemas.setdefault(str(path), []).append(tuple(column))
    groups: dict[tuple[object, ...], list[str]] = {}
    for path in paths:
        groups.setdefault(tuple(schemas[path]), []).append(path)
    return list(groups.values())


def _scan(paths: Sequence[str], options: str) -> str:
    return f"read_parquet([{', '.join(literal(exactly(path)) for path in paths)}], {options})"


def _columns(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE SELECT * FROM {_scan(paths[:1], 'filename => false')}").fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


def _part(table: pa.Table) -> Part:
    files, numbers = table.column(FILE), table.column(ROW)

    def place(rows: Sequence[int]) -> Mapping[int, str]:
        return {row: f"'{files[row].as_py()}', row {numbers[row].as_py() + 1}" for row in rows}

    return Part(table.drop_columns([FILE, ROW]), place=place)
