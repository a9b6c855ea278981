"""The feature store as a Dagster resource."""

from collections.abc import Iterator

import dagster as dg

from feature_store.clock import Clock
from feature_store.registry import Registry
from feature_store.settings import Settings
from feature_store.store import FeatureStore

STORE = "feature_store"
"""The name under which assets and checks ask for it."""


def feature_store_resource(
    registry: Registry, settings: Settings, *, clock: Clock | None = None
) -> dg.ResourceDefinition:
    """A resource that opens one `FeatureStore` for a run and closes it after the last step."""

    @dg.resource(description="The feature store of this deployment: lake, log and online store")
    def feature_store(_context: dg.InitResourceContext) -> Iterator[FeatureStore]:
        with FeatureStore(registry, settings=settings, clock=clock) as store:
            yield store

    return feature_store
