"""History into the lake: a source's loader, its rows checked, whole days replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.duck import literal
from feature_store.errors import InputError
from feature_store.history.conform import Conformed, conform, unreadable_rows
from feature_store.loaders import DatabaseLoader, FileLoader, Part
from feature_store.loaders.part import gathered
from feature_store.time_rule import to_us
from feature_store.transforms.project import ARRIVED, LATE, TIME, late_marks

if TYPE_CHECKING:
    from pathlib import Path

    from feature_store.declare.source import EventSource
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

BATCH_DAYS = 31
"""Days read and written at once: what a failure loses."""
HELD_ROWS = 1_000_000
"""Rows held in memory; what is more waits in files until its days are complete."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoadResult:
    """What a load did."""

    rows: int
    rejected: int
    """Rows that are no events; they stand in `rejected_events` with their reasons."""
    duplicates: int
    """Repeated rows, of which one was kept."""
    conflicts: int
    """Rows whose event id another row has with another payload."""
    snapshot: int
    days: tuple[date, ...]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in ("rows", "rejected", "duplicates", "conflicts"))
        return f"LoadResult({counts}, {self.days[0]} to {self.days[-1]}, snapshot={self.snapshot})"


def load(
    compiled: Compiled, lake: Lake, source: str, *, start: datetime, end: datetime, batch_days: int = BATCH_DAYS
) -> LoadResult:
    """Replace the loaded events of the whole days in [start, end) by what the source's loader returns.

    Days are written in batches, each whole or not at all. Loading a range again gives the same rows.

    Raises:
        UnknownNameError: no such source.
        InputError: the source has no loader, the range is not whole UTC days, its retention has removed days of it, or
            the loader's rows do not fit.
    """
    declared, schema = compiled.registry.source(source), compiled.schemas[source]
    if declared.load is None:
        raise InputError(f"source '{source}' has no `load=`, so it has no history to load")
    days = whole_days(start, end)
    lake.ensure_source(source, schema)
    _refuse_removed(lake, source, days)
    results = [
        _load_days(
            lake,
            declared,
            schema,
            days[first : first + batch_days],
            lateness_us=compiled.lateness_us(source),
            is_first=first == 0,
        )
        for first in range(0, len(days), batch_days)
    ]
    return LoadResult(
        rows=sum(result.rows for result in results),
        rejected=sum(result.rejected for result in results),
        duplicates=sum(result.duplicates for result in results),
        conflicts=sum(result.conflicts for result in results),
        snapshot=results[-1].snapshot,
        days=tuple(days),
    )


def _refuse_removed(lake: Lake, source: str, days: list[date]) -> None:
    kept = lake.retention.kept_from(source)
    if kept is not None and days[0] < kept:
        raise InputError(
            f"source '{source}' cannot be loaded for {days[0]}: its retention has removed the events before {kept}, those "
            f"that came over the log with them; load from {kept} on"
        )


def whole_days(start: datetime, end: datetime) -> list[date]:
    """The UTC days of [start, end).

    Raises:
        InputError: a bound is naive or no midnight UTC, or there is no day between them.
    """
    for name, moment in (("start", start), ("end", end)):
        if moment.tzinfo is None:
            raise InputError(f"`{name}` must carry a time zone, got the naive datetime {moment.isoformat()}")
        if moment.astimezone(UTC).timetz().replace(tzinfo=None).isoformat() != "00:00:00":
            raise InputError(f"`{name}` must be midnight UTC, because whole days are written, got {moment.isoformat()}")
    if start >= end:
        raise InputError(f"`start` must lie before `end`, got {start.isoformat()} and {end.isoformat()}")
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    return [first + timedelta(days=n) for n in range((last - first).days)]


