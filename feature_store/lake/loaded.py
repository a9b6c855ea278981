"""Loading history: whole days of a source's events, replaced or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import LakeError
from feature_store.lake.commit import Commit
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, UTC_DAY, in_days
from feature_store.lake.events import SYSTEM, live_table, loaded_table, source_columns
from feature_store.lake.records import record_commit, record_rejected
from feature_store.lake.staging import Rows, Stage, check_days, commit_staged, staged, write
from feature_store.lake.tables import Columns, projection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import duckdb

    from feature_store.lake.session import Session, Transaction

_DEFAULTS = {"_arrived_us": "NULL", "_partition": "NULL", "_offset": "NULL", "_late": "FALSE", DAY: UTC_DAY}


def replace_loaded(
    session: Session, source: str, *, events: Rows, days: Sequence[date], cursor: duckdb.DuckDBPyConnection | None
) -> Commit:
    """Replace exactly `days` of a source's loaded events; live events stay as they are."""
    wanted, what = sorted(set(days)), f"events of source '{source}'"
    table = loaded_table(source)
    with session.reading() as own:
        columns = source_columns(own, source)

        def select(given: Columns) -> str:
            return projection(given, columns, table=table, defaults=_DEFAULTS)

        with staged(session, events, cursor=cursor or own, select=select, what=what) as stage:
            check_days(stage, wanted, what=what)
            rejected, duplicates = _clean(stage, source, columns=columns, cursor=own, days=wanted)

            def record(transaction: Transaction) -> None:
                record_rejected(transaction, rejected)
                record_commit(
                    transaction,
                    source=source,
                    kind="loaded",
                    days=wanted,
                    rows=stage.rows,
                    at_us=session.clock.now_us(),
                )

            snapshot = commit_staged(session, stage, table, replace=wanted, record=record)
            return Commit(
                snapshot=snapshot,
                rows=stage.rows,
                days=tuple(wanted),
                duplicates=duplicates,
                conflicts=rejected.num_rows,
            )


def _clean(
    stage: Stage, source: str, *, columns: Columns, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]
) -> tuple[pa.Table, int]:
    """Drop staged rows whose event is there already; returns the conflicting ones as rejected events, and the rest's number."""
    if not stage.rows:
        return _rejected(cursor, "SELECT 1 AS _event_id, 1 AS _arrived_us, '' AS payload WHERE FALSE", source), 0
    _check_rows(stage, source, cursor=cursor)
    known = _known_ids(stage, source, cursor=cursor, days=days)
    if not known.num_rows:
        return _rejected(cursor, "SELECT 1 AS _event_id, 1 AS _arrived_us, '' AS payload WHERE FALSE", source), 0
    cursor.register("known_ids", known)
    payload = ", ".join(
        f"{quote(name)} := {quote(name)}" for name in columns if name == "_event_us" or name not in SYSTEM
    )
    cursor.execute(
        f"""CREATE OR REPLACE TEMP TABLE doubled AS
        SELECT *, row_number() OVER first_come AS rank, first_value(payload) OVER first_come AS kept
        FROM (SELECT s.*, k.elsewhere, CAST(to_json(struct_pack({payload})) AS VARCHAR) AS payload
              FROM {stage.scan()} AS s JOIN known_ids AS k USING (_event_id))
        WINDOW first_come AS (PARTITION BY _event_id ORDER BY _arrived_us NULLS LAST, payload)"""
    )
    listed = ", ".join(map(quote, columns))
    before = stage.rows
    write(
        stage,
        f"SELECT {listed} FROM {stage.scan()} ANTI JOIN known_ids USING (_event_id) "
        f"UNION ALL SELECT {listed} FROM temp.doubled WHERE rank = 1 AND NOT elsewhere",
        cursor=cursor,
    )
    conflicts = _rejected(cursor, "SELECT * FROM temp.doubled WHERE elsewhere OR payload <> kept", source)
    cursor.execute("DROP TABLE temp.doubled")
    cursor.unregister("known_ids")
    return conflicts, before - stage.rows - conflicts.num_rows


def _check_rows(stage: Stage, source: str, *, cursor: duckdb.DuckDBPyConnection) -> None:
    row = cursor.execute(
        f"""SELECT count(*) FILTER (_event_id IS NULL), count(*) FILTER (_event_us IS NULL),
            count(*) FILTER ({DAY} <> {UTC_DAY}) FROM {stage.scan()}"""
    ).fetchone()
    rules = ("without `_event_id`", "without `_event_us`", f"whose `{DAY}` is not the UTC day of `_event_us`")
    broken = [f"{count} rows {rule}" for count, rule in zip(row or (), rules, strict=True) if count]
    if broken:
        raise LakeError(f"events of source '{source}' hold {', '.join(broken)}; nothing was written")


def _known_ids(stage: Stage, source: str, *, cursor: duckdb.DuckDBPyConnection, days: Sequence[date]) -> pa.Table:
    """Staged ids that come more than once, or stand in the lake under another day (`elsewhere`)."""
    loaded, live = quote(loaded_table(source)), quote(live_table(source))
    return cursor.execute(
        f"""SELECT _event_id, bool_or(elsewhere) AS elsewhere FROM (
            SELECT _event_id, FALSE AS elsewhere FROM {stage.scan()} GROUP BY _event_id HAVING count(*) > 1
            UNION ALL
            SELECT s._event_id, TRUE FROM {stage.scan()} AS s JOIN (
                SELECT _event_id, {DAY} FROM {loaded} WHERE NOT {in_days(days)}
                UNION ALL SELECT _event_id, {DAY} FROM {live}
            ) AS o ON s._event_id = o._event_id AND s.{DAY} <> o.{DAY}
        ) GROUP BY _event_id"""
    ).to_arrow_table()


def _rejected(cursor: duckdb.DuckDBPyConnection, query: str, source: str) -> pa.Table:
    return cursor.execute(
        f"""SELECT ? AS source, NULL::INTEGER AS "partition", NULL::BIGINT AS "offset", _arrived_us AS arrived_us,
            'event id seen before with another payload' AS reason, payload::BLOB AS payload, 'conflict' AS kind,
            _event_id AS event_id FROM ({query})""",
        [source],
    ).to_arrow_table()
