"""`online/<view>`: what readers get. Batch views are published here; the others are kept by the stream and only shown."""

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import history_key, online_key
from feature_store_deploy.assets.results import preview

from feature_store.declare import FeatureView
from feature_store.history.asof import ROW_US, rows_table
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us


def build_online_asset(view: FeatureView, *, env: str) -> dg.AssetsDefinition:
    """The asset that publishes a batch view; unpartitioned, because readers want the newest rows alone.

    It depends on all days, so that a backfill publishes after the last of its days is built.
    """

    @dg.asset(
        key=online_key(env, view),
        deps=[history_key(env, view)],
        description=f"{view.description or view.name}\n\nThe newest row of every {view.entity.name}, as readers see it.",
        group_name=view.entity.name,
        owners=declared.owners(view.owner),
        tags=dict(view.tags),
        kinds={"redis"},
        code_version=declared.view_version(view),
        metadata=declared.view_metadata(view),
    )
    def online(feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        result = feature_store.publish_view(view.id)
        day = from_us(result.row_us - 1).date()
        rows = feature_store.lake.latest_rows_sql(rows_table(view), days=(day, day))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": result.entities,
                "row_time": dg.MetadataValue.timestamp(from_us(result.row_us)),
                "snapshot_id": result.row_version,
                "preview": preview(feature_store, f"SELECT * FROM ({rows}) WHERE {ROW_US} = {result.row_us}"),
            }
        )

    return online


def build_stream_spec(view: FeatureView, *, env: str) -> dg.AssetSpec:
    """A stream view's online values: nothing for Dagster to make, but a place in the lineage, and for checks."""
    return dg.AssetSpec(
        key=online_key(env, view),
        deps=[history_key(env, view)],
        description=f"{view.description or view.name}\n\nKept fresh by the stream; Dagster only checks it.",
        group_name=view.entity.name,
        owners=declared.owners(view.owner),
        tags=dict(view.tags),
        kinds={"redis", "bytewax"},
        code_version=declared.view_version(view),
        metadata=declared.view_metadata(view),
    )
