"""What is declared, as a series that others are joined with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from feature_store_deploy.assets.keys import online_key
from feature_store_deploy.stack.exporter.books import NOBODY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from feature_store.registry import Registry


def declared_families(registry: Registry, *, env: str) -> Iterator[Metric]:
    """Whose each served view is, by the name that the serving process gives it."""
    info = GaugeMetricFamily(
        "feature_view_info", "1; whose a view is, and its asset in Dagster", labels=["view", "asset", "owner"]
    )
    for view in registry.views:
        if view.online is not None:
            info.add_metric([view.id, "/".join(online_key(env, view).path[1:]), view.owner or NOBODY], 1)
    yield info
