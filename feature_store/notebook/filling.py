"""Events of a sample, copied into memory: from a lake that is only read, or loaded where the lake cannot give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.history.loading import load
from feature_store.lake import Lake
from feature_store.lake.memory import Books, MemoryLake
from feature_store.lake.tables import arrow_columns
from feature_store.notebook.sample import Sample, show_time
from feature_store.time_rule import DAY_US, from_us, to_us
from feature_store.transforms.project import DAY, SYSTEM_TYPES, TIME

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource
    from feature_store.transforms.compiled import Compiled

MOST_EVENTS = 5_000_000
"""Unless a share is given, it is such that about so many events are copied at most."""

Span = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a source's events come from."""

    source: EventSource
    lake: Lake
    snapshot: int
    note: str = ""
    """Empty for the deployment's lake; otherwise why they were loaded apart, and what became of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was copied of a source."""

    source: str
    events: int
    first_us: int | None
    last_us: int | None
    note: str


def unfit(lake: Lake, source: EventSource, compiled: Compiled) -> str:
    """Why a lake cannot give a source's events with the columns that are declared; empty if it can."""
    name = source.name
    if not lake.has_source(name):
        return "it is not in the lake"
    there = lake.columns(f"events_{name}_live")
    for column, kind in arrow_columns(compiled.schemas[name]).items():
        if there.get(column) != kind:
            return f"its column '{column}' is {kind}, in the lake {there.get(column, 'missing')}"
    return "" if lake.days(name).known else "the lake has no events of it"


def loaded_apart(folder: Path, source: EventSource, compiled: Compiled, sample: Sample, *, why: str) -> Origin:
    """A source's history in a lake of its own below a folder: the days that the sample can need.

    Raises:
        InputError: it has no loader, or the sample has no span.
    """
    if source.load is None:
        raise InputError(f"source '{source.name}' has no `load=`, and {why}")
    if sample.start_us is None or sample.end_us is None:
        raise InputError(f"source '{source.name}' has to be loaded, because {why}: give `start` and `end`")
    first_us, last_us = sample.span_of(compiled, source.name)
    if first_us is None:
        first = source.history_start
        first_us = sample.start_us if first is None else to_us(datetime(first.year, first.month, first.day, tzinfo=UTC))
    start_us, end_us = first_us // DAY_US * DAY_US, -(-(last_us or sample.end_us) // DAY_US) * DAY_US
    lake = Lake.open(folder / source.name)
    try:
        done = load(compiled, lake, source.name, start=from_us(start_us), end=from_us(end_us))
    except BaseException:
        lake.close()
        raise
    counts = {"rejected": done.rejected, "duplicates": done.duplicates, "conflicts": done.conflicts}
    said = [f"{name}: {count:,}" for name, count in counts.items() if count]
    note = "; ".join([f"loaded from {show_time(start_us)} on, because {why}", *said])
    return Origin(source=source, lake=lake, snapshot=done.snapshot, note=note)


def share_for(origins: Sequence[Origin], compiled: Compiled, sample: Sample) -> float:
    """The share of the entities with which about `MOST_EVENTS` events are copied at most; two digits."""
    total = 0
    for origin in origins:
        days = _days(sample.span_of(compiled, origin.source.name))
        with origin.lake.cursor() as cursor:
            for kind in ("loaded", "live"):
                table = origin.lake.table_sql(f"events_{origin.source.name}_{kind}")
                row = cursor.execute(f"SELECT count(*) FROM {table} WHERE {DAY} BETWEEN ? AND ?", days).fetchone()
                total += int(row[0]) if row else 0
    return 1.0 if total <= MOST_EVENTS else float(f"{MOST_EVENTS / total:.2g}")


def copied(memory: MemoryLake, origin: Origin, compiled: Compiled, sample: Sample) -> Filled:
    """Copy the sample's events of a source."""
    name, lake, snapshot = origin.source.name, origin.lake, origin.snapshot
    span = sample.span_of(compiled, name)
    columns = ", ".join(f'"{each}"' for each in [*compiled.schemas[name].names, *SYSTEM_TYPES])
    with lake.reading() as cursor:
        events = lake.events_sql(
            name,
            snapshot=snapshot,
            days=_days(span),
            where=f"({_within(span)}) AND ({sample.events_sql(compiled, name)})",
        )
        table = cursor.execute(f"SELECT {columns} FROM ({events})").to_arrow_table()
    books = Books(
        kept_from=lake.retention.kept_from(name, snapshot=snapshot),
        days=lake.days(name),
        newest_arrival_us=lake.newest_arrival_us(name),
        positions=lake.positions(name, snapshot=snapshot),
    )
    memory.copy(name, table, books)
    with memory.cursor() as cursor:
        row = cursor.execute(f"SELECT min({TIME}), max({TIME}) FROM ({memory.events_sql(name)})").fetchone()
    first_us, last_us = row or (None, None)
    return Filled(source=name, events=table.num_rows, first_us=first_us, last_us=last_us, note=origin.note)


def _days(span: Span) -> tuple[date, date]:
    first_us, last_us = span
    return (
        date.min if first_us is None else from_us(first_us).date(),
        date.max if last_us is None else from_us(last_us).date(),
    )


def _within(span: Span) -> str:
    first_us, last_us = span
    bounds = [f"{TIME} >= {first_us}"] if first_us is not None else []
    bounds += [f"{TIME} < {last_us}"] if last_us is not None else []
    return " AND ".join(bounds) or "TRUE"
