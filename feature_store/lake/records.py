"""The lake's own books: who committed which days from where to where, and what was built from which state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from feature_store.lake.connection import CATALOG, literal, quote
from feature_store.lake.late import LATE, LATE_EVENTS
from feature_store.lake.tables import (
    Columns,
    ensure_table,
    is_current,
    is_of,
    projection,
    relation,
    relation_columns,
    table_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import duckdb
    import pyarrow as pa

    from feature_store.lake.session import Session, Transaction

STREAM_COMMITS = "stream_commits"
"""Table: one row per commit of a shard and partition: what had been read, and when readers saw it."""
STREAM_RUNS = "stream_runs"
"""Table: one row per run of the stream: how many shards, and as of which snapshot it knew loaded events."""

PINS = "pinned_snapshots"
"""Table: one row per snapshot that must survive expiry, and why."""

_INLINE = "data_inlining_row_limit"
_INLINE_ROWS = 1000

COMMITS: Columns = {
    "snapshot": "BIGINT",  # the snapshot that the commit made; it names the commit
    "source": "VARCHAR",
    "kind": "VARCHAR",  # loaded | live
    "days": "DATE[]",
    "rows": "BIGINT",
    "positions": "MAP(INTEGER, BIGINT)",  # live: next offset to read, of the partitions that moved
    "owner": "VARCHAR",
    "at_us": "BIGINT",
}
POSITIONS: Columns = {"source": "VARCHAR", "partition": "INTEGER", "position": "BIGINT", "owner": "VARCHAR"}
BUILDS: Columns = {
    "snapshot": "BIGINT",
    "table_name": "VARCHAR",
    "day": "DATE",
    "first_day": "DATE",  # the earliest day of events that it read
    "source": "VARCHAR",
    "built_from": "BIGINT",  # the snapshot that it read
    "at_us": "BIGINT",
    "built_columns": "VARCHAR[]",  # what its rows have; the table may have been widened since. Null: not noted
    "meanings": "VARCHAR[]",  # what it was built by: the definition of each feature. Null: not noted
}
PUBLICATIONS: Columns = {
    "snapshot": "BIGINT",  # the snapshot that noted its begin; it names the publication
    "table_name": "VARCHAR",
    "row_us": "BIGINT",
    "row_version": "BIGINT",
    "begun_us": "BIGINT",
    "at_us": "BIGINT",  # when Redis had acknowledged it; null in the row of its begin
}
REJECTED: Columns = {
    "source": "VARCHAR",
    "partition": "INTEGER",
    "offset": "BIGINT",
    "arrived_us": "BIGINT",
    "reason": "VARCHAR",
    "payload": "BLOB",
    "kind": "VARCHAR",  # rejected | duplicate | conflict
    "event_id": "VARCHAR",
}
PUBLISHED = "publications"
"""Table: which rows of batch views readers were given, and since when."""
_BOOKS = {
    "commits": COMMITS,
    "positions": POSITIONS,
    "builds": BUILDS,
    PUBLISHED: PUBLICATIONS,
    LATE_EVENTS: LATE,
    "rejected_events": REJECTED,
}
_INLINED = ("commits", "positions", "builds", PUBLISHED, LATE_EVENTS)


class Days(NamedTuple):
    """The days of a source for which the lake was given events, in order."""

    loaded: list[date]
    """Days that were loaded, also those that turned out empty."""
    live: list[date]
    """Days that received live events."""
    events: int
    """How many came in all; those of a day that was loaded again more than once."""

    @property
    def known(self) -> list[date]:
        """Both."""
        return sorted({*self.loaded, *self.live})


class Publication(NamedTuple):
    """The rows of one step of a batch view, given to readers."""

    snapshot: int
    """Its name: the snapshot that noted its begin."""
    row_us: int
    """The time of the rows."""
    version: int
    """Their `row_version`."""
    since_us: int
    """When Redis had acknowledged the last of them; where that is not on record, when the first was about to be written."""
    is_acknowledged: bool


def ensure_books(session: Session) -> None:
    """Create the books where they are missing; they are small rows, so most live in the catalog itself."""
    with session.reading() as cursor:
        missing = {name for name, columns in _BOOKS.items() if not is_current(table_columns(cursor, name), columns)}
        inlined = _inlined(cursor, session.env)

    def work(transaction: Transaction) -> None:
        for name in sorted(missing):
            ensure_table(transaction.cursor, name, columns=_BOOKS[name])

    if missing:
        session.commit(work)
    if wanted := sorted(set(_INLINED) - inlined):
        session.commit(lambda transaction: _inline(transaction, wanted, env=session.env))


def _inlined(cursor: duckdb.DuckDBPyConnection, env: str) -> set[str]:
    rows = cursor.execute(
        f"SELECT scope_entry FROM ducklake_options('{CATALOG}') WHERE option_name = ? AND scope = 'TABLE'", [_INLINE]
    ).fetchall()
    return {name for name in _INLINED if (f"{env}.{name}",) in rows}


def _inline(transaction: Transaction, tables: Sequence[str], *, env: str) -> None:
    """Keep small writes of some tables in the catalog instead of a Parquet file each."""
    for table in tables:
        transaction.cursor.execute(
            f"CALL ducklake_set_option('{CATALOG}', '{_INLINE}', {_INLINE_ROWS}, "
            f"schema => {literal(env)}, table_name => {literal(table)})"
        )


def record_commit(
    transaction: Transaction,
    *,
    source: str,
    kind: str,
    days: Sequence[date],
    rows: int,
    at_us: int,
    positions: Mapping[int, int] | None = None,
    owner: str | None = None,
) -> None:
    """Note an events commit."""
    transaction.cursor.execute(
        "INSERT INTO commits SELECT ?, ?, ?, ?::DATE[], ?, map(?::INTEGER[], ?::BIGINT[]), ?, ?",
        [
            transaction.snapshot,
            source,
            kind,
            list(days),
            rows,
            list(positions or {}),
            list((positions or {}).values()),
            owner,
            at_us,
        ],
    )


def record_rejected(transaction: Transaction, rejected: pa.Table | None) -> None:
    """Append to the dead letters; `event_id` may be left out.

    What came by loading (no partition) and is there already is not added again, so loading twice changes nothing.
    """
    if rejected is None or not rejected.num_rows:
        return
    cursor = transaction.cursor
    with relation(cursor, rejected) as rows:
        given = relation_columns(cursor, f"SELECT * FROM {rows}")
        listed = projection(given, REJECTED, table="rejected_events", defaults={"event_id": "NULL"})
        same = " AND ".join(f"r.{quote(name)} IS NOT DISTINCT FROM old.{quote(name)}" for name in REJECTED)
        cursor.execute(
            f"""INSERT INTO rejected_events SELECT r.* FROM (SELECT {listed} FROM {rows}) AS r
            ANTI JOIN (SELECT * FROM rejected_events WHERE "partition" IS NULL) AS old ON {same}"""
        )


def record_builds(
    transaction: Transaction,
    *,
    table: str,
    days: Sequence[date],
    source: str | None,
    built_from: int | None,
    lookback_days: int,
    columns: Sequence[str],
    meanings: Sequence[str] | None,
    at_us: int,
) -> None:
    """Note that `days` of `table` were built, with these columns, from the events up to `lookback_days` before each day."""
    noted = None if meanings is None else list(meanings)
    transaction.cursor.execute(
        "INSERT INTO builds SELECT ?, ?, day, day - ?::INTEGER, ?, ?, ?, ?, ?::VARCHAR[] FROM (SELECT unnest(?::DATE[]) AS day)",
        [transaction.snapshot, table, lookback_days, source, built_from, at_us, list(columns), noted, list(days)],
    )


def begin_publication(transaction: Transaction, table: str, *, row_us: int, version: int, now_us: int) -> Publication:
    """Note that the rows of a step are about to be published."""
    publication = Publication(transaction.snapshot, row_us, version, now_us, is_acknowledged=False)
    _record_publication(transaction, table, publication, at_us=None)
    return publication


def end_publication(transaction: Transaction, table: str, publication: Publication, *, at_us: int) -> None:
    """Note that all of a publication that was begun had been acknowledged."""
    _record_publication(transaction, table, publication, at_us=at_us)


def _record_publication(transaction: Transaction, table: str, publication: Publication, *, at_us: int | None) -> None:
    snapshot, row_us, version, begun_us, _ = publication
    values = [snapshot, table, row_us, version, begun_us, at_us]
    transaction.cursor.execute(f"INSERT INTO {PUBLISHED} VALUES (?, ?, ?, ?, ?, ?)", values)


def publications(cursor: duckdb.DuckDBPyConnection, table: str, *, at: str = "") -> list[Publication]:
    """What was published of `table`, in the order in which readers saw it."""
    rows = cursor.execute(
        f"""SELECT snapshot, row_us, row_version, coalesce(max(at_us), begun_us) AS since_us, count(at_us) > 0
        FROM {PUBLISHED} {at} WHERE {is_of("table_name", "$table")}
        GROUP BY snapshot, row_us, row_version, begun_us ORDER BY since_us, snapshot""",
        {"table": table},
    ).fetchall()
    return [Publication(*row) for row in rows]


# The books are read whole (see `is_of`): what they are joined with stands apart from them.
_STATES = """
    WITH latest AS MATERIALIZED (
        SELECT table_name, day, first_day, built_from, at_us, meanings FROM builds
        QUALIFY row_number() OVER (PARTITION BY table_name, day ORDER BY snapshot DESC) = 1
    ), touched AS MATERIALIZED (
        SELECT source, day, kind, max(snapshot) AS last
        FROM (SELECT source, unnest(days) AS day, kind, snapshot FROM commits) GROUP BY source, day, kind
    ), mine AS MATERIALIZED (
        SELECT b.*, a.source, a.wanted FROM latest AS b JOIN {asked} AS a USING (table_name)
    ), since AS (
        SELECT b.table_name, b.day, list(DISTINCT t.kind) AS kinds FROM mine AS b JOIN touched AS t
        ON t.source = b.source AND t.day BETWEEN b.first_day AND b.day AND t.last > b.built_from
        GROUP BY b.table_name, b.day
    )
    SELECT table_name, day, coalesce(at_us, 0), coalesce(list_contains(kinds, 'loaded'), FALSE),
           coalesce(list_contains(kinds, 'live'), FALSE), coalesce(NOT list_has_all(meanings, wanted), FALSE)
    FROM mine LEFT JOIN since USING (table_name, day) ORDER BY table_name, day
