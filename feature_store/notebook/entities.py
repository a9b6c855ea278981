"""What a look is about: one feature, one entity's keys as columns, or the entities that a lake has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.errors import InputError, UnknownNameError
from feature_store.history.spine import spine_keys
from feature_store.transforms.project import KEY, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.history.spine import Spine, SpineKeys
    from feature_store.history.training import TrainingSet
    from feature_store.lake import Lake
    from feature_store.registry import Registry, Resolved
    from feature_store.transforms.compiled import Compiled

Asked = FeatureRef | Ratio | str
"""`view:feature`, a handle such as `view["count_1h"]`, or a ratio."""
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
    try:
        return registry.resolve([feature])[0]
    except ValueError as error:
        raise InputError(str(error)) from None


def feature_name(item: Resolved) -> str:
    """`view:feature`, or the name of a ratio."""
    return item.name if isinstance(item, Ratio) else f"{item.view}:{item.feature}"


def views_of(registry: Registry, items: Sequence[Resolved]) -> list[FeatureView]:
    """The views that features need, each once."""
    refs = [r for item in items for r in ((item.numerator, item.denominator) if isinstance(item, Ratio) else (item,))]
    return list({f"{r.view}@{r.version}": registry.view(f"{r.view}@{r.version}") for r in refs}.values())


def describe(registry: Registry, item: Resolved) -> str:
    """What a feature's values are: its description, or else what is aggregated over what."""
    if isinstance(item, Ratio):
        return item.description or f"{item.numerator.feature} / {item.denominator.feature}"
    feature = registry.view(f"{item.view}@{item.version}").feature(item.feature)
    return feature.description or f"{feature.aggregate} of {feature.column or 'events'}"


def key_columns(
    compiled: Compiled, views: Sequence[FeatureView], entity: Mapping[str, object], size: int
) -> dict[str, pa.Array]:
    """The join keys that views need, each as often as asked, of its column's type.

    Raises:
        InputError: a join key is missing, null or of another type.
        UnknownNameError: a key that no view has.
    """
    columns: dict[str, pa.Array] = {}
    for view in views:
        if view.entity.key(entity) is None:
            raise InputError(f"`entity` of view '{view.name}' must have no null join key, got {dict(entity)!r}")
        schema = compiled.schemas[view.source.name]
        for name in view.entity.join_keys:
            kind = schema.field(name).type
            try:
                columns[name] = pa.repeat(pa.scalar(entity[name]).cast(kind), size)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise InputError(f"`entity`: join key '{name}' must be {kind}, got {entity[name]!r}") from error
    for name in entity:
        if name not in columns:
            raise UnknownNameError("join key", name, columns)
    return columns


def keys_of(compiled: Compiled, view: FeatureView, spine: Spine) -> SpineKeys:
    """The entities of a view that a spine is about."""
    schema = compiled.schemas[view.source.name]
    types = {name: schema.field(name).type for name in view.entity.join_keys}
    return spine_keys(spine, join_keys=view.entity.join_keys, types=types, entity=view.entity.name)


def times(moments_us: Sequence[int]) -> pa.Array:
    """Times as the column of a spine."""
    return pa.array(moments_us, type=pa.int64()).cast(_TIMES)


def entities(
    compiled: Compiled,
    lake: Lake,
    view: FeatureView,
    *,
    has: str = "TRUE",
    before_us: int | None = None,
    busiest: int = 0,
) -> pa.Table:
    """The entities of a view: join keys, `events` that it accepts, time of the `newest` one.

    Args:
        compiled: the declarations.
        lake: their events.
        view: whose entities.
        has: SQL over the canonical key `_key`: which of them.
        before_us: with an event before that time.
        busiest: so many, those with the most events; otherwise `MOST_ENTITIES`, in an order of chance that is always
            the same.
    """
    within = "TRUE" if before_us is None else f"{TIME} < {before_us}"
    keys = [f'"{name}"' for name in view.entity.join_keys]
    events = lake.events_sql(view.source.name, where=within)
    rows = project_sql(compiled.plan(view), events, extra=keys)
    order = f"events DESC, {KEY}" if busiest else f"md5({KEY})"
    listed = ", ".join(keys)
    with lake.cursor() as cursor:
        found: pa.Table = cursor.execute(
            f"SELECT {listed}, count(*) AS events, max(make_timestamptz({TIME})) AS newest FROM ({rows}) "
            f"WHERE {has} GROUP BY {KEY}, {listed} ORDER BY {order} LIMIT {busiest or MOST_ENTITIES}"
        ).to_arrow_table()
    return found


def spine_at(
    compiled: Compiled,
    lake: Lake,
    views: Sequence[FeatureView],
    at_us: int,
    *,
    entity: Mapping[str, object] | None = None,
    has: str = "TRUE",
) -> pa.Table:
    """One row at a time for an entity, or for every one that has had an event in one of the views.

    Raises:
        InputError: the views are of several entities, or nothing has happened before.
    """
    if entity is not None:
        columns = key_columns(compiled, views, entity, 1)
        return pa.table({**columns, TIME_COLUMN: times([at_us])})
    keys = {tuple(view.entity.join_keys) for view in views}
    if len(keys) > 1:
        listed = ", ".join(sorted("+".join(each) for each in keys))
        raise InputError(
            f"the features are of several entities ({listed}): say which one with `entity`, or give a spine"
        )
    (names,) = keys
    found = [entities(compiled, lake, view, has=has, before_us=at_us).select(names) for view in views]
    rows = pa.concat_tables(found).group_by(list(names), use_threads=False).aggregate([])
    if not rows.num_rows:
        raise InputError(
            f"no entity of view '{views[0].name}' has an event before the time asked for, of those that are here"
        )
    return rows.append_column(TIME_COLUMN, times([at_us] * rows.num_rows))
