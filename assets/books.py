"""Dagster's books in SQLite, written at the speed of a backfill.

A backfill of a year notes two events per asset and day, some ten thousand. Dagster opens both of its SQLite files for every
event and waits for the disk each time: 15 ms and more an event, which takes longer than the work itself. Here a process writes
the events of a step in one transaction per file, and does not wait for the disk. Whoever opens the books, as every tick of a
sensor does, asks for the newest version of their schemas; what that is, a process reads from Alembic's scripts once.
"""

import itertools
import os
import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage import sql
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import Connection, CursorResult, event
from sqlalchemy.engine import Engine

_BATCH = "1000"


@cache
def quicken_books() -> None:
    """Let this process write Dagster's SQLite books quickly.

    In WAL mode, which Dagster uses, a killed process loses nothing by not waiting for the disk, and a power failure at most
    the last events, never the database.
    """
    event.listen(Engine, "connect", _relax)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _BATCH)
    SqliteEventLogStorage.store_event_batch = _store_event_batch  # type: ignore[method-assign, assignment]
    sql.ScriptDirectory = _Scripts  # type: ignore[assignment, attr-defined]


class _Scripts:
    """What Dagster asks Alembic's scripts for, which never change while a process runs."""

    @staticmethod
    def from_config(config: Config) -> ScriptDirectory:
        return _scripts(config.get_main_option("script_location"))


@cache
def _scripts(location: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", location)
    return ScriptDirectory.from_config(config)


def _relax(connection: object, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = NORMAL")


def _store_event_batch(self: SqliteEventLogStorage, events: Sequence[EventLogEntry]) -> None:
    """What `store_event` does to asset events one by one, in one transaction per file."""
    together = []
    for each in events:
        if each.is_dagster_event and each.dagster_event_type in ASSET_EVENTS:
            together.append(each)
        else:
            self.store_event(each)
    by_run = itertools.groupby(together, key=lambda each: each.run_id)
    for run_id, of_run in by_run:
        _store_asset_events(self, run_id, list(of_run))


def _store_asset_events(storage: SqliteEventLogStorage, run_id: str, events: Sequence[EventLogEntry]) -> None:
    inserts = [storage.prepare_insert_event(each) for each in events]
    with storage.run_connection(run_id) as connection:
        for insert in inserts:
            connection.execute(insert)
    with storage.index_transaction() as connection:
        numbers = [_number(connection.execute(insert)) for insert in inserts]
        storage._store_asset_event_tags(connection, events, numbers)  # noqa: SLF001
        _store_newest(storage, connection, events, numbers)


def _number(inserted: CursorResult[Any]) -> int:
    """Of the row that an insert made."""
    key = inserted.inserted_primary_key
    assert key is not None, "an INSERT of one row"
    return int(key[0])


def _store_newest(
    storage: SqliteEventLogStorage, connection: Connection, events: Sequence[EventLogEntry], numbers: Sequence[int]
) -> None:
    """The index keeps the newest event of each asset and kind."""
    newest = {
        (each.get_dagster_event().asset_key, each.get_dagster_event().event_type): (each, number)
        for each, number in zip(events, numbers, strict=True)
    }
    for each, number in newest.values():
        storage._store_asset_event(connection, each, number)  # noqa: SLF001
