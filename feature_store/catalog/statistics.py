"""How the values of features are distributed, over a sample of the newest days, computed in the lake and kept in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.history.kept import first_whole
from feature_store.history.training import get_historical_features
from feature_store.long_keys import askable_sql
from feature_store.online.keys import statistics_key
from feature_store.schema import arrow_schema
from feature_store.transforms.project import ID, TIME

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from redis import Redis

    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

ROWS = 2_000
"""How many moments a sample has."""
DAYS = 7
"""How many days it is drawn from, up to the newest that has events."""
CATEGORIES = 50
"""A text with more values than that is a name, not a category: its values are not shown."""
_COMMON, _BINS = 10, 24
_QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


class FeatureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a feature."""

    name: str
    missing: float
    """Share of rows without a value."""
    distinct: int | None = None
    """Different values; None for lists."""
    mean: float | None = None
    quantiles: Sequence[tuple[str, float]] = ()
    """Of numbers."""
    bins: Sequence[tuple[float, float, int]] = ()
    """Of numbers: from, to, how many."""
    common: Sequence[tuple[str, int]] = ()
    """Of categories: the most common values."""


class ViewStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a view's features, as they were just before a sample of its source's events."""

    first: date
    last: date
    """The days of those events."""
    rows: int
    features: Sequence[FeatureStatistics]


def sample_spine(lake: Lake, view: FeatureView, first: date, last: date, *, rows: int) -> str:
    """SQL for join keys and times of some events of a view's source in some days: the same whenever it is asked.

    Left out are days on which windows hold events that retention has removed, and entities that nobody can ask for.
    """
    first = max(first, first_whole(lake, view))
    keys = "".join(f'"{key}", ' for key in view.entity.join_keys)
    known = [f'"{key}" IS NOT NULL' for key in view.entity.join_keys]
    known.append(askable_sql(arrow_schema(view.source), [view.entity.join_keys]))
    events = lake.events_sql(view.source.name, days=(first, last), where=" AND ".join(known))
    return (
        f"SELECT {keys}make_timestamptz({TIME}) AS event_timestamp FROM ({events}) "
        f"ORDER BY hash({ID}), {ID} LIMIT {rows}"
    )


def view_statistics(compiled: Compiled, lake: Lake, view: FeatureView) -> ViewStatistics | None:
    """How the values of a view's features are distributed; None without events."""
    days = lake.days(view.source.name).known if lake.has_source(view.source.name) else []
    if not days:
        return None
    last = max(days)
    first = last - timedelta(days=DAYS - 1)
    names = [f"{view.id}:{feature.name}" for feature in view.declared]
    spine = sample_spine(lake, view, first, last, rows=ROWS)
    found = get_historical_features(compiled, lake, spine, names, knowledge="corrected", allow_incomplete=True)
    columns = (found.table.column(name).combine_chunks() for name in found.feature_columns)
    return ViewStatistics(
        first=first,
        last=last,
        rows=found.table.num_rows,
        features=[
            feature_statistics(feature.name, column) for feature, column in zip(view.declared, columns, strict=True)
        ],
    )


def feature_statistics(name: str, values: pa.Array) -> FeatureStatistics:
    """How values are distributed: numbers by quantiles and a histogram, few different texts by how often each is there.

    >>> found = feature_statistics("n", pa.array([1, 2, 2, None]))
    >>> found.missing, found.distinct, found.quantiles[3]
    (0.25, 2, ('median', 2.0))
    """
    missing, kind = values.null_count / max(len(values), 1), values.type
    if pa.types.is_nested(kind):
        return FeatureStatistics(name=name, missing=missing)
    distinct = int(pc.count_distinct(values).as_py())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return _of_numbers(name, numbers[np.isfinite(numbers)], missing=missing, distinct=distinct)
    if pa.types.is_boolean(kind) or (pa.types.is_string(kind) and distinct <= CATEGORIES):
        texts = ("true" if each is True else "false" if each is False else each for each in values.to_pylist())
        counted = Counter(each for each in texts if each is not None)
        return FeatureStatistics(
            name=name, missing=missing, distinct=distinct, common=[(v[:80], n) for v, n in counted.most_common(_COMMON)]
        )
    return FeatureStatistics(name=name, missing=missing, distinct=distinct)


def publish_statistics(compiled: Compiled, lake: Lake, client: Redis, *, env: str) -> dict[str, ViewStatistics | None]:
    """Compute and keep them for each view; `view@version` -> what was found, None for what has no events.

    A view with personal data is left out: whoever may read its values has other ways to.
    """
    found = {
        view.id: None if view.is_personal else view_statistics(compiled, lake, view) for view in compiled.registry.views
    }
    key = statistics_key(env)
    pipeline = client.pipeline(transaction=True)
    kept = {name: msgspec.json.encode(each) for name, each in found.items() if each is not None}
    if gone := [name for name in found if name not in kept]:
        pipeline.hdel(key, *gone)
    if kept:
        pipeline.hset(key, mapping=kept)  # type: ignore[arg-type]
    pipeline.execute()
    return found


def _of_numbers(name: str, numbers: NDArray[np.float64], *, missing: float, distinct: int) -> FeatureStatistics:
    if not len(numbers):
        return FeatureStatistics(name=name, missing=missing, distinct=distinct)
    return FeatureStatistics(
        name=name,
        missing=missing,
        distinct=distinct,
        mean=float(numbers.mean()),
        quantiles=list(zip(_QUANTILES, np.quantile(numbers, list(_QUANTILES.values())).tolist(), strict=True)),
        bins=list(_bins(numbers, distinct)),
    )


def _bins(numbers: NDArray[np.float64], distinct: int) -> Iterator[tuple[float, float, int]]:
    """A histogram of equal steps; of nothing but one value, none."""
    if distinct > 1 and np.ptp(numbers) > 0:
        counts, edges = np.histogram(numbers, bins=min(_BINS, distinct))
        yield from zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
