"""`events/<source>`: history into the lake."""

import time

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import events_key, source_key
from feature_store_deploy.assets.lineage import events_lineage
from feature_store_deploy.assets.partitions import HISTORY_POOL, window_of
from feature_store_deploy.assets.rejected import rejected_sample
from feature_store_deploy.assets.results import written

from feature_store.declare import EventSource
from feature_store.lake.events import loaded_table
from feature_store.store import FeatureStore
from feature_store.transforms.compiled import Compiled

REJECTED, CONFLICTS = "rejected", "conflicts"
"""Metadata: how many rows of the run's days were no events, and how many contradicted one; what the schema check reads."""
SAMPLE = "rejected_rows"
"""Metadata: some of them."""


def build_events_asset(
    source: EventSource, compiled: Compiled, *, env: str, partitions: dg.PartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The asset that loads days of a source's history; each run replaces its days, whole or not at all."""
    schema = compiled.schemas[source.name]
    columns = declared.arrow_columns(schema)

    @dg.asset(
        key=events_key(env, source),
        deps=[source_key(env, source)],
        description=declared.source_description(source),
        group_name="sources",
        owners=declared.owners(source.owner),
        kinds={"ducklake", "parquet"},
        code_version=declared.source_version(source, schema),
        partitions_def=partitions,
        backfill_policy=policy,
        pool=HISTORY_POOL,
        metadata={
            "dagster/column_schema": columns,
            "event_time": source.event_time,
            "event_id": ", ".join(source.id_columns),
            **events_lineage(source, schema, env=env),
        },
    )
    def events(
        context: dg.AssetExecutionContext, feature_store: dg.ResourceParam[FeatureStore]
    ) -> dg.MaterializeResult:
        start, end = window_of(context)
        begun = time.perf_counter()
        result = feature_store.load(source.name, start=start, end=end)
        seconds = time.perf_counter() - begun
        metadata = {
            **written(
                feature_store,
                loaded_table(source.name),
                rows=result.rows,
                snapshot=result.snapshot,
                days=(start, end),
                columns=columns,
                seconds=seconds,
                personal=compiled.registry.is_personal(source.name),
            ),
            "duplicates": result.duplicates,
            REJECTED: result.rejected,
            CONFLICTS: result.conflicts,
        }
        if result.rejected or result.conflicts:
            metadata[SAMPLE] = dg.MetadataValue.md(rejected_sample(feature_store, source, start=start, end=end))
        return dg.MaterializeResult(metadata=metadata)

    return events
