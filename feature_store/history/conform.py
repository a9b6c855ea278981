"""Loaded rows become events: cast to the source's columns, with system columns, or rejected with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.duck import scratch
from feature_store.errors import InputError, unknown_name
from feature_store.loaders.part import Part, Unreadable
from feature_store.long_keys import keys_of
from feature_store.schema import check_rows, with_defaults
from feature_store.time_rule import format_duration
from feature_store.transforms.project import ARRIVED, ID, TIME, event_id_sql

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource

_ROW = "_row"
_ROUNDTRIP = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "DECIMAL")
_TIMES = ("TIMESTAMP", "DATE", "TIME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformed:
    """Rows that are events, and those that are not: `rejected_events` rows."""

    events: pa.Table
    """The source's columns, `_event_id`, `_event_us`, `_arrived_us`."""
    rejected: pa.Table
    rejected_us: pa.ChunkedArray
    """The event time of each rejected row, null where it has none."""


def conform(source: EventSource, found: pa.Table | Part, *, schema: pa.Schema, arrival: str | None) -> Conformed:
    """Divide loaded rows into events and rejected rows.

    Args:
        source: naive times are in its zone.
        found: what a loader returned, with at least the source's columns that must have a value; one that may be null
            is null, or its default, where the rows lack it. Of a part, what its loader says against a
            row counts first, and each reason begins with the row's place.
        schema: the source's Arrow schema.
        arrival: the column of arrival times, if there is one.

    Raises:
        InputError: a column is missing, or its type has nothing to do with the declared one.
    """
    part = found if isinstance(found, Part) else Part(found)
    _check_columns(source, part.rows, schema, arrival)
    part = replace(part, rows=_complete(part.rows, schema))
    rows = part.rows
    connection = scratch(timezone=source.timezone)
    try:
        types = _types(connection, schema)
        connection.register("loaded", rows.append_column(_ROW, pa.array(np.arange(rows.num_rows))))
        given = {str(r[0]): str(r[1]) for r in connection.execute("DESCRIBE SELECT * FROM loaded").fetchall()}
        _check_types(source, part, given, types)
        cast = _cast(connection, source, given, types, arrival, event_id=event_id_sql(source, schema))
        cast = with_defaults(schema, cast)
    finally:
        connection.close()
    reasons = _reasons(source, cast, schema, part)
    kept = cast.filter(pc.invert(pc.is_in(cast.column(_ROW), pa.array(list(reasons), type=pa.int64()))))
    events = kept.select(schema.names).cast(schema)
    for name in (ID, TIME, ARRIVED):
        events = events.append_column(name, kept.column(name))
    chosen = cast.take(pa.array(sorted(reasons), type=pa.int64()))
    return Conformed(events=events, rejected=_rejected(source, rows, chosen, reasons), rejected_us=chosen.column(TIME))


def _check_columns(source: EventSource, rows: pa.Table, schema: pa.Schema, arrival: str | None) -> None:
    """A column that may be null may be missing, unless one that nobody declared looks like it misspelt."""
    others = [name for name in rows.schema.names if name not in schema.names]
    optional = {field.name for field in schema if field.nullable and not get_close_matches(field.name, others)}
    for name in [*schema.names, *([arrival] if arrival else [])]:
        if name not in rows.schema.names and (name not in optional or name == arrival):
            raise InputError(f"source '{source.name}': loaded rows: {unknown_name('column', name, rows.schema.names)}")


