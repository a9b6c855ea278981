"""A DuckDB in memory, for one computation: the same session settings wherever SQL runs outside the lake."""

from __future__ import annotations

import duckdb


def in_memory(*, timezone: str = "UTC", threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own, closed by the caller.

    Args:
        timezone: the session's zone, in which naive times are read.
        threads: worker threads; all cores by default.
    """
    connection = duckdb.connect(":memory:", config={} if threads is None else {"threads": threads})
    connection.execute(f"SET TimeZone = '{timezone}'")
    connection.execute("SET enable_progress_bar = false")  # it writes to standard output, whoever that belongs to
    return connection
