"""Appending what came over the log: events and the offsets they came from, in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from feature_store.errors import InputError, LakeError, PositionConflict
from feature_store.lake.books.commits import record_commit
from feature_store.lake.books.rejected import record_rejected
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, UTC_DAY
from feature_store.lake.events import UNKNOWN, days_at, live_table, qualified, source_columns, undeclared
from feature_store.lake.tables import is_of, projection, relation, relation_columns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from feature_store.lake.session import Session, Transaction


def append_live(
    session: Session,
    source: str,
    *,
    events: pa.Table,
    owner: str,
    start: Mapping[int, int],
    end: Mapping[int, int],
    rejected: pa.Table | None,
) -> Commit:
    """Append events and move the positions from `start` to `end`, whole or not at all."""
    _check_span(source, start, end)
    with session.reading() as cursor, relation(cursor, events) as given:
        listed, days = _prepare(session, source, cursor=cursor, given=given)

    def work(transaction: Transaction) -> Commit:
        _advance(session, transaction, source, owner=owner, start=start, end=end)
        with relation(transaction.cursor, events) as rows:
            transaction.cursor.execute(f"INSERT INTO {quote(live_table(source))} SELECT {listed} FROM {rows}")
        record_rejected(transaction, rejected)
        record_commit(
            transaction,
            source=source,
            kind="live",
            days=days,
            rows=events.num_rows,
            at_us=session.clock.now_us(),
            positions=end,
            owner=owner,
        )
        return Commit(
            snapshot=transaction.snapshot,
            rows=events.num_rows,
            days=tuple(days),
            duplicates=_kinds(rejected).count("duplicate"),
            conflicts=_kinds(rejected).count("conflict"),
        )

    return session.commit(work)


def _prepare(session: Session, source: str, *, cursor: duckdb.DuckDBPyConnection, given: str) -> tuple[str, list[date]]:
    """The select list that fits the events into the live table, and their days; all of it before the commit lock."""
    columns = source_columns(cursor, source)
    # A column that was added after this process declared the source is null, or its default, until it restarts.
    defaults = (
        {"_late": "FALSE", DAY: UTC_DAY} | dict.fromkeys(UNKNOWN, "NULL") | undeclared(session, cursor, source, columns)
    )
    types = relation_columns(cursor, f"SELECT * FROM {given}")
    listed = projection(types, columns, table=live_table(source), defaults=defaults)
    rows = cursor.execute(
        f"""SELECT DISTINCT {DAY}, coalesce({DAY} <> {UTC_DAY} OR _event_id IS NULL, TRUE) AS broken
        FROM (SELECT {listed} FROM {given}) ORDER BY {DAY}"""
    ).fetchall()
    if any(broken for _, broken in rows):
        raise LakeError(
            f"live events of source '{source}' hold rows without `_event_id` or `_event_us`, or whose `{DAY}` is not "
            "the UTC day of `_event_us`; nothing was written"
        )
    return listed, [day for day, _ in rows]


def positions(session: Session, source: str, *, snapshot: int | None) -> dict[int, int]:
    """The next offset to read per partition; empty before the first live commit."""
    if snapshot is None:
        return _positions(session, snapshot).get(source, {})
    if not days_at(session, source, snapshot).has_streamed:
        return {}  # DuckLake takes longer over a table without rows than over any other
    return dict(session.remembered(("positions", snapshot), lambda: _positions(session, snapshot)).get(source, {}))


def _positions(session: Session, snapshot: int | None) -> dict[str, dict[int, int]]:
    """Source -> its positions."""
    table = qualified(session, "positions", snapshot=snapshot)
    with session.reading() as cursor:
        try:
            rows = cursor.execute(f'SELECT source, "partition", position FROM {table} ORDER BY ALL').fetchall()
        except duckdb.Error as error:
            doing = f"positions cannot be read at snapshot {snapshot}"
            raise LakeError(session.explained(error, doing=doing)) from error
    found: dict[str, dict[int, int]] = {}
    for source, partition, position in rows:
        found.setdefault(source, {})[partition] = position
    return found


def _check_span(source: str, start: Mapping[int, int], end: Mapping[int, int]) -> None:
    if start.keys() != end.keys() or any(end[partition] < start[partition] for partition in start):
        raise InputError(
            f"source '{source}': `end` must name the partitions of `start`, each at or after it, "
            f"got start {dict(start)} and end {dict(end)}"
        )


def _advance(
    session: Session,
    transaction: Transaction,
    source: str,
    *,
    owner: str,
    start: Mapping[int, int],
    end: Mapping[int, int],
) -> None:
    """Compare and set the positions. A partition's first commit may start anywhere."""
    cursor, partitions = transaction.cursor, [int(partition) for partition in start]
    if not partitions:
        return
    stops = " ".join(f"WHEN {part} THEN {int(end[part])}" for part in partitions)
    expected = ", ".join(f"({part}, {int(start[part])})" for part in partitions)
    row = cursor.execute(
        f"""UPDATE positions SET position = CASE "partition" {stops} END, owner = ?
        WHERE {is_of("source", "?")} AND ("partition", position) IN ({expected})""",
        [owner, source],
    ).fetchone()
    updated = int(row[0]) if row else 0
    if updated == len(start):
        return
    # By another cursor: as committed, without what this transaction has moved already.
    found = positions(session, source, snapshot=None)
    fresh = [partition for partition in partitions if partition not in found]
    if updated + len(fresh) != len(start):
        raise PositionConflict(source, start, {part: found[part] for part in partitions if part in found})
    cursor.execute(
        "INSERT INTO positions SELECT ?, unnest(?::INTEGER[]), unnest(?::BIGINT[]), ?",
        [source, fresh, [end[p] for p in fresh], owner],
    )


def newest_arrival_us(session: Session, source: str, *, snapshot: int | None) -> int | None:
    """The newest arrival of the partition that is furthest behind; None before the first live event."""
    with session.reading() as cursor:
        row = cursor.execute(
            "SELECT min(newest) FROM (SELECT max(_arrived_us) AS newest "
            f"FROM {qualified(session, live_table(source), snapshot=snapshot)} GROUP BY _partition)"
        ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _kinds(rejected: pa.Table | None) -> list[str]:
    if rejected is None or "kind" not in rejected.column_names:
        return []
    kinds: list[str] = rejected.column("kind").to_pylist()
    return kinds
