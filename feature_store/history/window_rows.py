"""The rows that windows at the rows of a spine are computed from: events, or tiles of past days and the events since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.history.day_tiles import CODE, DayTiles
from feature_store.history.kept import start_us
from feature_store.history.past_tiles import PastTiles, past_tiles
from feature_store.history.reading import ENTITIES, LakeReading, days_of, time_filter
from feature_store.history.served import ASSUMED, KNOWN, known_columns, known_names
from feature_store.lake.days import in_days
from feature_store.time_rule import DAY_US
from feature_store.transforms.project import ARRIVED, EVENTS, HOP, ID, KEY, TILE, TIME, project_sql, tile_sql
from feature_store.transforms.rowset import Merge

if TYPE_CHECKING:
    from feature_store.history.spine import SpineKeys
    from feature_store.history.visibility import Visibility
    from feature_store.history.workers import Workers
    from feature_store.transforms.catalogue import Ints
    from feature_store.transforms.plan import ViewPlan

IS_LATE = "_is_late"
_DAY_TILES = "day_tiles"

_PICKS = (Merge.FIRST, Merge.LAST, Merge.LAST_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """That values are as they were served, and what commit records say about that."""

    visibility: Visibility | None
    """None: nothing."""

    @property
    def is_measured(self) -> bool:
        """Whether there are commit records."""
        return self.visibility is not None


class EventRows:
    """The events of the spine's entities, numbered as these are, in the span of time that can matter."""

    def __init__(
        self, plan: ViewPlan, reading: LakeReading, times: Ints, *, keys: SpineKeys, known: Known | None
    ) -> None:
        self.plan, self.reading, self.known, self._keys, self._times = plan, reading, known, keys, times
        self.first_us, self.last_us = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        self._span = plan.view.longest_window_us
        self._days = days_of(self._span, self.first_us, self.last_us)
        reading.ask(keys)

    @property
    def name(self) -> str:
        """What the rows depend on beside the entities."""
        return f"{self.plan.view.id} {self.first_us} {self.last_us}"

    @property
    def query(self) -> str:
        """SQL for the rows of partials, each with its entity's number as its key."""
        return f"SELECT {', '.join(self._columns)} FROM ({self._projected(time_filter(self._span, self.first_us, self.last_us), self._days)})"

    def _projected(self, where: str, days: Sequence[date]) -> str:
        view = self.plan.view
        events = self.reading.events_sql(view.source.name, days=(days[0], days[-1]), where=where)
        on = " AND ".join(f'e."{name}" = k."{name}"' for name in view.entity.join_keys) or "TRUE"
        numbered = f"SELECT e.*, k.{CODE} FROM ({events}) AS e JOIN {ENTITIES} AS k ON {on}"
        known = [] if self.known is None else known_columns(measured=self.known.is_measured)
        return project_sql(replace(self.plan, key_sql=CODE), numbered, extra=known)

    @property
    def _columns(self) -> list[str]:
        return [KEY, TIME, *(column.name for column in self.plan.columns), *self._known_names, *self._tie]

    @property
    def _known_names(self) -> list[str]:
        return [] if self.known is None else known_names(measured=self.known.is_measured)

    @property
    def order(self) -> str:
        """What sorts the rows by (entity, time, event id)."""
        length = None if self._span is None else self.last_us - self.first_us + self._span
        if length is None or len(self._keys) * length >= 1 << 62:
            return ", ".join([KEY, TIME, *self._tie])
        # One number sorts in two thirds of the time of a pair.
        return ", ".join([f"{KEY} * {length} + ({TIME} - ({self.last_us - length}))", *self._tie])

    @property
    def _tie(self) -> list[str]:
        """The event id, only where a feature depends on the order of ties."""
        return [ID] if any(column.merge in _PICKS for column in self.plan.columns) else []

    def by_hop(self) -> list[TileRows]:
        """The same rows for the features of each hop, past days as their tiles; none where tiles cannot stand for events."""
        if not self.reading.has_tiles or self.reading.remembers(self.name, self._keys.entities):
            return []
        past = past_tiles(
            self.plan,
            self.reading,
            first_us=self.first_us,
            last_us=self.last_us,
            served=self.known is not None,
            measured=self.known is not None and self.known.is_measured,
        )
        if past is None:
            return []
        events = self._untiled(past)
        return [
            TileRows(
                self.plan,
                self.reading,
                self._times,
                keys=self._keys,
                known=self.known,
                past=past,
                events=events,
                hop_us=hop,
            )
            for hop in self.plan.hops_us
        ]

    def _untiled(self, past: PastTiles) -> str:
        """SQL for the events of the spine's entities for which no tile stands, of all hops; `_is_late`: they are in a tile as well."""
        within = time_filter(self._span, self.first_us, self.last_us)
        parts = [(past.rest, "TRUE"), (past.late, f"{ARRIVED} > {self.first_us}")]
        return " UNION ALL ".join(
            f"SELECT {', '.join(self._columns)}, 1::BIGINT AS {EVENTS}, {days is past.late} AS {IS_LATE} "
            f"FROM ({self._projected(f'{within} AND {in_days(days)} AND {where}', days or self._days)})"
            for days, where in parts
            if days or days is past.rest
        )

    def buckets(self, workers: Workers) -> int:
        """How many buckets these events make."""
        source = self.plan.view.source.name
        if self.reading.has_at_most(workers.bucket_events, source, self._days):
            return 1
        return workers.buckets(self.reading.at_most(source, self._days))

    def rows(self) -> pa.Table:
        """All rows, sorted."""
        return self.reading.rows(
            f"{self.query} ORDER BY {self.order}", self._keys.entities, name=self.name, columns=self._columns
        )


