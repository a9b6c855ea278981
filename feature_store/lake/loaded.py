"""Loading history: whole days of a source's events, replaced or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import LakeError
from feature_store.lake.books.commits import committed_days, loads_since, record_commit
from feature_store.lake.books.rejected import record_rejected
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, UTC_DAY, in_days
from feature_store.lake.events import SYSTEM, UNKNOWN, live_table, loaded_table, source_columns, undeclared
from feature_store.lake.session import current_snapshot
from feature_store.lake.staging import Stage, check_days, commit_staged, staged, write
from feature_store.lake.tables import Columns, Rows, projection, relation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import duckdb

    from feature_store.lake.session import Session, Transaction

_DEFAULTS = {"_arrived_us": "NULL", "_partition": "NULL", "_offset": "NULL", "_late": "FALSE", DAY: UTC_DAY}

_CONFLICTS = """SELECT ? AS source, NULL::INTEGER AS "partition", NULL::BIGINT AS "offset", _arrived_us AS arrived_us,
    'event id seen before with another payload' AS reason, _lake_payload::BLOB AS payload, 'conflict' AS kind,
    _event_id AS event_id
FROM temp.doubled WHERE _lake_taken OR _lake_payload <> _lake_kept"""


def replace_loaded(
    session: Session,
    source: str,
    *,
    events: Rows,
    days: Sequence[date],
    rejected: pa.Table | None,
    cursor: duckdb.DuckDBPyConnection | None,
) -> Commit:
    """Replace exactly `days` of a source's loaded events; live events stay as they are.

    A day that holds the same events as before does not count as touched.
    """
    wanted, what = sorted(set(days)), f"events of source '{source}'"
    table = loaded_table(source)
    with session.reading() as reading:
        columns = source_columns(reading, source)
        defaults = _DEFAULTS | dict.fromkeys(UNKNOWN, "NULL") | undeclared(session, reading, source, columns)

    def select(given: Columns) -> str:
        return projection(given, columns, table=table, defaults=defaults)

    with session.working() as own, staged(session, events, cursor=cursor or own, select=select, what=what) as stage:
        check_days(stage, wanted, what=what)
        with session.reading() as reading:
            conflicting, duplicates = _clean(stage, source, columns=columns, cursor=reading, days=wanted)
        with session.reading() as reading:
            compared_at = current_snapshot(reading)
            same = _same_days(stage, source, columns=columns, cursor=reading, days=wanted)

        def record(transaction: Transaction) -> None:
            record_rejected(transaction, conflicting)
            record_rejected(transaction, rejected)
            others = loads_since(transaction.cursor, source, compared_at) if same else {}
            record_commit(
                transaction,
                source=source,
                kind="loaded",
                days=[day for day in wanted if day not in same or day in others],
                rows=stage.rows,
                at_us=session.clock.now_us(),
            )

        snapshot = commit_staged(session, stage, table, replace=wanted, record=record)
        return Commit(
            snapshot=snapshot,
            rows=stage.rows,
            days=tuple(wanted),
            duplicates=duplicates,
            conflicts=0 if conflicting is None else conflicting.num_rows,
        )


def _same_days(
    stage: Stage, source: str, *, columns: Columns, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> set[date]:
    """Days that were loaded before with the same events to the last bit: nothing that was built from them is outdated."""
    before = sorted(set(days) & set(committed_days(cursor, source).loaded))
    if not before:
        return set()
    there = cursor.execute(_digests(quote(loaded_table(source)), columns, before)).fetchall()
    given = cursor.execute(_digests(stage.scan(), columns, before)).fetchall() if stage.rows else []
    empty = set(before) - {day for day, *_ in there} - {day for day, *_ in given}
    return empty | {day for day, *_ in set(there) & set(given)}


def _digests(relation: str, columns: Columns, days: Sequence[date]) -> str:
    listed = ", ".join(map(quote, columns))
    return (
        f"SELECT {DAY}, count(*), bit_xor(hash({listed})), sum(hash({listed})) FROM {relation} "
        f"WHERE {in_days(days)} GROUP BY {DAY}"
    )


def _clean(
    stage: Stage, source: str, *, columns: Columns, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> tuple[pa.Table | None, int]:
    """Drop staged rows whose event is there already.

    Returns the conflicting ones as dead letters, and the number of the others.
    """
    if not stage.rows:
        return None, 0
    _check_rows(stage, source, cursor=cursor)
    known = _known_ids(stage, source, columns=columns, cursor=cursor, days=days)
    if not known.num_rows:
        return None, 0
    with relation(cursor, known) as ids:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE doubled AS {_ranked(stage, ids, columns=columns)}")
        listed, before = ", ".join(map(quote, columns)), stage.rows
        write(
            stage,
            f"SELECT {listed} FROM {stage.scan()} ANTI JOIN {ids} USING (_event_id) "
            f"UNION ALL SELECT {listed} FROM temp.doubled WHERE _lake_rank = 1 AND NOT _lake_taken",
            cursor=cursor,
        )
    conflicts = cursor.execute(_CONFLICTS, [source]).to_arrow_table()
    cursor.execute("DROP TABLE temp.doubled")
    return conflicts, before - stage.rows - conflicts.num_rows


def _ranked(stage: Stage, ids: str, *, columns: Columns) -> str:
    """Every staged row of the given ids: which of its event's rows it is, and whether it says the same as the first."""
    return f"""SELECT *, row_number() OVER first_come AS _lake_rank,
            first_value(_lake_payload) OVER first_come AS _lake_kept
        FROM (SELECT s.*, k.taken AS _lake_taken,
                     CAST(to_json(struct_pack({_payload(columns, of="s")})) AS VARCHAR) AS _lake_payload
              FROM {stage.scan()} AS s JOIN {ids} AS k USING (_event_id))
        WINDOW first_come AS (PARTITION BY _event_id ORDER BY _arrived_us NULLS LAST, _lake_payload)"""


