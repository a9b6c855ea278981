"""`tiles/<view>` and `rows/<view>`: features from events."""

import time

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import events_key, history_key
from feature_store_deploy.assets.lineage import history_lineage
from feature_store_deploy.assets.partitions import HISTORY_POOL, lookback, window_of
from feature_store_deploy.assets.results import told_late, written

from feature_store.declare import FeatureView
from feature_store.lake.view_tables import built_table
from feature_store.store import FeatureStore
from feature_store.transforms.compiled import Compiled


def build_view_asset(
    view: FeatureView, compiled: Compiled, *, env: str, partitions: dg.PartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The asset that keeps a view in the lake: the rows of a batch view, the tiles of any other.

    A day's tiles need that day's events alone, so both run together; a day's rows look back over the longest window.
    """
    table = built_table(view)
    events = dg.AssetDep(events_key(env, view.source), partition_mapping=lookback(view) if view.is_batch else None)

    @dg.asset(
        key=history_key(env, view),
        deps=[events],
        description=declared.view_description(view),
        group_name=view.entity.name,
        owners=declared.owners(view.owner),
        tags=dict(view.tags),
        kinds={"ducklake", "duckdb"},
        code_version=declared.view_version(view),
        partitions_def=partitions,
        backfill_policy=policy,
        pool=HISTORY_POOL,
        metadata={**declared.view_metadata(view), **history_lineage(view, compiled, env=env)},
    )
    def features(
        context: dg.AssetExecutionContext, feature_store: dg.ResourceParam[FeatureStore]
    ) -> dg.MaterializeResult:
        start, end = window_of(context)
        begun = time.perf_counter()
        commits = feature_store.materialize(view.id, start=start, end=end)
        seconds = time.perf_counter() - begun
        columns = declared.lake_columns(feature_store.lake.columns(table), compiled.plan(view))
        rows, snapshot = sum(commit.rows for commit in commits), commits[-1].snapshot
        metadata = written(
            feature_store,
            table,
            rows=rows,
            snapshot=snapshot,
            days=(start, end),
            columns=columns,
            seconds=seconds,
            personal=view.is_personal,
        )
        if view.source.log is not None:
            metadata |= told_late(feature_store.late_events(view.id, start=start, end=end))
        return dg.MaterializeResult(metadata=metadata)

    return features
