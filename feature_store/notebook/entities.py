"""What a look is about: one feature, one entity's keys as columns, or the entities that a lake has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.computed import Computed, OnDemand, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.key import LONGEST
from feature_store.errors import InputError, UnknownNameError
from feature_store.history.join_keys import as_key
from feature_store.notebook.sample import WHOLE, Sample
from feature_store.transforms.project import KEY, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.keyed import KeyedView
    from feature_store.declare.view import FeatureView
    from feature_store.history.training import TrainingSet
    from feature_store.lake import Lake
    from feature_store.registry import Registry, Resolved
    from feature_store.transforms.compiled import Compiled

Asked = FeatureRef | Ratio | OnDemand | Computed | str
"""`view:feature`, a handle such as `view["count_1h"]`, a ratio, or an on-demand feature of stored ones."""
Ask = Callable[[pa.Table, Sequence[object]], "TrainingSet"]
"""Spine (its times are `event_timestamp`) and features -> their values, with statuses."""

TIME_COLUMN = "event_timestamp"
MOST_ENTITIES = 100_000
"""Entities of one look; of more, those with the lowest hashes are taken."""
_TIMES = pa.timestamp("us", tz="UTC")


def one_feature(registry: Registry, feature: object) -> Resolved:
    """The one feature that is asked for.

    Raises:
        UnknownNameError: no such view or feature.
        InputError: it names no single feature.
    """
    if not isinstance(feature, Asked):
        raise InputError(
            f"`feature` must be 'view:feature', a handle such as view['count_1h'] or a ratio, got {feature!r}"
        )
    found = registry.resolve([feature])
    if len(found) > 1:
        raise InputError(
            f"`feature` must be one feature, got {', '.join(item.name for item in found)}; choose one of them"
        )
    return found[0]


def feature_name(item: Resolved) -> str:
    """`view:feature` with the role's prefix, or the name of a ratio."""
    return item.name


def describe(registry: Registry, item: Resolved) -> str:
    """What a feature's values are: its description, or else what is aggregated over what."""
    if isinstance(item, Ratio):
        return item.description or f"{item.numerator.feature} / {item.denominator.feature}"
    if isinstance(item, Computed):
        return item.description or f"on-demand feature '{item.of.name}'"
    feature = registry.view(item.view_id).feature(item.feature)
    return feature.description or f"{feature.aggregate} of {feature.column or 'events'}"


def key_columns(
    compiled: Compiled,
    reads: Sequence[KeyedView],
    entity: Mapping[str, object],
    size: int,
    *,
    asked: Mapping[str, RequestInput] | None = None,
) -> dict[str, pa.ChunkedArray]:
    """The columns that reads need, each as often as asked, of the join key's type; and what functions take, as it is given.

    Raises:
        InputError: a join key is missing, null or of another type.
        UnknownNameError: a key that no view has.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for read in reads:
        schema = compiled.schemas[read.view.source.name]
        for key, name in read.columns.items():
            if entity.get(name) is None:
                got = f"got {dict(entity)!r}"
                raise InputError(f"`entity` must have a value for '{name}', the join key '{key}' of {read.told}, {got}")
            columns[name] = _repeated(entity[name], schema.field(key).type, name, size)
    for name in entity.keys() & (asked or {}).keys() - columns.keys():
        columns[name] = pa.chunked_array([pa.array([entity[name]] * size)])
    for name in entity:
        if name not in columns:
            raise UnknownNameError("join key", name, columns)
    return columns


def _repeated(value: object, kind: pa.DataType, name: str, size: int) -> pa.ChunkedArray:
    try:
        given = pa.chunked_array([pa.array([value])])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"`entity`: join key '{name}' must be {kind}, got {value!r}") from error
    return pa.chunked_array([pa.repeat(as_key(given, kind, name, of="`entity`:")[0], size)])


def times(moments_us: Sequence[int]) -> pa.Array:
    """Times as the column of a spine."""
    return pa.array(moments_us, type=pa.int64()).cast(_TIMES)


def entities(
    compiled: Compiled,
    lake: Lake,
    view: FeatureView,
    *,
    sample: Sample = WHOLE,
    before_us: int | None = None,
    busiest: int = 0,
) -> pa.Table:
    """The entities of a view that can be asked for: join keys, `events` that it accepts, time of the `newest` one.

    Args:
        compiled: the declarations.
        lake: their events.
        view: whose entities.
        sample: which of them.
        before_us: with an event before that time.
        busiest: so many, those with the most events; otherwise `MOST_ENTITIES`, in an order of chance that is always
            the same.
    """
    within = "TRUE" if before_us is None else f"{TIME} < {before_us}"
    keys = [f'"{name}"' for name in view.entity.join_keys]
    events = lake.events_sql(view.source.name, where=within)
    rows = project_sql(compiled.plan(view), events, extra=keys)
    order = f"events DESC, {KEY}" if busiest else f"md5({KEY})"
    listed = ", ".join([*keys, "count(*) AS events", f"max(make_timestamptz({TIME})) AS newest"])
    with lake.cursor() as cursor:
        found: pa.Table = cursor.execute(
            f"SELECT {listed} FROM ({rows}) WHERE {sample.has_sql(view, KEY)} AND strlen({KEY}) <= {LONGEST} "
            f"GROUP BY {', '.join([KEY, *keys])} ORDER BY {order} LIMIT {busiest or MOST_ENTITIES}"
        ).to_arrow_table()
    return found


def spine_at(
    compiled: Compiled,
    lake: Lake,
    reads: Sequence[KeyedView],
    at_us: int,
    *,
    entity: Mapping[str, object] | None = None,
    asked: Mapping[str, RequestInput] | None = None,
    sample: Sample = WHOLE,
) -> pa.Table:
    """One row at a time for an entity, or for every one that has had an event in one of the views.

    Raises:
        InputError: the reads are of several entities, or nothing has happened before.
    """
    keyed = [read for read in reads if read.columns]
    if entity is not None or not keyed:
        return pa.table({**key_columns(compiled, reads, entity or {}, 1, asked=asked), TIME_COLUMN: times([at_us])})
    names = {tuple(read.columns.values()) for read in keyed}
    if len(names) > 1:
        listed = ", ".join(sorted("+".join(each) for each in names))
        raise InputError(
            f"the features are of several entities ({listed}): say which one with `entity`, or give a spine"
        )
    found = [
        entities(compiled, lake, read.view, sample=sample, before_us=at_us)
        .select(list(read.columns))
        .rename_columns(list(read.columns.values()))
        for read in keyed
    ]
    rows = pa.concat_tables(found).group_by(list(*names), use_threads=False).aggregate([])
    if not rows.num_rows:
        raise InputError(
            f"no entity of view '{keyed[0].view.name}' has an event before the time asked for, of those that are here"
        )
    return rows.append_column(TIME_COLUMN, times([at_us] * rows.num_rows))