"""
_LATEST_BUILDS = """
    SELECT day, first_day, built_from FROM builds {at}
    WHERE {of_table} AND {of_source}
    QUALIFY row_number() OVER (PARTITION BY day ORDER BY snapshot DESC) = 1
"""
_TOUCHED = """
    EXISTS (
        FROM (
            SELECT touched, max(snapshot) AS last
            FROM (SELECT snapshot, unnest(days) AS touched FROM commits {at} WHERE {of_source}) GROUP BY touched
        ) AS c
        WHERE c.last > b.built_from AND c.touched BETWEEN b.first_day AND b.day
    )
"""


def built_days(cursor: duckdb.DuckDBPyConnection, table: str, *, source: str, stale: bool, at: str = "") -> list[date]:
    """Days of `table` that were built from an older state of the source's events than now (stale), or from the same."""
    conditions = {"of_table": is_of("table_name", "$table"), "of_source": is_of("source", "$source")}
    latest, touched = (sql.format(at=at, **conditions) for sql in (_LATEST_BUILDS, _TOUCHED))
    rows = cursor.execute(
        f"SELECT day FROM ({latest}) AS b WHERE {'' if stale else 'NOT'} {touched} ORDER BY day",
        {"table": table, "source": source},
    ).fetchall()
    return [row[0] for row in rows]


