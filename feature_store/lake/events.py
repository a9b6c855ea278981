"""Events in the lake: a loaded and a live table per source, read as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from feature_store.errors import InputError, LakeError, UnknownNameError
from feature_store.lake.books.commits import NO_DAYS, all_committed_days
from feature_store.lake.connection import CATALOG, at_version, literal, quote
from feature_store.lake.days import DAY, between_days, in_days
from feature_store.lake.sizes import rows_by_day
from feature_store.lake.tables import (
    Columns,
    arrow_columns,
    check_name,
    column_defaults,
    ensure_table,
    is_current,
    relation_columns,
    table_columns,
)
from feature_store.schema import UNKNOWN as KEEPS
from feature_store.schema import default_of, path_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from feature_store.lake.books.commits import Days
    from feature_store.lake.session import Session, Transaction

SYSTEM: Columns = {
    "_event_id": "VARCHAR",
    "_event_us": "BIGINT",
    "_arrived_us": "BIGINT",
    "_partition": "INTEGER",
    "_offset": "BIGINT",
    "_late": "BOOLEAN",
    DAY: "DATE",
}
UNKNOWN: Columns = {"_unknown": "VARCHAR"}
"""What an event's payload had beside its columns, as JSON; of sources that keep it."""


_WHOLE = ("BIGINT", "UBIGINT")
_JSON_TYPES = (
    (("TINY", "SMALL", "INT", "BIG", "UTINY", "USMALL", "UINT", "UBIG"), _WHOLE),
    (("FLOAT", "DOUBLE"), (*_WHOLE, "DOUBLE")),
    (("DECIMAL",), (*_WHOLE, "DOUBLE", "VARCHAR")),
    (("BOOLEAN",), ("BOOLEAN",)),
    (("",), ("VARCHAR",)),
)
"""How a column's type begins, and what JSON calls the values that it takes."""


def loaded_table(source: str) -> str:
    """The table of loaded history."""
    return f"events_{source}_loaded"


def live_table(source: str) -> str:
    """The table of what came over the log."""
    return f"events_{source}_live"


def ensure_source(session: Session, source: str, schema: pa.Schema) -> None:
    """Create or widen both tables of a source. What is there already may be wider than `schema`.

    Raises:
        InputError: the name, or a column name that the lake keeps for itself.
        LakeError: a column has a type in the lake that cannot be widened to this one.
    """
    columns = declare_source(session, source, schema)
    if session.fitted.get(source) == columns:
        return
    with session.reading() as cursor:
        fits = all(is_current(table_columns(cursor, table), columns) for table in _tables(source))
    if not fits:
        session.commit(lambda transaction: fit_source(transaction, source, columns, schema))
    session.fitted[source] = columns


def declare_source(session: Session, source: str, schema: pa.Schema) -> Columns:
    """Let this process know a source by `schema`; returns the columns that its tables must have. Nothing is written.

    Raises:
        InputError: the name, or a column name that the lake keeps for itself.
    """
    check_name(source, kind="source")
    reserved = sorted(set(schema.names) & (SYSTEM | UNKNOWN).keys())
    if reserved:
        raise InputError(f"source '{source}': column names {reserved} are the lake's own, rename them")
    columns = {**arrow_columns(schema), **SYSTEM, **(UNKNOWN if KEEPS in (schema.metadata or {}) else {})}
    session.declared[source] = columns
    return columns


def fit_source(transaction: Transaction, source: str, columns: Columns, schema: pa.Schema) -> None:
    """Create or widen both tables of a source, and give new columns what old events had kept under their names.

    Raises:
        LakeError: a column has a type in the lake that cannot be widened to this one.
    """
    found = {field.name: default_of(field) for field in schema}
    defaults = {name: text for name, text in found.items() if text is not None}
    before = table_columns(transaction.cursor, live_table(source)) or {}
    for table in _tables(source):
        ensure_table(transaction.cursor, table, columns=columns, partition_by=[DAY], defaults=defaults)
    if UNKNOWN.keys() <= before.keys():
        fresh = {name: kind for name, kind in columns.items() if name not in before}
        _find_kept(transaction.cursor, live_table(source), fresh, {field.name: path_of(field) for field in schema})


def _tables(source: str) -> tuple[str, str]:
    return loaded_table(source), live_table(source)


