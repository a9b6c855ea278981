"""The asset of what the catalog tells of values: how each feature is distributed."""

import dagster as dg
from feature_store_deploy.assets.declared import owners
from feature_store_deploy.assets.keys import history_key, op_name, statistics_key
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.assets.schedules import build_schedule

from feature_store.registry import Registry
from feature_store.settings import Settings
from feature_store.store import FeatureStore

CRON = "10 4 * * *"


def build_statistics_asset(registry: Registry, settings: Settings) -> dg.AssetsDefinition:
    """The asset of an environment's catalog."""
    env = settings.environment

    @dg.asset(
        key=statistics_key(env),
        deps=[history_key(env, view) for view in registry.views],
        group_name="catalog",
        owners=owners(settings.owner),
        kinds={"duckdb", "redis"},
        description="How the values of features are distributed in the newest days, for the catalog; no personal data",
        metadata={"catalog": dg.MetadataValue.url(settings.catalog_url)},
    )
    def statistics(feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        found = feature_store.publish_statistics()
        rows = [[f"`{name}`", each.rows, each.first, each.last] for name, each in found.items() if each is not None]
        return dg.MaterializeResult(
            metadata={
                "views": len(rows),
                "samples": dg.MetadataValue.md(table(["view", "samples", "from", "to"], rows) if rows else "none"),
            }
        )

    return statistics


def build_statistics_schedule(*, env: str) -> dg.ScheduleDefinition:
    """Once a day, after the night's rows."""
    key = statistics_key(env)
    selection = dg.AssetSelection.assets(key)
    return build_schedule(
        op_name(key), selection, cron=CRON, description="Tells the catalog how values are distributed"
    )