def _load_days(
    lake: Lake,
    source: EventSource,
    schema: pa.Schema,
    days: list[date],
    *,
    lateness_us: int | None,
    is_first: bool,
) -> LoadResult:
    start, end = _midnight(days[0]), _midnight(days[-1] + timedelta(days=1))
    rejected = [unreadable_rows(source, [])]
    with lake.scratch() as folder:
        events = _Waiting(folder)
        for part in _parts(source, start, end):
            conformed = conform(source, part, schema=schema, arrival=_arrival(source))
            events.add(_marked(_within(conformed.events, start, end), lateness_us))
            rejected.append(_of_these_days(conformed, start, end, is_first=is_first))
            if is_first:
                rejected.append(unreadable_rows(source, part.unreadable))
        if events.is_empty:
            events.add(_marked(_nothing(source, schema), lateness_us))
        letters = pa.concat_tables(rejected)
        commit = lake.replace_loaded(
            source.name, events.rows(), days=days, rejected=letters if letters.num_rows else None
        )
    return LoadResult(
        rows=commit.rows,
        rejected=letters.num_rows,
        duplicates=commit.duplicates,
        conflicts=commit.conflicts,
        snapshot=commit.snapshot,
        days=tuple(days),
    )


class _Waiting:
    """Events until all of their days are there: `HELD_ROWS` in memory, the others in files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, 0
        self._held: list[pa.Table] = []

    @property
    def is_empty(self) -> bool:
        return not self._held and not self._files

    def add(self, events: pa.Table) -> None:
        """Take some more."""
        self._held.append(events)
        if sum(table.num_rows for table in self._held) > HELD_ROWS:
            pq.write_table(pa.concat_tables(self._held), self._folder / f"{self._files}.parquet")
            self._files += 1
            self._held = []

    def rows(self) -> pa.Table | str:
        """All of them: a table, or SQL over the files."""
        if not self._files:
            return pa.concat_tables(self._held)
        if self._held:
            pq.write_table(pa.concat_tables(self._held), self._folder / "last.parquet")
        return f"SELECT * FROM read_parquet({literal(str(self._folder / '*.parquet'))})"


def _nothing(source: EventSource, schema: pa.Schema) -> pa.Table:
    return conform(source, schema.empty_table(), schema=schema, arrival=None).events


def _parts(source: EventSource, start: datetime, end: datetime) -> Iterator[Part]:
    """What the loader finds."""
    loader = source.load
    if isinstance(loader, FileLoader):
        yield from loader.parts(event_time=source.event_time, start=start, end=end, timezone=source.timezone)
    elif isinstance(loader, DatabaseLoader):
        yield from loader.parts(start=start, end=end, timezone=source.timezone)
    elif loader is not None:
        try:
            yield from _returned(loader(start, end))
        except InputError as error:
            raise InputError(f"source '{source.name}': {error}") from error


def _returned(rows: object) -> Iterator[Part]:
    """What a user's function returned: a table, or an iterable of tables or batches."""
    if isinstance(rows, pa.Table | pa.RecordBatch) or not isinstance(rows, Iterable):
        yield from map(Part, gathered([rows]))
    else:
        yield from map(Part, gathered(rows))


def _arrival(source: EventSource) -> str | None:
    by_loader = source.load.arrival if isinstance(source.load, FileLoader | DatabaseLoader) else None
    return source.arrival or by_loader


def _within(events: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """A loader may return more than it was asked for: other days are not written now."""
    time = events.column(TIME)
    return events.filter(pc.and_(pc.greater_equal(time, to_us(start)), pc.less(time, to_us(end))))


def _marked(events: pa.Table, lateness_us: int | None) -> pa.Table:
    """The events with the mark of those that some view ignores because they came late."""
    return events.append_column(LATE, late_marks(events.column(TIME), events.column(ARRIVED), lateness_us))


def _of_these_days(conformed: Conformed, start: datetime, end: datetime, *, is_first: bool) -> pa.Table:
    """The rejected rows of the range. A row without a time belongs to no day: the first batch counts it."""
    time = conformed.rejected_us
    within = pc.and_(pc.greater_equal(time, to_us(start)), pc.less(time, to_us(end)))
    return conformed.rejected.filter(pc.fill_null(within, is_first))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