class TileRows(EventRows):
    """What the features of one hop are computed from: tiles of past days, and the events of the others, each a tile of its own."""

    def __init__(
        self,
        plan: ViewPlan,
        reading: LakeReading,
        times: Ints,
        *,
        keys: SpineKeys,
        known: Known | None,
        past: PastTiles,
        events: str,
        hop_us: int,
    ) -> None:
        features, columns = plan.at_hop(hop_us), plan.columns_at(hop_us)
        super().__init__(replace(plan, features=features, columns=columns), reading, times, keys=keys, known=known)
        spans = [feature.feature.window_us for feature in features]
        self._span = None if None in spans else max(span for span in spans if span is not None) + hop_us
        first, _ = days_of(self._span, self.first_us, self.last_us)
        self._past, self._events, self._hop_us = past, events, hop_us
        tiled = {day: build for day, build in past.days.items() if first <= day}
        self._found = self._day_tiles(plan)
        self._whole = {day: build for day, build in tiled.items() if self._found and self._is_whole(day)}
        self._tiled = [day for day in tiled if day not in self._whole]

    def _day_tiles(self, plan: ViewPlan) -> DayTiles | None:
        """Where whole days are found, if a tile of a day has all that these features need."""
        daily = plan.columns_at(DAY_US)
        if DAY_US not in plan.hops_us or DAY_US % self._hop_us or not {*self.plan.columns} <= {*daily}:
            return None
        columns = [EVENTS, *(column.name for column in daily)]
        return self.reading.day_tiles(self._past.table, columns, days=len(self._past.days))

    def _is_whole(self, day: date) -> bool:
        """Whether a day is in each window as a whole or not at all."""
        start, spans = start_us(day), [feature.feature.window_us for feature in self.plan.features]
        return self._hop_us == DAY_US or all(
            span is None or self.last_us - span <= start or start + DAY_US <= self.first_us - span for span in spans
        )

    @property
    def name(self) -> str:
        return f"{self.plan.view.id} {self.first_us} {self.last_us} {self._hop_us}"

    @property
    def query(self) -> str:
        names = ", ".join(self._columns)
        since = f"FROM untiled WHERE {time_filter(self._span, self.first_us, self.last_us)}"
        parts = [f"SELECT {names} {since}"]
        parts += [self._as_rows(_DAY_TILES)] if self._whole else []
        parts += [self._as_rows(self._tiles)] if self._tiled else []
        if self._past.late:
            # An event that was known later is taken out of its tile, and stands for itself.
            parts.append(f"SELECT {', '.join(self._taken_out)} {since} AND {IS_LATE}")
        return f"SELECT * FROM ({' UNION ALL '.join(parts)})"

    def rows(self) -> pa.Table:
        if not self.reading.remembers(self.name, self._keys.entities):
            self.reading.keep("untiled", self._events, self._keys.entities)
            if self._found and self._whole:
                found = self._found.of(self.reading.cursor, self._whole, self._keys, entities=ENTITIES)
                self.reading.cursor.register(_DAY_TILES, found)
        return super().rows()

    @property
    def _taken_out(self) -> list[str]:
        tile = tile_sql(self._hop_us)
        partials = [f"-{column.name}" for column in self.plan.columns]
        return [KEY, f"{tile} AS {TIME}", f"-{EVENTS}", *partials, f"{tile} AS {KNOWN}", ASSUMED]

    @property
    def _tiles(self) -> str:
        chosen = f"{in_days(self._tiled)} AND {HOP} = {self._hop_us} AND {self._since}"
        tiles = f"SELECT * FROM {self.reading.table_sql(self._past.table)} WHERE {chosen}"
        return f"(SELECT t.*, k.{CODE} FROM ({tiles}) AS t JOIN {ENTITIES} AS k USING ({KEY}))"

    def _as_rows(self, tiles: str) -> str:
        listed = [f"{CODE} AS {KEY}", f"{TILE} AS {TIME}", EVENTS, *(column.name for column in self.plan.columns)]
        if self.known is not None:
            listed += [f"{TILE} AS {KNOWN}", f"{in_days(sorted(self._past.assumed))} AS {ASSUMED}"]
        return f"SELECT {', '.join(listed)} FROM {tiles} WHERE {self._since}"

    @property
    def _since(self) -> str:
        return "TRUE" if self._span is None else f"{TILE} >= {self.first_us - self._span}"

    @property
    def _columns(self) -> list[str]:
        return [KEY, TIME, EVENTS, *(column.name for column in self.plan.columns), *self._known_names]
