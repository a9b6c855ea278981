"""The book of commits: which days of a source's events came when, by loading or over the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from feature_store.lake.connection import at_version
from feature_store.lake.tables import Columns, is_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    import duckdb

    from feature_store.lake.session import Transaction

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


class Days(NamedTuple):
    """The days of a source for which the lake was given events, in order."""

    loaded: list[date]
    """Days that were loaded, also those that turned out empty."""
    live: list[date]
    """Days that received live events."""
    events: int
    """How many came in all; those of a day that was loaded again more than once."""
    has_streamed: bool = False
    """Whether anything came over the log, also records alone that were rejected."""

    @property
    def known(self) -> list[date]:
        """Both."""
        return sorted({*self.loaded, *self.live})


NO_DAYS = Days([], [], 0)
"""Of a source without a commit."""


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


def committed_days(cursor: duckdb.DuckDBPyConnection, source: str) -> Days:
    """Days that commits have touched."""
    return _committed(cursor, "commits", where=is_of("source", "?"), values=[source]).get(source, NO_DAYS)


def all_committed_days(cursor: duckdb.DuckDBPyConnection, *, snapshot: int) -> dict[str, Days]:
    """Source -> days that commits had touched as of a snapshot. The book is read from its beginning, for one as for all."""
    return _committed(cursor, f"commits {at_version(snapshot)}", where="TRUE", values=[])


def _committed(
    cursor: duckdb.DuckDBPyConnection, book: str, *, where: str, values: Sequence[object]
) -> dict[str, Days]:
    rows = cursor.execute(
        f"""SELECT source, kind, list_sort(list_distinct(flatten(list(days)))), sum(rows)::BIGINT FROM {book}
        WHERE {where} GROUP BY source, kind""",
        values,
    ).fetchall()
    found: dict[str, Days] = {}
    for source, kind, days, count in rows:
        before = found.get(source, NO_DAYS)
        streamed = before.has_streamed or kind == "live"
        found[source] = before._replace(**{kind: days}, events=before.events + count, has_streamed=streamed)
    return found


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
