"""Samples of what a source, a view or a service gave in some days: the same rows whenever they are drawn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.checks.kept import folder_of, kept_days
from feature_store_deploy.checks.profile import Columns
from feature_store_deploy.checks.window import Days

from feature_store.catalog.statistics import CATEGORIES
from feature_store.declare import EventSource
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, in_days
from feature_store.long_keys import Keys, askable
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.project import ID, TIME

if TYPE_CHECKING:
    import pandas as pd

EVENTS, MOST_EVENTS = 3_000, 20_000
"""About how many events of a day are drawn, which are only read, and of several days together."""
MOMENTS, MOST_MOMENTS = 500, 4_000
"""About how many moments, for which features are computed."""
MOMENT, DRAWN = "event_timestamp", "_drawn"
"""Columns of samples: when features are asked for, and the hash by which an event was drawn."""
STEP = 4
"""Of the days of a reference one in four is read: of four weeks seven days, each weekday once."""


@dataclass(frozen=True)
class Sample:
    """Rows whose columns can be compared."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def numbers(self) -> list[str]:
        """Columns that are compared as numbers."""
        return [field.name for field in self.table.schema if is_number(field.type)]

    @cached_property
    def texts(self) -> list[str]:
        """Columns that are compared as categories."""
        return [field.name for field in self.table.schema if _is_category(self.table.column(field.name))]

    def frame(self, names: Sequence[str]) -> "pd.DataFrame":
        """Some of them as Evidently takes them."""
        frame: pd.DataFrame = self.table.select(list(names)).to_pandas()
        kinds = {name: "float64" if name in self.numbers else "object" for name in names}
        return frame.astype(kinds)


@contextmanager
def steadily(store: FeatureStore) -> Iterator[None]:
    """For the body, one state of the lake, which has all declared sources."""
    for name, schema in store.compiled.schemas.items():
        store.lake.ensure_source(name, schema)
    with store.lake.steady():
        yield


def newest_day(store: FeatureStore, source: str) -> Days | None:
    """The newest day of which the lake has events, loaded or live."""
    if not store.lake.has_source(source):
        return None
    newest = _query(store, f"SELECT max(_day) AS day FROM ({store.lake.events_sql(source)})").column("day")[0].as_py()
    return None if newest is None else Days(first=newest, last=newest)


def newest_whole_days(store: FeatureStore, source: str, count: int) -> Days | None:
    """The newest `count` days that are over: of a source that is live up to yesterday, also if nothing came."""
    known = known_days(store, source)
    yesterday = from_us(store.clock.now_us() - DAY_US).date()
    past = [day for day in known if day <= yesterday]
    if not past:
        return None
    return Days.up_to(yesterday if store.lake.positions(source) else past[-1], count)


def known_days(store: FeatureStore, source: str) -> list[date]:
    """The days of which the lake has all events that it was given, in order: none whose events retention has removed."""
    if not store.lake.has_source(source):
        return []
    snapshot = store.lake.snapshot()
    known = store.lake.days(source, snapshot=snapshot).known  # which the lake remembers by snapshot
    kept = store.lake.once(("kept_from", source), lambda: store.lake.retention.kept_from(source, snapshot=snapshot))
    return known if kept is None else [day for day in known if day >= kept]


def spread(days: Days, known: Sequence[date]) -> list[date]:
    """Some of the days of a reference that stand for all of them: one in `STEP`, counted back from the last."""
    span = (days.last - days.first).days + 1
    chosen = {days.last - timedelta(days=back) for back in range(0, span, STEP)}
    return sorted(chosen & set(known))


def event_columns(store: FeatureStore, source: EventSource) -> Columns:
    """The columns of events that checks look at: all but ids, time and arrival."""
    left_out = {*source.id_columns, source.event_time, source.arrival}
    fields = [each for each in store.compiled.schemas[source.name] if each.name not in left_out]
    return columns_of(pa.schema(fields))


def columns_of(schema: pa.Schema) -> Columns:
    """What can be asked of which columns; which texts are categories the values say."""
    return Columns(
        all=schema.names,
        numbers={each.name for each in schema if is_number(each.type)},
        texts={each.name for each in schema if pa.types.is_string(each.type) or pa.types.is_boolean(each.type)},
    )


def sample_events(store: FeatureStore, source: EventSource, days: Sequence[date], *, anew: bool) -> Sample:
    """A sample of a source's events of some days: what `event_columns` names, and `_day`.

    `anew`: as the lake is now; otherwise a sample that was drawn earlier will do.
    """
    table = _kept_events(store, source, days, anew=anew)
    return Sample(table.drop_columns([TIME, DRAWN]))