def _find_kept(
    cursor: duckdb.DuckDBPyConnection, table: str, columns: Columns, paths: Mapping[str, Sequence[str]]
) -> None:
    """Give new columns what older events had kept under their names, where a decoder would have taken it."""
    for name, kind in columns.items():
        path = literal("$" + "".join(f'."{step}"' for step in paths.get(name, [name])))
        wanted = next(types for starts, types in _JSON_TYPES if kind.startswith(starts))
        fits = f"json_type(_unknown, {path}) IN ({', '.join(map(literal, wanted))})"
        text = f"json_extract_string(_unknown, {path})"
        value = f"TRY(from_base64({text}))" if kind == "BLOB" else f"TRY_CAST({text} AS {kind})"
        cursor.execute(
            f"UPDATE {quote(table)} SET {quote(name)} = {value} "
            f"WHERE _unknown IS NOT NULL AND {fits} AND {value} IS NOT NULL"
        )


def undeclared(session: Session, cursor: duckdb.DuckDBPyConnection, source: str, columns: Columns) -> dict[str, str]:
    """Columns that a later declaration than this process's gave a source -> SQL of what its rows have there."""
    declared = session.declared.get(source, columns)
    if all(name in declared for name in columns):
        return {}
    defaults = column_defaults(cursor, live_table(source), env=session.env)
    return {name: defaults[name] for name in columns if name not in declared}


def source_columns(cursor: duckdb.DuckDBPyConnection, source: str) -> Columns:
    """The columns of a source's tables.

    Raises:
        UnknownNameError: the lake has no such source.
    """
    columns = table_columns(cursor, live_table(source))
    if columns is None:
        raise UnknownNameError("source in the lake", source, sources(cursor))
    return columns


def has_source(session: Session, source: str) -> bool:
    """Whether a source has tables."""
    return session.exists(live_table(source))


