"""What declarations look like in a notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from feature_store.declare.computed import Computed, OnDemand
from feature_store.declare.feature import Ratio
from feature_store.html_table import html_table
from feature_store.time_rule import format_duration

if TYPE_CHECKING:
    from feature_store.declare.label import Label
    from feature_store.declare.service import FeatureService
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView


def view_html(view: FeatureView) -> str:
    """A row per feature: what is aggregated over which window, and by how much the window may be too long."""
    rows = [
        [
            feature.name,
            f"{feature.aggregate}({feature.column or ''})",
            "lifetime" if feature.window_us is None else format_duration(feature.window_us),
            f"{feature.window_error:.1%}",
            feature.description,
        ]
        for feature in view.declared
    ]
    keys = ", ".join(view.entity.join_keys)
    notes = [view.description, f"where {view.where}" if view.where else "", *view.problems]
    return html_table(
        f"Feature view {view.id}: {view.entity.name} ({keys}) from {view.source.name}, online: {view.online}",
        ["feature", "aggregate", "window", "too long by at most", "description"],
        rows,
        notes=notes,
    )


def source_html(source: EventSource) -> str:
    """A row per column of its schema."""
    roles = dict.fromkeys(source.id_columns, "event id") | {source.event_time: "event time"}
    columns = source.schema.to_schema().columns
    return html_table(
        f"Event source {source.name}",
        ["column", "type", "may be null", ""],
        [[name, each.dtype, "yes" if each.nullable else "", roles.get(name)] for name, each in columns.items()],
        notes=[
            source.description,
            f"history: {type(source.load).__name__}" if source.load is not None else "no history",
            f"live: {source.log.topic}" if source.log is not None else "not live",
        ],
    )


def service_html(service: FeatureService) -> str:
    """What it serves, in order."""
    named = [name for item in service.features for name in _items(item)]
    rows = [[name, service.defaults.get(name, service.defaults.get(re.sub(r"@\d+", "", name)))] for name in named]
    return html_table(f"Feature service {service.id}", ["features", "default"], rows, notes=[service.description])


def registry_html(views: Sequence[FeatureView], services: Sequence[FeatureService], labels: Sequence[Label]) -> str:
    """A row per view, service and label."""
    rows: list[list[object]] = [
        ["view", view.id, view.entity.name, view.source.name, len(view.declared), view.description] for view in views
    ]
    rows += [["service", each.id, None, None, len(each.features), each.description] for each in services]
    rows += [
        ["label", each.name, ", ".join(each.outcome.on), each.outcome.source.name, 1, each.description]
        for each in labels
    ]
    return html_table("Registry", ["", "name", "entity", "source", "features", "description"], rows)


def _items(item: object) -> list[str]:
    if isinstance(item, OnDemand):
        return [feature.name for feature in item.features]
    return [item.name if isinstance(item, Ratio | Computed) else str(getattr(item, "id", item))]
