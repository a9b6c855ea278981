"""`online/<view>`: what readers get. Batch views are published here; the others are kept by the stream and only shown."""

import time

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import history_key, online_key, stream_key
from feature_store_deploy.assets.lineage import online_lineage
from feature_store_deploy.assets.results import preview

from feature_store.declare import FeatureView
from feature_store.history.asof import ROW_US
from feature_store.lake.view_tables import rows_table
from feature_store.store import FeatureStore
from feature_store.time_rule import SECOND_US, from_us
from feature_store.transforms.compiled import Compiled


def build_online_asset(view: FeatureView, compiled: Compiled, *, env: str) -> dg.AssetsDefinition:
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
        metadata={
            **declared.view_metadata(view),
            **online_lineage(view, compiled, env=env),
            "dagster/column_schema": declared.served_columns(compiled.plan(view)),
        },
    )
    def online(feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        begun = time.perf_counter()
        result = feature_store.publish_view(view.id)
        seconds = time.perf_counter() - begun
        day = from_us(result.row_us - 1).date()
        rows = feature_store.lake.partitions.latest_sql(rows_table(view), days=(day, day))
        newest = f"SELECT * FROM ({rows}) WHERE {ROW_US} = {result.row_us}"
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": result.entities,
                "seconds": round(seconds, 3),
                "age_seconds": (feature_store.clock.now_us() - result.row_us) / SECOND_US,
                "row_time": dg.MetadataValue.timestamp(from_us(result.row_us)),
                "snapshot_id": result.row_version,
                "preview": preview(feature_store, newest, personal=view.is_personal),
            }
        )

    return online


def build_stream_spec(view: FeatureView, compiled: Compiled, *, env: str) -> dg.AssetSpec:
    """A stream view's online values: nothing for Dagster to make, but a place in the lineage, and for checks."""
    return dg.AssetSpec(
        key=online_key(env, view),
        deps=[history_key(env, view), stream_key(env, view.source)],
        description=f"{view.description or view.name}\n\nKept fresh by the stream; Dagster only checks it.",
        group_name=view.entity.name,
        owners=declared.owners(view.owner),
        tags=dict(view.tags),
        kinds={"redis", "bytewax"},
        code_version=declared.view_version(view),
        metadata={
            **declared.view_metadata(view),
            **online_lineage(view, compiled, env=env),
            "dagster/column_schema": declared.served_columns(compiled.plan(view)),
        },
    )