def sources(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    """The sources that have tables in this environment."""
    names = [row[0] for row in cursor.execute("SHOW TABLES").fetchall()]
    live = [name for name in names if name.startswith("events_") and name.endswith("_live")]
    return sorted(name.removeprefix("events_").removesuffix("_live") for name in live)


def qualified(session: Session, table: str, *, snapshot: int | None = None) -> str:
    """A table as it is now, or as of a snapshot, for any cursor of this lake."""
    name = f"{CATALOG}.{quote(session.env)}.{quote(table)}"
    # In brackets, because the grammar knows no alias behind AT.
    return name if snapshot is None else f"(SELECT * FROM {name} {at_version(snapshot)})"


def events_sql(
    session: Session,
    source: str,
    *,
    snapshot: int | None,
    days: tuple[date, date] | None,
    where: str,
    loaded_at: int | None = None,
) -> str:
    """A query for the events of a source, one row per event id: live ones, and loaded ones that did not come live.

    `days` prunes partitions on every side; an id belongs to one day, so it needs no look beyond them.
    `where` is applied to rows after that choice, so it may name any column. At a snapshot from before a source evolved, the
    events have the columns of now: what rows were written without is null or the default.
    """
    at = snapshot if loaded_at is None else loaded_at
    if at is not None and at == snapshot == session.held:
        columns = session.remembered(("source", source, at), lambda: _held_columns(session, source, at))
        live, loaded = (qualified(session, table, snapshot=at) for table in _tables(source)[::-1])
    else:
        columns, live, loaded = _states(session, source, snapshot, at)
    known = None if snapshot is None else days_at(session, source, snapshot)
    loads = known if at is None or at == snapshot else days_at(session, source, at)
    listed, kept = ", ".join(map(quote, columns)), f"{between_days(days)} AND ({where})"
    came_live = f"SELECT {listed} FROM {live} WHERE {kept}"

    def also_loaded(chosen: str) -> str:
        return (
            f"SELECT {listed} FROM (SELECT {listed} FROM {loaded} WHERE {kept} AND {chosen}) "
            f"ANTI JOIN (SELECT _event_id FROM {live} WHERE {between_days(days)}) USING (_event_id)"
        )

    if known is None or loads is None:  # now: what is read may be newer than an answer of the books
        return f"{came_live} UNION ALL {also_loaded('TRUE')}"
    # Only on a day of both can an event be both; a table without rows costs DuckLake a question for each column.
    live_days, loaded_days = _within(known.live, days), _within(loads.loaded, days)
    parts = [came_live] if live_days else []
    if both := live_days & loaded_days:
        parts.append(also_loaded(in_days(sorted(both))))
    if loaded_days - live_days:
        parts.append(f"SELECT {listed} FROM {loaded} WHERE {kept} AND NOT ({in_days(sorted(live_days))})")
    return " UNION ALL ".join(parts or [f"SELECT {listed} FROM {live} WHERE FALSE"])


def _held_columns(session: Session, source: str, snapshot: int) -> Columns:
    """The columns of a source at a snapshot that is held."""
    with session.reading() as cursor:
        if not session.exists(live_table(source), snapshot=snapshot):
            source_columns(cursor, source)  # which names the sources that there are, if it is none of them
        return relation_columns(cursor, f"SELECT * FROM {qualified(session, live_table(source), snapshot=snapshot)}")


def _states(session: Session, source: str, snapshot: int | None, at: int | None) -> tuple[Columns, str, str]:
    """The columns that a source has now; its live events at a snapshot, and its loaded ones at another, with these columns."""
    with session.reading() as cursor:
        columns = source_columns(cursor, source)
        try:
            live, given = _state(session, cursor, live_table(source), columns, at=snapshot)
            same = given if at == snapshot else None  # both tables change in one commit
            loaded, _ = _state(session, cursor, loaded_table(source), columns, at=at, given=same)
        except duckdb.Error as error:
            doing = f"source '{source}' cannot be read at snapshot {snapshot}"
            raise LakeError(session.explained(error, doing=doing)) from error
    return columns, live, loaded


def _state(
    session: Session,
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    columns: Columns,
    *,
    at: int | None,
    given: Columns | None = None,
) -> tuple[str, Columns]:
    """A table of events as of a snapshot with the columns of now, also those that it has gained since; and what it had.

    `given`: the columns that it had, where they are known.
    """
    name = qualified(session, table, snapshot=at)
    if at is None:
        return name, columns
    given = given or session.remembered(
        ("columns", table, at), lambda: relation_columns(cursor, f"SELECT * FROM {name}")
    )
    if given == columns:
        return name, given
    gained = column_defaults(cursor, table, env=session.env)
    values = {column: quote(column) if column in given else gained.get(column, "NULL") for column in columns}
    listed = ", ".join(f"CAST({values[column]} AS {kind}) AS {quote(column)}" for column, kind in columns.items())
    return f"(SELECT {listed} FROM {name})", given


def days_at(session: Session, source: str, snapshot: int) -> Days:
    """The days for which the lake had been given events at a snapshot, which stay the same; asked for once."""

    def find() -> dict[str, Days]:
        with session.reading() as cursor:
            return all_committed_days(cursor, snapshot=snapshot)

    return session.remembered(("days", snapshot), find).get(source, NO_DAYS)


def count_days(session: Session, source: str, days: Sequence[date], *, snapshot: int) -> dict[date, int]:
    """Day -> its events at a snapshot; each day is counted once, those on which nothing came live by the catalog.

    The catalog is asked for all sources together, which takes as long as for one.
    """
    known: dict[date, int] = session.remembered(("counts", source, snapshot), dict)
    missing = sorted({*days} - known.keys())
    live = {*days_at(session, source, snapshot).live}
    if loaded := [day for day in missing if day not in live]:
        tables = [loaded_table(each) for each in sorted({source, *session.declared})]
        of_tables = session.remembered(
            ("loaded", *tables, snapshot), lambda: rows_by_day(session, tables, snapshot=snapshot)
        )
        found = of_tables[loaded_table(source)]
        known.update({day: found.get(day, 0) for day in loaded})
    if missing := [day for day in missing if day in live]:
        events = events_sql(session, source, snapshot=snapshot, days=(missing[0], missing[-1]), where=in_days(missing))
        with session.reading() as cursor:
            found = dict(cursor.execute(f"SELECT {DAY}, count(*) FROM ({events}) GROUP BY 1").fetchall())
        known.update({day: found.get(day, 0) for day in missing})
    return {day: known[day] for day in days}


def _within(found: Sequence[date], days: tuple[date, date] | None) -> set[date]:
    return {day for day in found if days is None or days[0] <= day <= days[1]}
