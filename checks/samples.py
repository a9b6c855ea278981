"""Samples of what a source or a view gave in some days: the same rows whenever they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.checks.window import Days

from feature_store.catalog.statistics import CATEGORIES, ROWS, sample_spine
from feature_store.declare import EventSource, FeatureView
from feature_store.store import FeatureStore
from feature_store.transforms.project import ID

if TYPE_CHECKING:
    import pandas as pd

EVENTS = 20_000
"""How large a sample of events is, which are only read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Columns that can be compared."""

    frame: "pd.DataFrame"
    numbers: Sequence[str]
    texts: Sequence[str]


def newest_day(store: FeatureStore, source: str) -> Days | None:
    """The newest day of which the lake has events, loaded or live."""
    if not store.lake.has_source(source):
        return None
    newest = _query(store, f"SELECT max(_day) AS day FROM ({store.lake.events_sql(source)})").column("day")[0].as_py()
    return None if newest is None else Days(first=newest, last=newest)


def sample_events(store: FeatureStore, source: EventSource, days: Days) -> Sample:
    """A sample of a source's events: its columns but for id and times."""
    events = store.lake.events_sql(source.name, days=(days.first, days.last))
    table = _query(store, f"SELECT * FROM ({events}) ORDER BY hash({ID}), {ID} LIMIT {EVENTS}")
    schema = store.compiled.schemas[source.name]
    return _sample(table.select([name for name in schema.names if name not in source.id_columns]))


def sample_view(store: FeatureStore, view: FeatureView, days: Days) -> Sample:
    """A view's features as they were just before a sample of its source's events."""
    spine = sample_spine(store.lake, view, days.first, days.last, rows=ROWS)
    names = [f"{view.id}:{feature.name}" for feature in view.declared]
    found = store.get_historical_features(spine, names, knowledge="corrected", allow_incomplete=True)
    features = found.table.select(list(found.feature_columns))
    return _sample(features.rename_columns([feature.name for feature in view.declared]))


def _sample(table: pa.Table) -> Sample:
    numbers = [field.name for field in table.schema if _is_number(field.type)]
    texts = [field.name for field in table.schema if _is_category(table.column(field.name))]
    frame = table.select([*numbers, *texts]).to_pandas()
    return Sample(frame.astype({**dict.fromkeys(numbers, "float64"), **dict.fromkeys(texts, "object")}), numbers, texts)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_category(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type):
        return True
    return bool(pa.types.is_string(column.type)) and pc.count_distinct(column).as_py() <= CATEGORIES


def _query(store: FeatureStore, sql: str) -> pa.Table:
    with store.lake.cursor() as cursor:
        return cursor.execute(sql).to_arrow_table()
