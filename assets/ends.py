"""Where the graph begins and ends: what history is loaded from, and what a model asks for. Dagster makes neither."""

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import events_key, online_key, service_key, source_key, training_key
from feature_store_deploy.assets.lineage import service_lineage

from feature_store.declare import EventSource, FeatureService
from feature_store.loaders import DatabaseLoader, FileLoader
from feature_store.registry import Registry
from feature_store.transforms.compiled import Compiled


def build_source_spec(source: EventSource, compiled: Compiled, *, env: str) -> dg.AssetSpec:
    """What the history of a source is loaded from, and its columns."""
    kind, where = _origin(source)
    return dg.AssetSpec(
        key=source_key(env, source),
        description=f"{source.description or source.name}\n\nHistory is loaded from {where}.",
        group_name="sources",
        owners=declared.owners(source.owner),
        kinds={kind},
        code_version=declared.source_version(source, compiled.schemas[source.name]),
        metadata={"dagster/column_schema": declared.arrow_columns(compiled.schemas[source.name])},
    )


def build_live_spec(
    source: EventSource, compiled: Compiled, *, env: str, partitions: dg.PartitionsDefinition
) -> dg.AssetSpec:
    """The events of a source without history: the archiver brings them to the lake as they come."""
    return dg.AssetSpec(
        key=events_key(env, source),
        description=f"{declared.source_description(source)}\n\nThe archiver brings them from the log; Dagster loads none.",
        group_name="sources",
        owners=declared.owners(source.owner),
        kinds={"ducklake", "bytewax"},
        code_version=declared.source_version(source, compiled.schemas[source.name]),
        partitions_def=partitions,
        metadata={"dagster/column_schema": declared.arrow_columns(compiled.schemas[source.name])},
    )


def build_service_spec(service: FeatureService, registry: Registry, compiled: Compiled, *, env: str) -> dg.AssetSpec:
    """What a model asks for: its features in order, from online values; trained on the training set."""
    views = {read.view.id: read.view for read in registry.reads(registry.resolve(service))}
    served = [online_key(env, view) for _, view in sorted(views.items()) if view.online is not None]
    return dg.AssetSpec(
        key=service_key(env, service),
        deps=[*served, training_key(env, service)],
        description=declared.service_description(service, registry),
        group_name="services",
        owners=declared.owners(service.owner),
        kinds={"redis"},
        code_version=declared.service_version(service, registry),
        metadata=service_lineage(service, registry, compiled, env=env),
    )


def _origin(source: EventSource) -> tuple[str, str]:
    """Kind and words; of a database no address, which may hold a password."""
    loader = source.load
    if isinstance(loader, FileLoader):
        return loader.format, f"the files `{loader.glob}`"
    if isinstance(loader, DatabaseLoader):
        kind = loader.attach.partition(":")[0]
        return kind, f"a database ({kind})"
    return "python", f"the function `{getattr(loader, '__qualname__', type(loader).__name__)}`"
