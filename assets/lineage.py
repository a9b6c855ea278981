"""Which columns a column is made of, from the declarations: `dagster/column_lineage` of each asset, there before any run."""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import pyarrow as pa
from feature_store_deploy.assets.keys import events_key, history_key, online_key, source_key

from feature_store.declare import EventSource, FeatureRef, FeatureService, FeatureView
from feature_store.history.columns import column_names
from feature_store.registry import Registry
from feature_store.transforms.compiled import Compiled
from feature_store.transforms.expressions import columns_of
from feature_store.transforms.plan import FeaturePlan
from feature_store.transforms.project import EVENTS, KEY

LINEAGE = "dagster/column_lineage"


def events_lineage(source: EventSource, schema: pa.Schema, *, env: str) -> dict[str, object]:
    """Each column of a source's events comes from the column of that name."""
    return _metadata({name: [(source_key(env, source), name)] for name in schema.names})


def history_lineage(view: FeatureView, compiled: Compiled, *, env: str) -> dict[str, object]:
    """The key comes from the join keys, what a feature keeps from the columns of its expression."""
    plan, schema, events = compiled.plan(view), compiled.schemas[view.source.name], events_key(env, view.source)
    made: dict[str, list[str]] = {KEY: list(view.entity.join_keys)}
    for feature in plan.features:
        read = _read(feature, schema, view)
        for column in [feature.feature.name] if view.is_batch else _kept(feature):
            made[column] = sorted({*made.get(column, ()), *read})
    return _metadata({column: [(events, name) for name in names] for column, names in made.items()})


def online_lineage(view: FeatureView, compiled: Compiled, *, env: str) -> dict[str, object]:
    """A feature that is served comes from its rows, or from what its tiles keep."""
    history = history_key(env, view)
    return _metadata(
        {
            plan.feature.name: [(history, name) for name in ([plan.feature.name] if view.is_batch else _kept(plan))]
            for plan in compiled.plan(view).features
        }
    )


def training_lineage(service: FeatureService, registry: Registry, compiled: Compiled, *, env: str) -> dict[str, object]:
    """A feature of a training set comes from the history of the views that it reads."""
    return _service_lineage(service, registry, compiled, env=env, served=False)


def service_lineage(service: FeatureService, registry: Registry, compiled: Compiled, *, env: str) -> dict[str, object]:
    """A feature of a service comes from online values."""
    return _service_lineage(service, registry, compiled, env=env, served=True)


def _service_lineage(
    service: FeatureService, registry: Registry, compiled: Compiled, *, env: str, served: bool
) -> dict[str, object]:
    resolved = registry.resolve(service)
    refs = [item for item in resolved if isinstance(item, FeatureRef)]
    names = dict(zip(refs, column_names(refs), strict=True))
    return _metadata(
        {
            names[item] if isinstance(item, FeatureRef) else item.name: [
                origin
                for ref in item.refs
                for origin in _origins(registry.view(ref.view_id), ref.feature, compiled, env, served)
            ]
            for item in resolved
        }
    )


def _origins(
    view: FeatureView, feature: str, compiled: Compiled, env: str, served: bool
) -> list[tuple[dg.AssetKey, str]]:
    if served:
        return [(online_key(env, view), feature)]
    plan = next(each for each in compiled.plan(view).features if each.feature.name == feature)
    return [(history_key(env, view), column) for column in ([feature] if view.is_batch else _kept(plan))]


def _read(plan: FeaturePlan, schema: pa.Schema, view: FeatureView) -> Sequence[str]:
    """The columns of an event that a feature depends on; of one that only counts, the event's time."""
    expression = plan.feature.column
    return [view.source.event_time] if expression is None else columns_of(expression, schema)


def _kept(plan: FeaturePlan) -> list[str]:
    """The columns of tiles that a feature is finished from; one that only counts needs the count that every tile has."""
    return [column.name for column in plan.columns.values() if column.in_tiles] or [EVENTS]


def _metadata(made: Mapping[str, Iterable[tuple[dg.AssetKey, str]]]) -> dict[str, object]:
    return {
        LINEAGE: dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(asset_key=key, column_name=name) for key, name in dict.fromkeys(origins)]
                for column, origins in made.items()
            }
        )
    }
