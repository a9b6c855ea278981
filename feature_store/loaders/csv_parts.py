"""CSV files as parts: each file's rows with their lines, and what of it is no row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.loaders.csv_stream import MARK, CsvFile, Header, Skipped, place, unmarked
from feature_store.loaders.part import PART_ROWS, Part
from feature_store.loaders.selection import ROW

if TYPE_CHECKING:
    import duckdb

    from feature_store.loaders.found import Files
    from feature_store.loaders.selection import Selection


def csv_parts(
    connection: duckdb.DuckDBPyConnection, files: Files, selection: Selection, *, delimiter: str | None
) -> Iterator[Part]:
    """The selected rows of all files; at least one part."""
    opened = [CsvFile(path=path, open=partial(files.open, path), delimiter=delimiter) for path in files.paths]
    headers = [file.header() for file in opened]
    known = list(dict.fromkeys(name for header in headers for name in header.names))
    selection.check(known)
    empty: Part | None = None
    found = False
    for file, header in zip(opened, headers, strict=True):
        for part in _file_parts(connection, file, header, selection, known):
            if part.rows.num_rows or part.unreadable:
                found = True
                yield part
            else:
                empty = part
    if not found and empty is not None:
        yield empty


def _file_parts(
    connection: duckdb.DuckDBPyConnection,
    file: CsvFile,
    header: Header,
    selection: Selection,
    known: Sequence[str],
) -> Iterator[Part]:
    columns = dict.fromkeys(header.names, "VARCHAR")
    query = f"SELECT {selection.listed(columns, known)}, {ROW} FROM batch WHERE {selection.where(columns)}"
    skipped = Skipped(cells=len(header.names))
    nothing = pa.table({name: pa.array([], type=pa.string()) for name in header.names})
    waiting, has_marks = [_selected(connection, query, nothing, np.array([], dtype=np.int64))], False
    for batch in file.batches(header, skipped):
        waiting.append(_selected(connection, query, batch.rows, batch.records))
        has_marks |= batch.has_marks
        if sum(map(len, waiting)) >= PART_ROWS:
            yield _part(file, header, pa.concat_tables(waiting), has_marks=has_marks)
            waiting = waiting[:1]
    part = _part(file, header, pa.concat_tables(waiting), has_marks=has_marks)
    yield replace(part, unreadable=skipped.listed(file, header))


def _selected(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    rows: pa.Table,
    records: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> pa.Table:
    connection.register("batch", rows.append_column(ROW, pa.array(records, type=pa.int64())))
    try:
        return connection.execute(query).to_arrow_table()
    finally:
        connection.unregister("batch")


def _part(file: CsvFile, header: Header, table: pa.Table, *, has_marks: bool) -> Part:
    records, rows = table.column(ROW), table.drop_columns([ROW])

    def places(wanted: Sequence[int]) -> Mapping[int, str]:
        numbers = {row: int(records[row].as_py()) for row in wanted}
        lines = file.lines(header, set(numbers.values()))
        return {row: place(file.path, lines.get(number)) for row, number in numbers.items()}

    if not has_marks:
        return Part(rows, place=places)
    faults = _faults(rows)
    return Part(_unmarked(rows), place=places, faults=faults)


def _faults(rows: pa.Table) -> dict[int, str]:
    """Rows with bytes that are no UTF-8."""
    faults: dict[int, str] = {}
    for name, cells in zip(rows.schema.names, rows.columns, strict=True):
        if not pa.types.is_string(cells.type):
            continue
        for row in pc.indices_nonzero(pc.fill_null(pc.match_substring(cells, MARK), False)).to_pylist():
            text = unmarked(cells[row].as_py())
            faults.setdefault(row, f"column '{name}': must be UTF-8, got '{text}'")
    return faults


def _unmarked(rows: pa.Table) -> pa.Table:
    for position, column in enumerate(rows.schema):
        if pa.types.is_string(column.type):
            rows = rows.set_column(position, column, pc.replace_substring(rows.column(position), MARK, ""))
    return rows
