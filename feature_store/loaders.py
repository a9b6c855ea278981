"""Where history comes from: files read by DuckDB. A loader may also be any function `(start, end) -> pa.Table`."""

from __future__ import annotations

import glob as globbing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from feature_store.errors import InputError, unknown_name
from feature_store.time_rule import DAY_US, to_us

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


_ZONE = r"(Z|UTC|[+-]\d\d(:?\d\d)?)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLoader:
    """Reads files that a glob names; what `parquet` and `csv` return."""

    glob: str
    format: Literal["parquet", "csv"]
    arrival: str | None = None
    """The column that says when an event arrived."""
    rename: tuple[tuple[str, str], ...] = field(default=())
    """(column in the files, column of the source)."""

    def __call__(self, start: datetime, end: datetime) -> pa.Table:
        """Every row of the files: without the event-time column nothing can be left out."""
        del start, end
        return self.read()

    def read(
        self,
        *,
        event_time: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        timezone: str = "UTC",
    ) -> pa.Table:
        """The rows with `start <= event time < end`, and those whose time is null or unreadable.

        Args:
            event_time: the column, as the source calls it; None reads everything.
            start: aware.
            end: aware.
            timezone: of naive times.

        Raises:
            InputError: no file matches, a file cannot be read, or a column is not there; names the glob.
        """
        import duckdb

        from feature_store.duck import in_memory

        self._check_files()
        connection = in_memory(timezone=timezone)
        try:
            columns = self._columns(connection)
            where = "TRUE"
            if event_time is not None and start is not None and end is not None:
                where = self._range(columns, event_time, start, end)
            return connection.execute(
                f"SELECT {self._listed(columns)} FROM {self._scan()} WHERE {where}"
            ).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"files '{self.glob}' cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            connection.close()

    def _check_files(self) -> None:
        files = globbing.glob(self.glob, recursive=True)  # noqa: PTH207 - a pattern as DuckDB reads it
        if not files:
            raise InputError(f"no file matches '{self.glob}'; correct the loader's path or put the files there")
        for file in files:
            if Path(file).stat().st_size == 0:
                raise InputError(f"file '{file}' is empty: not even a header; remove it or write it again")

    def _scan(self) -> str:
        path = "'" + self.glob.replace("'", "''") + "'"
        if self.format == "parquet":
            return f"read_parquet({path}, union_by_name => true)"
        # Text only: what a cell means is said by the source's schema, not guessed from the first rows.
        return f"read_csv({path}, header => true, all_varchar => true, union_by_name => true)"

    def _columns(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Columns as the files call them, with their types."""
        rows = connection.execute(f"DESCRIBE SELECT * FROM {self._scan()}").fetchall()
        columns = {str(row[0]): str(row[1]) for row in rows}
        for original, _ in self.rename:
            if original not in columns:
                raise InputError(f"files '{self.glob}': {unknown_name('column in `rename`', original, list(columns))}")
        return columns

    def _listed(self, columns: Mapping[str, str]) -> str:
        names = dict(self.rename)
        return ", ".join(f'"{column}" AS "{names.get(column, column)}"' for column in columns)

    def _range(self, columns: Mapping[str, str], event_time: str, start: datetime, end: datetime) -> str:
        original = {new: old for old, new in self.rename}.get(event_time, event_time)
        if original not in columns:
            raise InputError(f"files '{self.glob}': {unknown_name('event time column', original, list(columns))}")
        name, kind = f'"{original}"', columns[original]
        low, high = to_us(start, name="start"), to_us(end, name="end")
        exact = f"TRY_CAST({name} AS TIMESTAMPTZ)"
        within = f"{exact} >= make_timestamptz({low}) AND {exact} < make_timestamptz({high})"
        if kind.startswith("TIMESTAMP") and kind != "TIMESTAMP WITH TIME ZONE":
            # Row groups are skipped by plain comparisons with a constant only; a day covers every zone.
            within += f" AND {name} >= make_timestamp({low - DAY_US}) AND {name} < make_timestamp({high + DAY_US})"
        elif kind == "TIMESTAMP WITH TIME ZONE":
            within = f"{name} >= make_timestamptz({low}) AND {name} < make_timestamptz({high})"
        return f"(({within}) OR {exact} IS NULL)"


def parquet(glob: str, *, arrival: str | None = None, rename: Mapping[str, str] | None = None) -> FileLoader:
    """Read Parquet files.

    Args:
        glob: `data/departures/*.parquet`.
        arrival: the column that says when an event arrived, under its new name if renamed.
        rename: column in the files -> column of the source.
    """
    return FileLoader(glob=glob, format="parquet", arrival=arrival, rename=tuple((rename or {}).items()))


def csv(glob: str, *, arrival: str | None = None, rename: Mapping[str, str] | None = None) -> FileLoader:
    """Read CSV files with a header line; cells are read by the types of the source's schema. See `parquet`."""
    return FileLoader(glob=glob, format="csv", arrival=arrival, rename=tuple((rename or {}).items()))


def read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """The rows of a `.parquet` or `.csv` file to publish; cells of a CSV become the types of `schema`.

    Columns that the schema does not know come as they are.

    Raises:
        InputError: another kind of file, or one that cannot be read; for a CSV, the first cell that does not fit, and
            a time without a zone.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"'{path}' must be a .parquet or .csv file")
    if path.suffix == ".parquet":
        return parquet(globbing.escape(str(path))).read()
    rows = csv(globbing.escape(str(path))).read()
    for position, name in enumerate(rows.schema.names):
        if name in schema.names:
            rows = rows.set_column(position, name, _typed(rows.column(name), schema.field(name), path))
    return rows


def _typed(cells: pa.ChunkedArray, field: pa.Field, path: Path) -> pa.ChunkedArray:
    import pyarrow as pa

    from feature_store.duck import in_memory

    is_time = pa.types.is_timestamp(field.type)
    with in_memory() as connection:
        connection.register("cells", pa.table({"cell": cells, "n": range(len(cells))}))
        connection.register("wanted", pa.schema([field.with_name("value")]).empty_table())
        kind = connection.execute("DESCRIBE SELECT value FROM wanted").fetchall()[0][1]
        zone = f"OR NOT regexp_matches(cell, '{_ZONE}')" if is_time else ""
        typed = f"SELECT n, cell, TRY_CAST(cell AS {kind}) AS value FROM cells"
        bad = connection.execute(
            f"SELECT n, cell FROM ({typed}) WHERE cell IS NOT NULL AND (value IS NULL {zone}) ORDER BY n LIMIT 1"
        ).fetchone()
        if bad is not None:
            rule = "a time with a zone" if is_time else str(field.type)
            raise InputError(f"'{path}', row {bad[0] + 1}, column '{field.name}': {bad[1]!r} is not {rule}")
        return connection.execute(f"SELECT value FROM ({typed}) ORDER BY n").to_arrow_table().column(0).cast(field.type)


__all__ = ["FileLoader", "csv", "parquet", "read_file"]
