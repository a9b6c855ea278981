"""DuckDB as every part uses it: connections in memory, names and texts in SQL, extensions from their packages."""

from __future__ import annotations

import functools
import importlib
import os
from importlib import metadata
from pathlib import Path

import duckdb

from feature_store.errors import FeatureStoreError, LakeError

TRUSTING = {"allow_unsigned_extensions": True}
"""What a connection is opened with that loads packaged extensions, until `distrust`: see ADR 29."""


def in_memory(
    *,
    timezone: str = "UTC",
    threads: int | None = None,
    memory_mb: int | None = None,
    spill: Path | None = None,
    trusting: bool = False,
) -> duckdb.DuckDBPyConnection:
    """A connection of its own, closed by the caller; it downloads nothing.

    Args:
        timezone: the session's zone, in which naive times are read.
        threads: worker threads; all cores by default.
        memory_mb: beyond it work spills to disk; four fifths of the machine's by default.
        spill: where to.
        trusting: as `TRUSTING`; the caller ends it with `distrust`.
    """
    config: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
    if trusting:
        config |= TRUSTING
    if threads is not None:
        config["threads"] = threads
    if memory_mb is not None:
        config["memory_limit"] = f"{memory_mb}MB"
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = duckdb.connect(":memory:", config=config)
    connection.execute(f"SET TimeZone = {literal(timezone)}")
    silence(connection)
    return connection


def scratch(*, timezone: str = "UTC", threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A session for queries over what is registered with it, closed by the caller; all tables that it creates are temporary.

    Sessions of a process share one database, because a new one costs 8 ms: what DuckDB takes to list its functions.

    Args:
        timezone: the session's zone, in which naive times are read.
        threads: worker threads of its database; all cores by default.
    """
    session = _shared(os.getpid(), threads).cursor()
    session.execute(f"SET TimeZone = {literal(timezone)}")
    silence(session)
    return session


@functools.cache
def _shared(process: int, threads: int | None) -> duckdb.DuckDBPyConnection:
    """The database of a process; one that was forked has its own, without the threads of the one before."""
    del process
    return in_memory(threads=threads)


def silence(connection: duckdb.DuckDBPyConnection) -> None:
    """No progress bar: it writes to standard output, whoever that belongs to."""
    try:
        connection.execute("SET enable_progress_bar = false")
    except duckdb.InvalidInputException as error:
        if "ipywidgets" not in str(error):
            raise
        # Jupyter without that package: there DuckDB has no bar, and refuses to be told so.


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def load_extension(
    connection: duckdb.DuckDBPyConnection,
    package: str,
    *,
    extra: str = "lake",
    error: type[FeatureStoreError] = LakeError,
) -> None:
    """Load what `extension_file` finds: in a connection that is `TRUSTING` at once, else after hashing 20 to 40 MB."""
    connection.execute(f"LOAD {literal(str(extension_file(package, extra=extra, error=error)))}")


def distrust(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on only what DuckDB has signed is loaded; no statement changes that again."""
    connection.execute("SET GLOBAL allow_unsigned_extensions = false")


def extension_file(package: str, *, extra: str = "lake", error: type[FeatureStoreError] = LakeError) -> Path:
    """The extension that an installed `duckdb_extension_*` package ships for this platform.

    Args:
        package: as it is imported.
        extra: of this library, which brings the package.
        error: what is raised when the package is missing, or carries another DuckDB's extension.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as missing:
        wanted = package.replace("_", "-")
        raise error(f"package '{wanted}' is not installed; install feature-store[{extra}]") from missing
    version = f"v{duckdb.__version__}"
    found = sorted(file for root in module.__path__ for file in Path(root).rglob("*.duckdb_extension"))
    fitting = [file for file in found if version in file.parts]
    if not fitting:
        shipped = metadata.version(package.replace("_", "-"))
        raise error(
            f"package '{package}' {shipped} has no extension for DuckDB {duckdb.__version__}; install the same version"
        )
    return fitting[0]
