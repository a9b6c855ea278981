"""Which books every lake has, and making them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.lake.books.builds import BUILDS
from feature_store.lake.books.commits import COMMITS
from feature_store.lake.books.late import LATE, LATE_EVENTS
from feature_store.lake.books.publications import PUBLICATIONS, PUBLISHED
from feature_store.lake.books.rejected import REJECTED
from feature_store.lake.connection import CATALOG, literal
from feature_store.lake.tables import Columns, ensure_table, is_current, table_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from feature_store.lake.session import Session, Transaction

_INLINE = "data_inlining_row_limit"
_INLINE_ROWS = 1000

POSITIONS: Columns = {"source": "VARCHAR", "partition": "INTEGER", "position": "BIGINT", "owner": "VARCHAR"}
_BOOKS = {
    "commits": COMMITS,
    "positions": POSITIONS,
    "builds": BUILDS,
    PUBLISHED: PUBLICATIONS,
    LATE_EVENTS: LATE,
    "rejected_events": REJECTED,
}
_INLINED = ("commits", "positions", "builds", PUBLISHED, LATE_EVENTS)


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