class Build(NamedTuple):
    """The newest build of a day, and what has happened since."""

    day: date
    at_us: int
    """When it was committed."""
    is_loaded_since: bool
    """Events that it read were loaded later."""
    is_live_since: bool
    """Events that it read came over the log later."""
    is_meant_otherwise: bool
    """It lacks one of the definitions that were asked for. Never of a build that has none on record."""

    @property
    def holds(self) -> bool:
        """Whether it would be the same if it was made again."""
        return not (self.is_loaded_since or self.is_live_since or self.is_meant_otherwise)


def newest_build_states(
    cursor: duckdb.DuckDBPyConnection, asked: Mapping[str, tuple[str, Sequence[str]]]
) -> dict[str, list[Build]]:
    """Table -> the newest build of every day, in order; `asked`: table -> whose events it reads, its definitions.

    One query for all of them, because each reads the books from their beginning.
    """
    import pyarrow as pa

    tables = pa.table(
        {
            "table_name": list(asked),
            "source": [source for source, _ in asked.values()],
            "wanted": pa.array([list(meanings) for _, meanings in asked.values()], pa.list_(pa.string())),
        }
    )
    found: dict[str, list[Build]] = {table: [] for table in asked}
    with relation(cursor, tables) as listed:
        rows = cursor.execute(_STATES.format(asked=listed)).fetchall()
    for table, *build in rows:
        found[table].append(Build(*build))
    return found


