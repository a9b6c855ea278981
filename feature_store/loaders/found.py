"""The files that a glob names, and whether they stay as they were."""

from __future__ import annotations

import glob as globbing
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from feature_store.errors import InputError

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Paths in their order, at least one."""

    connection: duckdb.DuckDBPyConnection
    paths: Sequence[str]
    states: Mapping[str, tuple[int, int]]
    """Path -> size and time of the last change, of local files. An object in S3 is written whole or not at all."""

    def open(self, path: str) -> BinaryIO:
        """The bytes of a file; an object in S3 is held in memory."""
        if path in self.states:
            return Path(path).open("rb")
        row = self.connection.cursor().execute("SELECT content FROM read_blob(?)", [exactly(path)]).fetchone()
        return io.BytesIO(b"" if row is None else row[0])

    def check_unchanged(self) -> None:
        """Refuse what was read if a file has changed since it was listed.

        Raises:
            InputError: naming the file.
        """
        for path, state in self.states.items():
            if _state(path) != state:
                raise InputError(
                    f"file '{path}' changed while it was read; write files under another name and rename them when they "
                    "are complete, then load again"
                )


def list_files(connection: duckdb.DuckDBPyConnection, glob: str, *, is_remote: bool) -> Files:
    """The files that match.

    Raises:
        InputError: none does, or one is empty.
    """
    if is_remote:
        rows = connection.execute("SELECT file FROM glob(?) ORDER BY file", [glob]).fetchall()
        found = [str(row[0]) for row in rows]
    else:
        found = sorted(path for path in globbing.glob(glob, recursive=True) if Path(path).is_file())  # noqa: PTH207 - a pattern, not a path
    if not found:
        raise InputError(f"no file matches '{glob}'; correct the loader's path or put the files there")
    states = {} if is_remote else {path: _state(path) for path in found}
    for path, (size, _) in states.items():
        if size == 0:
            raise InputError(f"file '{path}' is empty: not even a header; remove it or write it again")
    return Files(connection=connection, paths=found, states=states)


def exactly(path: str) -> str:
    """A pattern of DuckDB's that matches this path alone."""
    return globbing.escape(path)


def _state(path: str) -> tuple[int, int]:
    try:
        stat = Path(path).stat()
    except FileNotFoundError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns
