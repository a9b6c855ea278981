"""History in files: Parquet and CSV that a glob names, on disk or in S3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from feature_store.errors import DeclarationError, InputError
from feature_store.loaders.part import Part
from feature_store.loaders.s3 import S3, SCHEME

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from feature_store.loaders.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLoader:
    """Reads files that a glob names; what `parquet` and `csv` return."""

    glob: str
    format: Literal["parquet", "csv"]
    arrival: str | None = None
    """The column that says when an event arrived."""
    rename: tuple[tuple[str, str], ...] = field(default=())
    """(column or nested field in the files, column of the source)."""
    delimiter: str | None = None
    s3: S3 | None = None

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
        """The rows of `parts`, all at once.

        Raises:
            InputError: as `parts`; and for a record that is no row, with its path and line.
        """
        import pyarrow as pa

        tables = []
        for part in self.parts(event_time=event_time, start=start, end=end, timezone=timezone):
            for unreadable in part.unreadable:
                raise InputError(unreadable.reason)
            for row, fault in part.faults.items():
                raise InputError(f"{part.place([row])[row]}: {fault}")
            tables.append(part.rows)
        return pa.concat_tables(tables, promote_options="permissive")

    def parts(
        self,
        *,
        event_time: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        timezone: str = "UTC",
    ) -> Iterator[Part]:
        """The rows with `start <= event time < end`, and those whose time is null or unreadable; at least one part.

        Args:
            event_time: the column, as the source calls it; None reads everything.
            start: aware.
            end: aware.
            timezone: of naive times.

        Raises:
            InputError: no file matches, one cannot be read or changes meanwhile, a column is not there; names path or
                glob.
        """
        import duckdb

        from feature_store.duck import in_memory
        from feature_store.loaders.selection import Selection

        selection = Selection(glob=self.glob, rename=self.rename, event_time=event_time, start=start, end=end)
        connection, problem = in_memory(timezone=timezone, trusting=self.is_remote), None
        try:
            yield from self._parts(connection, selection)
        except (duckdb.Error, OSError) as error:
            problem = str(error)  # a failure in the middle of the rows reaches Arrow as an OSError
        finally:
            connection.close()
        if problem is not None:  # raised here, so that no chained error shows what must not be shown
            raise InputError(self._explained(problem))

    @property
    def is_remote(self) -> bool:
        """Whether the files are in S3."""
        return self.glob.startswith(SCHEME)

    def _parts(self, connection: duckdb.DuckDBPyConnection, selection: Selection) -> Iterator[Part]:
        from feature_store.duck import distrust
        from feature_store.loaders.csv_parts import csv_parts
        from feature_store.loaders.found import list_files
        from feature_store.loaders.parquet_parts import parquet_parts

        if self.is_remote:
            (self.s3 or S3()).connect(connection)
            distrust(connection)
        files = list_files(connection, self.glob, is_remote=self.is_remote)
        if self.format == "parquet":
            yield from parquet_parts(connection, files, selection)
        else:
            yield from csv_parts(connection, files, selection, delimiter=self.delimiter)
        files.check_unchanged()

    def _explained(self, problem: str) -> str:
        from feature_store.loaders.database import redacted

        if not self.is_remote:
            return f"files '{self.glob}' cannot be read: {problem.splitlines()[0]}"
        server = self.s3 or S3()
        return server.explained(self.glob, redacted(problem, server.secrets()))


def parquet(
    glob: str, *, arrival: str | None = None, rename: Mapping[str, str] | None = None, s3: S3 | None = None
) -> FileLoader:
    """Read Parquet files.

    Args:
        glob: `data/departures/*.parquet`, or `s3://bucket/departures/*.parquet`.
        arrival: the column that says when an event arrived, under its new name if renamed.
        rename: column in the files -> column of the source. A nested field is named by its path:
            `{"payload.amount": "amount"}`, in a struct or in a text column that holds JSON.
        s3: where `s3://` is; the standard `AWS_...` environment variables say what it leaves open.
    """
    return _loader(
        FileLoader(glob=glob, format="parquet", arrival=arrival, rename=tuple((rename or {}).items()), s3=s3)
    )


def csv(
    glob: str,
    *,
    arrival: str | None = None,
    rename: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    s3: S3 | None = None,
) -> FileLoader:
    """Read CSV files in UTF-8 with a header line; cells are read by the types of the source's schema.

    An empty cell is null. See `parquet` for the other options.

    Args:
        glob: `data/departures/*.csv`.
        arrival: see `parquet`.
        rename: see `parquet`.
        delimiter: one character; None: the one of comma, semicolon, tab and `|` that a file's header has most of.
        s3: see `parquet`.
    """
    names = tuple((rename or {}).items())
    return _loader(FileLoader(glob=glob, format="csv", arrival=arrival, rename=names, delimiter=delimiter, s3=s3))


def _loader(loader: FileLoader) -> FileLoader:
    problems = []
    targets = [new for _, new in loader.rename]
    if loader.delimiter is not None and len(loader.delimiter) != 1:
        problems.append(f"`delimiter` must be one character, got '{loader.delimiter}'")
    if len(set(targets)) < len(targets):
        problems.append(f"`rename` must give each column one origin, got {targets}")
    if loader.s3 is not None and not loader.is_remote:
        problems.append(f"`s3` is for paths that begin with s3://, got '{loader.glob}'")
    if problems:
        raise DeclarationError([f"loader `{loader.format}`: {problem}" for problem in problems])
    return loader


__all__ = ["FileLoader", "csv", "parquet"]
