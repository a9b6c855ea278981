"""How many values late events changed.

A value is of an entity, a feature and an instant. A late event changed it if its window holds the event, the event
arrived after the instant, and the value is another with such events than without them, in status or in one bit. What
arrived by the instant changed nothing: the value had it from the beginning.

Counted is what comes from the day that is built:

- Tiles, of a stream view: the late events of that day, and the values at every later instant at which the same entity
  had an event, on whichever day that lies: the rows that one would train on. Instants after the late events' arrival,
  or after the longest window has left them behind, are not among them.
- Rows, of a batch view: the rows of that day, and the late events in their windows, on whichever day these happened. A
  row that would not be there counts as EMPTY.

A day with more than `MOST_EVENTS` events to look at has the entities compared that have the fewest of them, as many as
that holds; how many stands beside the count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.history.served import ASSUMED, KNOWN, served_values
from feature_store.time_rule import BEGINNING_US, DAY_US, from_us, to_us
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.ordering import run_starts
from feature_store.transforms.project import ARRIVED, ID, KEY, PARTITION, TIME, project_sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from feature_store.lake import Lake
    from feature_store.transforms.catalogue import Ints
    from feature_store.transforms.plan import ViewPlan

MOST_EVENTS = 1_000_000
"""Events of entities with late ones that are looked at for one day of a view."""

DELAY = "_delay_us"
_CODE, _FIRST, _LAST, _LATE = "_code", "_first_us", "_last_us", "_is_late"
_FOUND, _CHOSEN = "found_late", "chosen_entities"
_EVER = date(1, 1, 1)


def came_late(events: str) -> str:
    """SQL for the same events with their delay; their arrival is hidden, by which `ignore` leaves out the late ones."""
    return f"SELECT * REPLACE (NULL::BIGINT AS {ARRIVED}), {ARRIVED} - {TIME} AS {DELAY} FROM ({events})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """What was found of one day."""

    entities: int
    """That have late events."""
    compared: int
    """Of these, whose values were compared."""
    differing: int
    """Values that are others with the late events than without."""


class LateValues:
    """The late events that matter to some days of a view. For one thread; close it, or use it with `with`."""

    def __init__(self, plan: ViewPlan, lake: Lake, *, days: Sequence[date], snapshot: int, limit_us: int) -> None:
        """Find them.

        Args:
            plan: the view.
            lake: the events.
            days: consecutive UTC days that are built.
            snapshot: as of which.
            limit_us: what arrives later than that after it happened is late.
        """
        self._plan, self._lake, self._snapshot = plan, lake, snapshot
        self._span = plan.view.longest_window_us
        self._late = f"{PARTITION} IS NOT NULL AND {DELAY} > {limit_us}"
        self._cursor = lake.cursor()
        self._cursor.execute("BEGIN")  # see `Session.reading`
        first, end = self._reach(days[0])[0], day_us(days[-1]) + DAY_US
        events = self._events(f"TRUE AS {_LATE}", first, end)
        found = f"SELECT {KEY}, {TIME}, {DELAY} FROM ({events}) WHERE {self._late} AND {self._since(days[0])}"
        self._cursor.execute(f"CREATE TEMP TABLE {_FOUND} AS {found}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cursor.close()

    def of(self, day: date) -> Differing:
        """What those of one of the days changed."""
        entities = self._entities(day)
        if not entities.num_rows:
            return Differing(entities=0, compared=0, differing=0)
        chosen = self._fitting(entities)
        differing = self._differing(day, chosen) if chosen.num_rows else 0
        return Differing(entities=entities.num_rows, compared=chosen.num_rows, differing=differing)

    def _reach(self, day: date) -> tuple[int, int]:
        """From when until when the late events happened that are asked about."""
        start = day_us(day)
        if not self._plan.view.is_batch:
            return start, start + DAY_US
        return BEGINNING_US if self._span is None else start - self._span, start + DAY_US

    def _since(self, day: date) -> str:
        """SQL: what had arrived when a day of rows began was known to all of them."""
        return f"{TIME} + {DELAY} > {day_us(day)}" if self._plan.view.is_batch else "TRUE"

    def _entities(self, day: date) -> pa.Table:
        """The entities of late events, and from when until when their values may be others."""
        low, high = self._reach(day)
        left = f"{TIME} + {DELAY}" if self._span is None else f"{TIME} + least({DELAY}, {self._span})"
        span = f"min({TIME}) AS {_FIRST}, max({left}) AS {_LAST}"
        if self._plan.view.is_batch:
            span = f"{day_us(day)} AS {_FIRST}, {high} AS {_LAST}"
        return self._cursor.execute(
            f"SELECT {KEY}, {span} FROM temp.main.{_FOUND} "
            f"WHERE {TIME} >= {low} AND {TIME} < {high} AND {self._since(day)} GROUP BY {KEY}"
        ).to_arrow_table()

    def _fitting(self, entities: pa.Table) -> pa.Table:
        """As many of the entities as have at most `MOST_EVENTS` events, those with the fewest first, numbered."""
        if self._lake.days(self._plan.view.source.name, snapshot=self._snapshot).events <= MOST_EVENTS:
            return entities.append_column(_CODE, pa.array(np.arange(entities.num_rows)))
        first, last = self._bounds(entities)
        joined = self._joined(self._events(f"TRUE AS {_LATE}", first, last + 1), entities)
        counted = self._cursor.execute(
            f"SELECT {KEY}, {_FIRST}, {_LAST}, count(*) AS n FROM ({joined}) GROUP BY ALL ORDER BY n, {KEY}"
        ).to_arrow_table()
        fitting = int(np.searchsorted(np.cumsum(counted.column("n").to_numpy()), MOST_EVENTS, side="right"))
        return counted.slice(0, fitting).append_column(_CODE, pa.array(np.arange(fitting)))

    def _differing(self, day: date, chosen: pa.Table) -> int:
        """How many values of these entities are others without the late events that had not arrived."""
        low, high = self._reach(day)
        first, last = self._bounds(chosen)
        late = f"{self._late} AND {TIME} >= {low} AND {TIME} < {high} AS {_LATE}"
        joined = self._joined(self._events(late, first, last + 1), chosen)
        known = f"CASE WHEN {_LATE} THEN {TIME} + {DELAY} ELSE {TIME} END AS {KNOWN}, FALSE AS {ASSUMED}"
        rows = self._cursor.execute(
            f"SELECT *, {known} FROM ({joined}) ORDER BY {_CODE}, {TIME}, {ID}"
        ).to_arrow_table()
        plan, entity = self._plan.windows, rows.column(_CODE).to_numpy()
        history = History(event_rows(plan, rows, entity, is_sorted=True))
        codes, times = self._instants(day, rows, len(chosen))
        values = evaluate(plan, history, codes, time_us=times)
        _, facts = served_values(plan, history, rows, None, codes=codes, times=times, values=values)
        return int(facts.differing.sum())

    def _instants(self, day: date, rows: pa.Table, entities: int) -> tuple[Ints, Ints]:
        """(entity, instant) of the values that are compared, sorted, each once."""
        view = self._plan.view
        if view.is_batch:
            steps = day_us(day) + np.arange(1, DAY_US // view.every_us + 1, dtype=np.int64) * view.every_us
            return np.repeat(np.arange(entities, dtype=np.int64), len(steps)), np.tile(steps, entities)
        codes, times = rows.column(_CODE).to_numpy(), rows.column(TIME).to_numpy()
        after = times > rows.column(_FIRST).to_numpy()
        codes, times = codes[after], times[after]
        once = run_starts(codes, times)
        return codes[once], times[once]

    def _events(self, late: str, first_us: int, end_us: int) -> str:
        """SQL for the view's rows of events in [first, end), those too that the policy ignores, with a column."""
        source = self._plan.view.source.name
        ever = first_us <= BEGINNING_US
        start, where = (_EVER if ever else from_us(first_us).date()), f"{TIME} >= {first_us} AND {TIME} < {end_us}"
        events = self._lake.events_sql(
            source, snapshot=self._snapshot, days=(start, from_us(end_us - 1).date()), where=where
        )
        return project_sql(self._plan, came_late(events), extra=[DELAY, PARTITION, late])

    def _bounds(self, entities: pa.Table) -> tuple[int, int]:
        """The times of the first and last event that can matter to some entities."""
        first = BEGINNING_US if self._span is None else pc.min(entities.column(_FIRST)).as_py() - self._span
        return first, pc.max(entities.column(_LAST)).as_py()

    def _joined(self, events: str, entities: pa.Table) -> str:
        """SQL for the events that matter to each of these entities, with their columns."""
        self._cursor.register(_CHOSEN, entities)
        back = "TRUE" if self._span is None else f"{TIME} >= {_FIRST} - {self._span}"
        return f"SELECT * FROM ({events}) JOIN {_CHOSEN} USING ({KEY}) WHERE {back} AND {TIME} <= {_LAST}"


def day_us(day: date) -> int:
    """Midnight."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))
