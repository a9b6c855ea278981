"""Dagster's books in SQLite, written without waiting for the disk at every event."""

import sqlite3
from functools import cache

from sqlalchemy import event
from sqlalchemy.engine import Engine


@cache
def relax_syncing() -> None:
    """Let this process's SQLite commits return before they have reached the disk.

    A backfill of a year writes ten thousand events, each of which Dagster commits two or three times; waiting for the
    disk every time takes longer than the work itself. In WAL mode, which Dagster uses, a killed process loses nothing by
    it, and a power failure at most the last events, never the database.
    """
    event.listen(Engine, "connect", _relax)


def _relax(connection: object, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = NORMAL")