def _complete(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with a column of nulls for each that they lack: history may be older than the column."""
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def _types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    connection.register("wanted", schema.empty_table())
    rows = connection.execute("DESCRIBE SELECT * FROM wanted").fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


def _check_types(source: EventSource, part: Part, given: Mapping[str, str], types: Mapping[str, str]) -> None:
    for name, kind in types.items():
        if not _related(given[name], kind):
            where = part.place([0]).get(0) if part.rows.num_rows else None
            raise InputError(
                f"source '{source.name}', column '{name}': the schema says {kind}, "
                f"but the loaded rows have {given[name]}" + (f" (from {where} on)" if where else "")
            )


def _cast(
    connection: duckdb.DuckDBPyConnection,
    source: EventSource,
    given: Mapping[str, str],
    types: Mapping[str, str],
    arrival: str | None,
    *,
    event_id: str,
) -> pa.Table:
    """Every row cast, with the columns whose value did not fit (`_unfit`), and the system columns."""
    listed, unfit = [], []
    for name, kind in types.items():
        value = f'TRY_CAST("{name}" AS {kind})'
        listed.append(f'{value} AS "{name}"')
        bad = f'"{name}" IS NOT NULL AND {value} IS NULL'
        if given[name] != kind and given[name] != "VARCHAR" and kind.startswith(_ROUNDTRIP):
            # DuckDB rounds 1.5 to 2 without a word.
            bad = f'({bad}) OR TRY_CAST({value} AS {given[name]}) IS DISTINCT FROM "{name}"'
        elif given[name] == "VARCHAR" and kind.startswith(_ROUNDTRIP):
            # So it does with '1.5'.
            bad = f'({bad}) OR TRY_CAST("{name}" AS DECIMAL(38, {_digits(kind)})) <> {value}'
        unfit.append(f"CASE WHEN {bad} THEN '{name}' END")
    arrived = f'epoch_us(TRY_CAST("{arrival}" AS TIMESTAMPTZ))' if arrival else "NULL::BIGINT"
    inner = f"SELECT {', '.join(listed)}, {_ROW}, {arrived} AS {ARRIVED}, list_filter([{', '.join(unfit)}], x -> x IS NOT NULL) AS _unfit FROM loaded"
    return connection.execute(
        f'SELECT *, {event_id} AS {ID}, epoch_us("{source.event_time}") AS {TIME} FROM ({inner}) ORDER BY {_ROW}'
    ).to_arrow_table()


def _digits(kind: str) -> int:
    """Digits after the point that text is read with, to see whether its cast to `kind` has dropped any."""
    scale = int(kind.rstrip(")").partition(",")[2]) if kind.startswith("DECIMAL") else 0
    return min(scale + 12, 37)


def _related(given: str, wanted: str) -> bool:
    """Whether some values of one type are values of the other; text may be a value of any."""
    if "VARCHAR" in (given, wanted) or given in ('"NULL"', "NULL", wanted):
        return True
    return given.startswith(_TIMES) == wanted.startswith(_TIMES)


def _reasons(source: EventSource, cast: pa.Table, schema: pa.Schema, part: Part) -> dict[int, str]:
    """Row number -> why it is no event."""
    rows, reasons = part.rows, dict(part.faults)
    misfits = cast.filter(pc.greater(pc.list_value_length(cast.column("_unfit")), 0))
    for row, names in zip(misfits.column(_ROW).to_pylist(), misfits.column("_unfit").to_pylist(), strict=True):
        said = [
            f"column '{name}': {rows.column(name)[row].as_py()!r} is not {schema.field(name).type}" for name in names
        ]
        reasons.setdefault(row, "; ".join(said))
    for role, name in (*((name, name) for name in source.id_columns), (TIME, source.event_time)):
        for row in cast.filter(pc.is_null(cast.column(role))).column(_ROW).to_pylist():
            reasons.setdefault(row, f"column '{name}': must not be null")
    tolerance = source.future_tolerance_us
    future = pc.fill_null(pc.greater(pc.subtract(cast.column(TIME), cast.column(ARRIVED)), tolerance), False)
    for row in cast.filter(future).column(_ROW).to_pylist():
        reasons.setdefault(
            row,
            f"column '{source.event_time}': later than its arrival by more than the tolerance of "
            f"{format_duration(tolerance)}",
        )
    left = cast.filter(pc.invert(pc.is_in(cast.column(_ROW), pa.array(list(reasons), type=pa.int64()))))
    numbers = left.column(_ROW)
    nullable = pa.schema([field.with_nullable(True) for field in schema])  # a null where none may be is its row's fault
    fit = left.select(schema.names).cast(nullable)
    for position, reason in check_rows(source.schema, fit, keys=keys_of(schema)).rejected:
        reasons[numbers[position].as_py()] = reason
    places = part.place(sorted(reasons)) if reasons else {}
    return {row: f"{places[row]}: {reason}" if row in places else reason for row, reason in reasons.items()}


def unreadable_rows(source: EventSource, unreadable: Sequence[Unreadable]) -> pa.Table:
    """Rows of `rejected_events` for records of files that are no rows at all."""
    reasons, payloads = [one.reason for one in unreadable], [one.text.encode() for one in unreadable]
    nothing = pa.nulls(len(reasons), type=pa.int64())
    return _dead_letters(source, reasons, payloads, arrived=nothing, event_id=nothing.cast(pa.string()))


def _rejected(source: EventSource, rows: pa.Table, chosen: pa.Table, reasons: Mapping[int, str]) -> pa.Table:
    raw = rows.take(chosen.column(_ROW)).to_pylist()
    return _dead_letters(
        source,
        [reasons[row] for row in sorted(reasons)],
        [json.dumps(row, default=str).encode() for row in raw],
        arrived=chosen.column(ARRIVED),
        event_id=chosen.column(ID),
    )


def _dead_letters(
    source: EventSource,
    reasons: Sequence[str],
    payloads: Sequence[bytes],
    *,
    arrived: pa.Array | pa.ChunkedArray,
    event_id: pa.Array | pa.ChunkedArray,
) -> pa.Table:
    """Rows of `rejected_events` for loaded history, which has no offsets."""
    count = len(reasons)
    return pa.table(
        {
            "source": pa.array([source.name] * count, type=pa.string()),
            "partition": pa.nulls(count, type=pa.int32()),
            "offset": pa.nulls(count, type=pa.int64()),
            "arrived_us": arrived,
            "reason": pa.array(reasons, type=pa.string()),
            "payload": pa.array(payloads, type=pa.binary()),
            "kind": pa.array(["rejected"] * count, type=pa.string()),
            "event_id": event_id,
        }
    )