def moments(
    store: FeatureStore,
    source: EventSource,
    columns: Sequence[str],
    days: Sequence[date],
    *,
    anew: bool,
    keys: Keys = (),
) -> pa.Table:
    """Columns and times of some events of a source: a spine, the same whenever it is asked.

    Events that name an entity of `keys` which cannot be asked for are left out.

    Of one day they are among the events that `sample_events` has, so the day is read once for both.
    """
    coarse = _share(store, source, days, min(EVENTS, MOST_EVENTS // len(days)))
    share = coarse * max(1, _share(store, source, days, min(MOMENTS, MOST_MOMENTS // len(days))) // coarse)
    if not anew or len(days) > 1 or not {*columns} <= {*event_columns(store, source).all}:
        listed = [*map(quote, columns), f"make_timestamptz({TIME}) AS {MOMENT}"]
        return askable(_query(store, _drawn_sql(store, source, listed, days, share=share)), keys)
    sample = _kept_events(store, source, days, anew=True)
    found = sample.filter(pa.array(sample.column(DRAWN).to_numpy() % np.uint64(share) == 0))
    time = found.column(TIME).cast(pa.timestamp("us", "UTC"))
    return askable(found.select(list(columns)).append_column(MOMENT, time), keys)


def count_events(
    store: FeatureStore, source: EventSource, days: Sequence[date], aggregates: Sequence[str]
) -> list[tuple[Any, ...]]:
    """(day, what some SQL aggregates say of its events), of each day that has some.

    A day of which there is no sample yet is read once for both.
    """
    said: dict[date, list[tuple[Any, ...]]] = {}

    def draw(missing: Sequence[date]) -> pa.Table:
        said.update({day: [] for day in missing})
        rows, sample = _drawn_events(store, source, missing, aggregates)
        said.update({row[0]: [row] for row in rows})
        return sample

    _keep_events(store, source, days, draw, anew=True)
    if rest := [day for day in days if day not in said]:
        listed = ", ".join([DAY, *aggregates])
        rows = _rows(_query(store, f"SELECT {listed} FROM ({_events_sql(store, source, rest)}) GROUP BY 1"))
        said.update({row[0]: [row] for row in rows})
    return [row for day in sorted(said) for row in said[day]]


def _kept_events(store: FeatureStore, source: EventSource, days: Sequence[date], *, anew: bool) -> pa.Table:
    return _keep_events(store, source, days, lambda missing: _drawn_events(store, source, missing, ())[1], anew=anew)


def _keep_events(
    store: FeatureStore,
    source: EventSource,
    days: Sequence[date],
    draw: Callable[[Sequence[date]], pa.Table],
    *,
    anew: bool,
) -> pa.Table:
    schema = _event_schema(store, source)
    folder = folder_of(store, f"events_{source.name}", [str(each) for each in schema])
    found = kept_days(store, folder, days, lambda missing: {folder: draw(missing)}, anew=anew)
    return schema.empty_table() if found is None else found


def _event_schema(store: FeatureStore, source: EventSource) -> pa.Schema:
    fields = [store.compiled.schemas[source.name].field(each) for each in event_columns(store, source).all]
    return pa.schema([*fields, (TIME, pa.int64()), (DRAWN, pa.uint64())])


def _drawn_events(
    store: FeatureStore, source: EventSource, days: Sequence[date], aggregates: Sequence[str]
) -> tuple[list[tuple[Any, ...]], pa.Table]:
    """What aggregates say of each day, and a sample of the days, in an order of its own: one pass over the events has none."""
    share = _share(store, source, days, min(EVENTS, MOST_EVENTS // len(days)))
    values = {each: quote(each) for each in _event_schema(store, source).names} | {DRAWN: f"hash({ID})", DAY: DAY}
    row = ", ".join(f"{quote(name)} := {value}" for name, value in values.items())
    drawn = f"list(struct_pack({row})) FILTER (hash({ID}) % {share} = 0) AS {DRAWN}"
    listed = ", ".join([DAY, *aggregates, drawn])
    found = _query(store, f"SELECT {listed} FROM ({_events_sql(store, source, days)}) GROUP BY 1")
    sample = pa.Table.from_struct_array(found.column(DRAWN).combine_chunks().flatten())
    return _rows(found.drop_columns([DRAWN])), sample.sort_by([(TIME, "ascending"), (DRAWN, "ascending")])


def _rows(found: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _drawn_sql(
    store: FeatureStore, source: EventSource, listed: Sequence[str], days: Sequence[date], *, share: int
) -> str:
    """SQL for one in `share` events of some days."""
    return f"SELECT {', '.join(listed)} FROM ({_events_sql(store, source, days)}) WHERE hash({ID}) % {share} = 0"


def _events_sql(store: FeatureStore, source: EventSource, days: Sequence[date]) -> str:
    snapshot = store.lake.snapshot()
    return store.lake.events_sql(source.name, snapshot=snapshot, days=(days[0], days[-1]), where=in_days(days))


def _share(store: FeatureStore, source: EventSource, days: Sequence[date], rows: int) -> int:
    """One in how many events makes about `rows` of each of some days, in proportion to how many the days have."""
    count = sum(store.lake.counts(source.name, days, snapshot=store.lake.snapshot()).values())
    return max(1, count // (max(rows, 1) * len(days)))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are compared as numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_category(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type):
        return True
    return bool(pa.types.is_string(column.type)) and pc.count_distinct(column).as_py() <= CATEGORIES


def _query(store: FeatureStore, sql: str) -> pa.Table:
    with store.lake.reading() as cursor:
        return cursor.execute(sql).to_arrow_table()
