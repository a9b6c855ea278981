"""What a loader hands over: rows in parts of bounded size, each row with the place it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 250_000
"""Rows handled at once."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record of a file that is no row: why, with its path and line, and its text."""

    reason: str
    text: str


def _nowhere(rows: Sequence[int]) -> Mapping[int, str]:
    del rows
    return {}


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows that a loader found."""

    rows: pa.Table
    place: Callable[[Sequence[int]], Mapping[int, str]] = field(default=_nowhere, kw_only=True)
    """Row numbers -> `path, line n`; asked for rows that do not fit only, because finding out may take a second look."""
    faults: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    """Row number -> why the row cannot be an event, whatever the schema says."""
    unreadable: Sequence[Unreadable] = field(default=(), kw_only=True)


def gathered(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.Table]:
    """The batches as tables, neighbours of one schema together until there are `PART_ROWS` rows.

    Raises:
        InputError: something is neither a table nor a record batch.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for batch in batches:
        if not isinstance(batch, pa.RecordBatch | pa.Table):
            raise InputError(
                f"`load` must return or yield pyarrow Tables or RecordBatches, got a {type(batch).__name__}"
            )
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        if waiting and (
            not table.schema.equals(waiting[0].schema) or sum(t.num_rows for t in waiting) + len(table) > PART_ROWS
        ):
            yield pa.concat_tables(waiting)
            waiting = []
        waiting.append(table)
    if waiting:
        yield pa.concat_tables(waiting)