def _check_rows(stage: Stage, source: str, *, cursor: duckdb.DuckDBPyConnection) -> None:
    row = cursor.execute(
        f"""SELECT count(*) FILTER (_event_id IS NULL), count(*) FILTER (_event_us IS NULL),
            count(*) FILTER ({DAY} <> {UTC_DAY}) FROM {stage.scan()}"""
    ).fetchone()
    rules = ("without `_event_id`", "without `_event_us`", f"whose `{DAY}` is not the UTC day of `_event_us`")
    broken = [f"{count} rows {rule}" for count, rule in zip(row or (), rules, strict=True) if count]
    if broken:
        raise LakeError(f"events of source '{source}' hold {', '.join(broken)}; nothing was written")


def _known_ids(
    stage: Stage, source: str, *, columns: Columns, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> pa.Table:
    """Staged ids that come more than once, or are taken: by another day, or by another payload that came live."""
    loaded, live = quote(loaded_table(source)), quote(live_table(source))
    given, came = (f"struct_pack({_payload(columns, of=side)})" for side in ("s", "o"))
    elsewhere = f"SELECT _event_id, {DAY} FROM {loaded} WHERE NOT {in_days(days)}"
    changed = ""
    if committed_days(cursor, source).live:  # a table without rows costs DuckLake a question for each column
        elsewhere += f" UNION ALL SELECT _event_id, {DAY} FROM {live}"
        changed = f"""UNION ALL
            SELECT s._event_id, TRUE FROM {stage.scan()} AS s JOIN (SELECT * FROM {live} WHERE {in_days(days)}) AS o
            ON s._event_id = o._event_id AND {given} IS DISTINCT FROM {came}"""
    return cursor.execute(
        f"""SELECT _event_id, bool_or(taken) AS taken FROM (
            SELECT _event_id, FALSE AS taken FROM {stage.scan()} GROUP BY _event_id HAVING count(*) > 1
            UNION ALL
            SELECT s._event_id, TRUE FROM {stage.scan()} AS s JOIN ({elsewhere}) AS o
            ON s._event_id = o._event_id AND s.{DAY} <> o.{DAY}
            {changed}
        ) GROUP BY _event_id"""
    ).to_arrow_table()


def _payload(columns: Columns, *, of: str) -> str:
    """What two deliveries of one event have in common: its own columns and its time."""
    names = [name for name in columns if name == "_event_us" or name not in SYSTEM | UNKNOWN]
    return ", ".join(f"{quote(name)} := {of}.{quote(name)}" for name in names)
