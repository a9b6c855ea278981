"""Samples of what a source, a view or a service gave in some days: the same rows whenever they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.checks.profile import Columns
from feature_store_deploy.checks.window import Days

from feature_store.catalog.statistics import CATEGORIES, ROWS, sample_spine
from feature_store.declare import EventSource, FeatureView
from feature_store.lake.connection import quote
from feature_store.lake.days import DAY, in_days
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.project import ID

if TYPE_CHECKING:
    import pandas as pd

EVENTS = 20_000
"""How large a sample of events is, which are only read."""
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
    """The days for which the lake was given events, in order."""
    return store.lake.days(source).known if store.lake.has_source(source) else []


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


def sample_events(store: FeatureStore, source: EventSource, days: Sequence[date]) -> Sample:
    """A sample of a source's events of some days: what `event_columns` names, and `_day`."""
    names = event_columns(store, source).all
    if not days:
        return Sample(pa.schema([store.compiled.schemas[source.name].field(each) for each in names]).empty_table())
    events = store.lake.events_sql(
        source.name, snapshot=store.lake.snapshot(), days=(days[0], days[-1]), where=in_days(list(days))
    )
    listed = ", ".join(map(quote, [*names, DAY]))
    with store.lake.reading() as cursor:
        row = cursor.execute(f"SELECT count(*) FROM ({events})").fetchone()
        share = max(1, (row[0] if row else 0) // EVENTS)
        table = cursor.execute(f"SELECT {listed} FROM ({events}) WHERE hash({ID}) % {share} = 0").to_arrow_table()
    return Sample(table)


def sample_view(store: FeatureStore, view: FeatureView, days: Days) -> Sample:
    """A view's features as they were just before a sample of its source's events."""
    spine = sample_spine(store.lake, view, days.first, days.last, rows=ROWS)
    names = [f"{view.id}:{feature.name}" for feature in view.declared]
    found = store.get_historical_features(spine, names, knowledge="corrected", allow_incomplete=True)
    features = found.table.select(list(found.feature_columns)).rename_columns([each.name for each in view.declared])
    return Sample(features.append_column(DAY, found.table.column("event_timestamp").cast(pa.date32())))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are compared as numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_category(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type):
        return True
    return bool(pa.types.is_string(column.type)) and pc.count_distinct(column).as_py() <= CATEGORIES


def _query(store: FeatureStore, sql: str) -> pa.Table:
    with store.lake.cursor() as cursor:
        return cursor.execute(sql).to_arrow_table()
