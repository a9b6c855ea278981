"""What a declaration says of its asset: owners, descriptions, code versions, columns."""

import hashlib
from collections.abc import Mapping, Sequence

import dagster as dg
import pyarrow as pa
from feature_store_deploy.assets.markdown import table

from feature_store.declare import Computed, EventSource, FeatureRef, FeatureService, FeatureView, Ratio
from feature_store.declare.feature import Feature
from feature_store.long_keys import with_keys
from feature_store.registry import Registry, view_fingerprint
from feature_store.time_rule import format_duration
from feature_store.transforms.plan import ViewPlan


def owners(owner: str | None) -> list[str] | None:
    """As Dagster takes them; it accepts an e-mail address or `team:name`."""
    return None if owner is None else [owner]


def source_description(source: EventSource) -> str:
    """What the source is, and how its events are told apart and timed."""
    return f"{source.description or source.name}\n\nEvent time `{source.event_time}`, event id `{', '.join(source.id_columns)}`."


def view_description(view: FeatureView) -> str:
    """What the view is, and its features with their windows."""
    rows = [
        [
            f"`{feature.name}`",
            feature.aggregate,
            f"`{feature.column}`" if feature.column else "",
            "every event" if feature.window_us is None else format_duration(feature.window_us),
            f"{feature.window_error:.1%}",
            feature.description,
        ]
        for feature in view.declared
    ]
    features = table(["feature", "aggregate", "of", "window", "at most too long by", "description"], rows)
    where = f"\n\nOnly events with `{view.where}`." if view.where else ""
    return f"{view.description or view.name}\n\nOf {_entity(view)}.{where}\n\n{features}"


def service_description(service: FeatureService, registry: Registry) -> str:
    """What the service is, and its features in order."""
    resolved = registry.resolve(service)
    listed = "\n".join(f"1. {_named(item)}" for item in resolved)
    return f"{service.description or service.name}\n\n{listed}"


def _named(item: FeatureRef | Ratio | Computed) -> str:
    if isinstance(item, FeatureRef):
        return f"`{item}`"
    return f"`{item.name}` ({'ratio' if isinstance(item, Ratio) else 'on demand'})"


def source_version(source: EventSource, schema: pa.Schema) -> str:
    """A digest of what a source's rows depend on; not of its views, which say what the keys are."""
    return _digest([source.event_time, "|".join(source.id_columns), source.timezone, str(with_keys(schema, ()))])


def view_metadata(view: FeatureView) -> dict[str, object]:
    """What is declared of a view beside its features."""
    metadata: dict[str, object] = {
        "entity": _entity(view),
        "online": view.online or "training only",
        "freshness_sla": format_duration(view.freshness_sla_us),
        "late_events": view.late_events,
        "version": view.version,
    }
    return metadata | ({"every": format_duration(view.every_us)} if view.is_batch else {})


def view_version(view: FeatureView) -> str:
    """The view's fingerprint: it changes when a feature's meaning does."""
    return view_fingerprint(view)


def service_version(service: FeatureService, registry: Registry) -> str:
    """A digest of the features and of everything that they depend on."""
    resolved = registry.resolve(service)
    views = {ref.view_id for item in resolved for ref in item.refs}
    meanings = [str(item) if isinstance(item, Ratio) else item.meaning for item in resolved]
    return _digest([*meanings, *(view_fingerprint(registry.view(v)) for v in sorted(views))])


def arrow_columns(schema: pa.Schema) -> dg.TableSchema:
    """A source's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name, type=str(field.type), constraints=dg.TableColumnConstraints(nullable=field.nullable)
            )
            for field in schema
        ]
    )


def lake_columns(columns: Mapping[str, str], plan: ViewPlan) -> dg.TableSchema:
    """The columns of a view's table, with what its features are, or which features are finished from a column of tiles."""
    described: dict[str, str] = {}
    for each in plan.features:
        described[each.feature.name] = _meaning(each.feature)
        for column in each.columns.values():
            kept = described.get(column.name)
            described[column.name] = f"{kept}, `{each.feature.name}`" if kept else f"For `{each.feature.name}`"
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=kind, description=described.get(name)) for name, kind in columns.items()
        ]
    )


def served_columns(plan: ViewPlan) -> dg.TableSchema:
    """The features of a view as readers get them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=each.feature.name,
                type=f"list of {each.kind}" if each.is_list else each.kind,
                description=_meaning(each.feature),
            )
            for each in plan.features
        ]
    )


def _meaning(feature: Feature) -> str:
    of = f" of `{feature.column}`" if feature.column else ""
    over = "" if feature.window_us is None else f" over {format_duration(feature.window_us)}"
    return f"{feature.aggregate}{of}{over}{f': {feature.description}' if feature.description else ''}"


def _entity(view: FeatureView) -> str:
    keys = ", ".join(view.entity.join_keys)
    return f"{view.entity.name} ({keys})" if keys else view.entity.name


def _digest(parts: Sequence[str]) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()
