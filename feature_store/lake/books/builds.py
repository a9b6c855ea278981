"""The book of builds: which days of a table of tiles or rows were built, from which events, and whether that still holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from feature_store.lake.connection import at_version
from feature_store.lake.session import current_snapshot
from feature_store.lake.tables import Columns, is_of, relation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import duckdb

    from feature_store.lake.session import Session, Transaction

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

# The books are read whole (see `is_of`): what they are joined with stands apart from them.
_STATES = """
    WITH latest AS MATERIALIZED (
        SELECT table_name, day, snapshot, first_day, built_from, at_us, meanings FROM builds
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
    SELECT table_name, day, snapshot, coalesce(at_us, 0), coalesce(list_contains(kinds, 'loaded'), FALSE),
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
_OF_TABLE = is_of("table_name", "$table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What days of a table are built from."""

    source: str | None = None
    """Whose events were read."""
    built_from: int | None = None
    """The snapshot at which they were read."""
    lookback_days: int = 0
    """How many days before its own each day read."""
    meanings: Sequence[str] | None = None
    """By which definitions the days are built; None: not noted."""


NOT_NOTED = Provenance()
"""Of days that no event can make stale."""


class Build(NamedTuple):
    """The newest build of a day, and what has happened since."""

    day: date
    snapshot: int
    """That its commit made."""
    at_us: int
    """When it was committed."""
    is_loaded_since: bool
    """Events that it read were loaded later."""
    is_live_since: bool
    """Events that it read came over the log later."""
    is_meant_otherwise: bool
    """It lacks one of the definitions that were asked for. Never of a build that has none on record."""

    @property
    def name(self) -> str:
        """Of this build of a day, and of no other: snapshots are numbered again where a lake is restored."""
        return f"{self.snapshot}_{self.at_us}"

    @property
    def holds(self) -> bool:
        """Whether it would be the same if it was made again."""
        return not (self.is_loaded_since or self.is_live_since or self.is_meant_otherwise)


class Builds:
    """The book, for reading; it is written with the days themselves (`record_builds`)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def stale_days(self, table: str, *, source: str, snapshot: int | None = None) -> list[date]:
        """Days built from an older state of the source's events: a later commit touched what they read.

        As of now, or as of a snapshot.
        """
        return self._days(table, source=source, snapshot=snapshot, which=_TOUCHED)

    def fresh_days(self, table: str, *, source: str, snapshot: int | None = None) -> list[date]:
        """Days whose build still holds, now or at a snapshot."""
        return self._days(table, source=source, snapshot=snapshot, which=f"NOT {_TOUCHED}")

    def _days(self, table: str, *, source: str, snapshot: int | None, which: str) -> list[date]:
        sql = f"SELECT day FROM ({_LATEST_BUILDS}) AS b WHERE {which} ORDER BY day".format(
            at=at_version(snapshot), of_table=_OF_TABLE, of_source=is_of("source", "$source")
        )
        return [row[0] for row in self._rows(sql, {"table": table, "source": source})]

    def newest(self, table: str, *, snapshot: int | None = None) -> dict[date, int]:
        """Days that were ever built, from whatever state of the events, in order -> the newest build's snapshot.

        As of now, or as of a snapshot. Of a table with row versions the snapshot is the day's `row_version`.
        """
        books = f"builds {at_version(snapshot)}"
        sql = f"SELECT day, max(snapshot) FROM {books} WHERE {_OF_TABLE} GROUP BY day ORDER BY day"
        return dict(self._rows(sql, {"table": table}))

    def states(self, asked: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, list[Build]]:
        """Of each table the newest build of every day, in order: when it was, and whether it still holds.

        One query for all of them, because each reads the books from their beginning.

        Args:
            asked: table of tiles or rows -> the source whose events it reads, and the definitions that a build must
                have been made by.
        """
        with self._session.reading() as cursor:
            return _states(cursor, asked)

    def held(self, asked: Mapping[str, tuple[str, Sequence[str]]], *, snapshot: int) -> dict[str, dict[date, str]]:
        """Of each table the days whose build holds, in order, and its name: of these definitions, and from all events that a snapshot has.

        None of a snapshot that is not the newest any more, for which the books do not say it.

        Args:
            asked: as for `states`.
            snapshot: as of which the tables are read.
        """

        def find() -> dict[str, dict[date, str]]:
            with self._session.reading() as cursor:
                if current_snapshot(cursor) != snapshot:
                    return {table: {} for table in asked}
                states = _states(cursor, asked)
            return {table: {b.day: b.name for b in builds if b.holds} for table, builds in states.items()}

        return self._session.remembered(("builds", snapshot, repr(asked)), find)

    def last_us(self, table: str) -> int | None:
        """When a day of a table was built last; None if none was since it was dropped."""
        rows = self._rows(f"SELECT max(at_us) FROM builds WHERE {_OF_TABLE}", {"table": table})
        at_us: int | None = rows[0][0]
        return at_us

    def completed_days(self, table: str) -> list[date]:
        """Days that were built once they were over, whatever has come since, in order."""
        over = "GROUP BY day HAVING max(at_us) >= epoch_us(day + 1)"
        rows = self._rows(f"SELECT day FROM builds WHERE {_OF_TABLE} {over} ORDER BY day", {"table": table})
        return [row[0] for row in rows]

    def columns(self, table: str, versions: Sequence[int]) -> dict[int, frozenset[str]]:
        """Row version of a table -> the columns that its rows were built with, which the table may be wider than by now.

        Versions that were built before this was noted are left out.
        """
        sql = f"SELECT DISTINCT snapshot, built_columns FROM builds WHERE {_OF_TABLE} AND list_contains($versions, snapshot)"
        rows = self._rows(sql, {"table": table, "versions": list(versions)})
        return {version: frozenset(columns) for version, columns in rows if columns is not None}

    def _rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        with self._session.reading() as cursor:
            return cursor.execute(sql, values).fetchall()


def _states(
    cursor: duckdb.DuckDBPyConnection, asked: Mapping[str, tuple[str, Sequence[str]]]
) -> dict[str, list[Build]]:
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


def record_builds(
    transaction: Transaction,
    table: str,
    *,
    days: Sequence[date],
    columns: Sequence[str],
    provenance: Provenance,
    at_us: int,
) -> None:
    """Note that `days` of `table` were built, with these columns."""
    noted = None if provenance.meanings is None else list(provenance.meanings)
    transaction.cursor.execute(
        "INSERT INTO builds SELECT ?, ?, day, day - ?::INTEGER, ?, ?, ?, ?, ?::VARCHAR[] FROM (SELECT unnest(?::DATE[]) AS day)",
        [
            transaction.snapshot,
            table,
            provenance.lookback_days,
            provenance.source,
            provenance.built_from,
            at_us,
            list(columns),
            noted,
            list(days),
        ],
    )
