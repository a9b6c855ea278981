"""One look at some days of a source or a view, and at days that say what is usual: what several checks of it share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from functools import cached_property
from typing import Any

import duckdb
from feature_store_deploy.checks.declared import MISSING_RATE, RANGE
from feature_store_deploy.checks.moments import sample_view
from feature_store_deploy.checks.profile import (
    Bounds,
    Columns,
    Counted,
    Usual,
    counted,
    counting,
    usual,
    watched_bounds,
    watched_missing,
)
from feature_store_deploy.checks.samples import (
    Sample,
    columns_of,
    count_events,
    event_columns,
    known_days,
    sample_events,
    spread,
)
from feature_store_deploy.checks.window import Days

from feature_store.declare import EventSource, Feature, FeatureView
from feature_store.declare.check import Check
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us

_GROWING = ("count", "sum", "min", "max", "count_distinct")
"""Over a lifetime these move by design."""
_CURRENT = "looked_at"


class Look(ABC):
    """What checks ask of a source or a view; each answer is found once."""

    def __init__(self, store: FeatureStore, *, days: Days, reference: Days, checks: Mapping[str, Check]) -> None:
        self._store, self.days, self.reference, self._checks = store, days, reference, checks
        self._open = ExitStack()

    @cached_property
    @abstractmethod
    def columns(self) -> Columns:
        """Those that can be asked about."""

    @cached_property
    @abstractmethod
    def current(self) -> Sample:
        """A sample of the days."""

    @cached_property
    @abstractmethod
    def back(self) -> Sample:
        """A sample of the reference."""

    @cached_property
    @abstractmethod
    def relation(self) -> str:
        """SQL of the rows of the days that are counted, for `cursor`."""

    @cached_property
    def unwatched(self) -> Sequence[str]:
        """Columns whose distribution moves by design, or is not comparable with the reference's."""
        return ()

    @property
    def is_personal(self) -> bool:
        """Whether values are nobody's business."""
        return False

    @cached_property
    def usual(self) -> Mapping[str, Usual]:
        """What the reference says of each column."""
        return usual(self.cursor, self.back.table, self.columns) if len(self.back) else {}

    @cached_property
    def usual_bounds(self) -> Mapping[str, Usual]:
        """Of columns whose bounds do not move by design."""
        return {name: found for name, found in self.usual.items() if name not in self.unwatched}

    @cached_property
    def missing(self) -> Sequence[str]:
        """Columns of which the check of missing values says something."""
        check = self._checks.get(MISSING_RATE)
        return [] if check is None else watched_missing(self.columns, self.usual, check)

    @cached_property
    def bounds(self) -> Bounds:
        """What the check of ranges holds columns to."""
        check = self._checks.get(RANGE)
        return {} if check is None else watched_bounds(self.columns, self.usual_bounds, check)

    @cached_property
    def counted(self) -> Mapping[object, Counted]:
        """What both count in the rows of each day."""
        names = dict.fromkeys([*self.missing, *self.bounds])
        return counted(self._said(counting(names, self.bounds)), names, self.bounds) if names else {}

    def _said(self, aggregates: Sequence[str]) -> list[tuple[Any, ...]]:
        """What SQL aggregates say of each day, behind it."""
        listed = ", ".join([DAY, *aggregates])
        return self.cursor.execute(f"SELECT {listed} FROM ({self.relation}) GROUP BY 1").fetchall()

    @cached_property
    @abstractmethod
    def rows(self) -> int:
        """How many rows `relation` has."""

    @cached_property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of the lake that knows `relation`, until the look is closed."""
        return self._open.enter_context(self._store.lake.reading())

    def close(self) -> None:
        """Give the cursor back."""
        self._open.close()


class EventsLook(Look):
    """Events of a source: all of the days are counted, samples are for what needs values."""

    def __init__(
        self, store: FeatureStore, source: EventSource, *, days: Days, reference: Days, checks: Mapping[str, Check]
    ) -> None:
        super().__init__(store, days=days, reference=reference, checks=checks)
        self.source = source

    @property
    def is_personal(self) -> bool:
        return self._store.registry.is_personal(self.source.name)

    @cached_property
    def columns(self) -> Columns:
        return event_columns(self._store, self.source)

    @cached_property
    def current(self) -> Sample:
        return sample_events(self._store, self.source, self.days.each, anew=True)

    @cached_property
    def back(self) -> Sample:
        days = spread(self.reference, known_days(self._store, self.source.name))
        return sample_events(self._store, self.source, days, anew=False)

    @cached_property
    def rows(self) -> int:
        lake = self._store.lake
        return sum(lake.counts(self.source.name, self.days.each, snapshot=lake.snapshot()).values())

    @cached_property
    def relation(self) -> str:
        lake = self._store.lake
        events = lake.events_sql(self.source.name, snapshot=lake.snapshot(), days=(self.days.first, self.days.last))
        return f"SELECT {', '.join(map(quote, [*self.columns.all, DAY]))} FROM ({events})"

    def _said(self, aggregates: Sequence[str]) -> list[tuple[Any, ...]]:
        return count_events(self._store, self.source, self.days.each, aggregates)  # which draws `current` as well


class ViewLook(Look):
    """Features of a view, as they were just before some events of its source."""

    relation = f"SELECT * FROM {_CURRENT}"

    def __init__(
        self, store: FeatureStore, view: FeatureView, *, days: Days, reference: Days, checks: Mapping[str, Check]
    ) -> None:
        super().__init__(store, days=days, reference=reference, checks=checks)
        self._view = view

    @property
    def is_personal(self) -> bool:
        return self._view.is_personal

    @cached_property
    def columns(self) -> Columns:
        return columns_of(self.current.table.drop_columns([DAY]).schema)

    @cached_property
    def current(self) -> Sample:
        return sample_view(self._store, self._view, self.days.each, anew=True)

    @cached_property
    def back(self) -> Sample:
        days = spread(self.reference, known_days(self._store, self._view.source.name))
        return sample_view(self._store, self._view, days, anew=False)

    @cached_property
    def rows(self) -> int:
        return len(self.current)

    @cached_property
    def unwatched(self) -> Sequence[str]:
        known = known_days(self._store, self._view.source.name)
        begun_us, span = begun(known), known_span(self.reference, known)
        return [each.name for each in self._view.declared if is_moving(each, begun_us, span)]

    @cached_property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        current = self.current.table  # drawn before a transaction begins, which would not see what drawing has made
        cursor = super().cursor
        cursor.register(_CURRENT, current)
        return cursor


def begun(known: Sequence[date]) -> int:
    """When the history of a source begins of which these days are known."""
    return to_us(Days(first=known[0], last=known[0]).start) if known else 0


def known_span(reference: Days, known: Sequence[date]) -> tuple[int, int]:
    """When a reference begins and ends, of whose days only some are known: a young history has none of the first ones."""
    return max(to_us(reference.start), begun(known)), to_us(reference.end)


def is_moving(feature: Feature, begun_us: int, reference_us: tuple[int, int]) -> bool:
    """Whether a feature has another distribution by design: it counts for ever, or its windows were being filled.

    Args:
        feature: of a view.
        begun_us: when history begins.
        reference_us: when the rows of the reference begin and end; a window may be filled within the first quarter of that.
    """
    if feature.window_us is None:
        return feature.aggregate in _GROWING
    first, last = reference_us
    return begun_us + feature.window_us + feature.hop_us > first + (last - first) // 4