def newest_builds(cursor: duckdb.DuckDBPyConnection, table: str, *, at: str = "") -> dict[date, int]:
    """Days of `table` that were ever built, from whatever state of the events -> the snapshot of the newest build."""
    of_table = is_of("table_name", "$table")
    sql = f"SELECT day, max(snapshot) FROM builds {at} WHERE {of_table} GROUP BY day ORDER BY day"
    return dict(cursor.execute(sql, {"table": table}).fetchall())


def last_built_us(cursor: duckdb.DuckDBPyConnection, table: str) -> int | None:
    """When a day of `table` was built last."""
    sql = f"SELECT max(at_us) FROM builds WHERE {is_of('table_name', '$table')}"
    row = cursor.execute(sql, {"table": table}).fetchone()
    return None if row is None else row[0]


def completed_days(cursor: duckdb.DuckDBPyConnection, table: str) -> list[date]:
    """Days of `table` that were built once they were over, whatever has come since."""
    of_table = is_of("table_name", "$table")
    sql = f"SELECT day FROM builds WHERE {of_table} GROUP BY day HAVING max(at_us) >= epoch_us(day + 1) ORDER BY day"
    return [row[0] for row in cursor.execute(sql, {"table": table}).fetchall()]


def built_columns(cursor: duckdb.DuckDBPyConnection, table: str, versions: Sequence[int]) -> dict[int, frozenset[str]]:
    """Snapshot of a build of `table` -> the columns that its rows have; of those of `versions` of which it was noted."""
    of_table = is_of("table_name", "$table")
    sql = f"SELECT DISTINCT snapshot, built_columns FROM builds WHERE {of_table} AND list_contains($versions, snapshot)"
    rows = cursor.execute(sql, {"table": table, "versions": list(versions)}).fetchall()
    return {version: frozenset(columns) for version, columns in rows if columns is not None}


def committed_days(cursor: duckdb.DuckDBPyConnection, source: str, *, at: str = "") -> Days:
    """Days that commits have touched."""
    rows = cursor.execute(
        f"""SELECT kind, list_sort(list_distinct(flatten(list(days)))), sum(rows)::BIGINT FROM commits {at}
        WHERE {is_of("source", "?")} GROUP BY kind""",
        [source],
    ).fetchall()
    days: dict[str, list[date]] = {kind: found for kind, found, _ in rows}
    return Days(days.get("loaded", []), days.get("live", []), sum(count for *_, count in rows))


def loads_since(cursor: duckdb.DuckDBPyConnection, source: str, snapshot: int) -> dict[date, int]:
    """Days of a source that were loaded after a snapshot -> the snapshot of the newest load of each."""
    rows = cursor.execute(
        f"""SELECT day, max(snapshot) FROM (SELECT snapshot, unnest(days) AS day FROM commits
        WHERE {is_of("source", "?")} AND {is_of("kind", "'loaded'")} AND snapshot > ?) GROUP BY day""",
        [source, snapshot],
    ).fetchall()
    return dict(rows)


def live_rows_since(cursor: duckdb.DuckDBPyConnection, source: str, since_us: int) -> int:
    """How many events of a source were committed from its log since a time."""
    row = cursor.execute(
        f"""SELECT coalesce(sum(rows), 0)::BIGINT FROM commits
        WHERE {is_of("source", "?")} AND {is_of("kind", "'live'")} AND at_us >= ?""",
        [source, since_us],
    ).fetchone()
    return int(row[0]) if row else 0
