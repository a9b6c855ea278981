"""The book of publications: which rows of batch views readers were given, and since when."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from feature_store.lake.connection import at_version
from feature_store.lake.tables import Columns, is_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feature_store.lake.session import Session, Transaction

PUBLISHED = "publications"
"""Table: two rows per publication, one noted before it and one behind it."""
PUBLICATIONS: Columns = {
    "snapshot": "BIGINT",  # the snapshot that noted its begin; it names the publication
    "table_name": "VARCHAR",
    "row_us": "BIGINT",
    "row_version": "BIGINT",
    "begun_us": "BIGINT",
    "at_us": "BIGINT",  # when Redis had acknowledged it; null in the row of its begin
}


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


class Publications:
    """The book."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @contextmanager
    def recorded(self, table: str, *, row_us: int, version: int) -> Iterator[None]:
        """Note that readers are given rows, which the body does.

        The begin is on record before the body runs, so nothing is published that the lake does not know of: a body that
        is cut off leaves a publication that nobody has acknowledged.

        Args:
            table: `rows_<view>_v<n>`.
            row_us: the time of the rows.
            version: their `row_version`.

        Raises:
            LakeError: the lake cannot be written. Before the body: nothing was published.
        """
        session, clock = self._session, self._session.clock

        def begin(transaction: Transaction) -> list[object]:
            begun = [transaction.snapshot, table, row_us, version, clock.now_us()]
            _insert(transaction, [*begun, None])
            return begun

        begun = session.commit(begin)
        yield
        at_us = clock.now_us()
        session.commit(lambda transaction: _insert(transaction, [*begun, at_us]))

    def of(self, table: str, *, snapshot: int | None = None) -> list[Publication]:
        """What was published of a table of rows, in the order in which readers saw it; now or at a snapshot."""
        if not self._session.exists(PUBLISHED, snapshot=snapshot):
            return []  # a lake, or a snapshot, from before this was noted
        with self._session.reading() as cursor:
            rows = cursor.execute(
                f"""SELECT snapshot, row_us, row_version, coalesce(max(at_us), begun_us) AS since_us, count(at_us) > 0
                FROM {PUBLISHED} {at_version(snapshot)} WHERE {is_of("table_name", "$table")}
                GROUP BY snapshot, row_us, row_version, begun_us ORDER BY since_us, snapshot""",
                {"table": table},
            ).fetchall()
        return [Publication(*row) for row in rows]


def _insert(transaction: Transaction, values: list[object]) -> None:
    transaction.cursor.execute(f"INSERT INTO {PUBLISHED} VALUES (?, ?, ?, ?, ?, ?)", values)
