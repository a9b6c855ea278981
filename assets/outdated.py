"""The sensor that has outdated days built again: one backfill of exactly the partitions that the lake's books name."""

import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus
from feature_store_deploy.assets.keys import events_key, history_key
from feature_store_deploy.assets.resource import STORE

from feature_store.declare import FeatureView
from feature_store.history.outdated import Reason, missing_loads, spans
from feature_store.history.outdated import outdated as outdated_views
from feature_store.registry import Registry
from feature_store.settings import Rebuild
from feature_store.store import FeatureStore

INTERVAL_S = 300
AGAIN_S = 3600
"""How long after a backfill that failed the next one is asked for."""
NEWEST = 100
"""Backfills among which its newest is looked for."""
TAG = "feature_store/outdated"
"""The tag of its backfills and their runs; the value is the environment."""

Outdated = Mapping[dg.AssetKey, Collection[date]]


def started(days: Mapping[date, frozenset[Reason]], rebuild: Rebuild) -> list[date]:
    """The days that the sensor has built again; the others are proposed."""
    by_itself = {"none": frozenset(), "events": frozenset(Reason) - {Reason.CHANGED}, "all": frozenset(Reason)}[rebuild]
    return [day for day, reasons in days.items() if reasons & by_itself]


def proposal(view: FeatureView, days: Collection[date], *, env: str) -> str:
    """The commands that build some days of a view."""
    name = "/".join(history_key(env, view).path[1:])
    return "\n".join(
        f"feature-store backfill {name} --start {first} --end {date.fromordinal(last.toordinal() + 1)}"
        for first, last in spans(days)
    )


def build_outdated_sensor(
    registry: Registry, *, env: str, partitions: dg.PartitionsDefinition, rebuild: Rebuild
) -> dg.SensorDefinition:
    """The sensor of an environment; it asks for one backfill at a time."""
    sources = [source for source in registry.sources.values() if source.load is not None and source.log is None]
    keys = [*(events_key(env, source) for source in sources), *(history_key(env, view) for view in registry.views)]

    def found(store: FeatureStore) -> Outdated:
        """What is to be started, by asset."""
        now_us = store.clock.now_us()
        of_views = outdated_views(store.lake, registry.views, now_us=now_us)
        days = {history_key(env, view): started(of_views[view.id], rebuild) for view in registry.views}
        loads = {} if rebuild == "none" else {each: missing_loads(store.lake, each, now_us=now_us) for each in sources}
        return {key: listed for key, listed in days.items() if listed} | {
            events_key(env, source): listed for source, listed in loads.items() if listed
        }

    @dg.sensor(
        name=f"{env}__outdated_sensor",
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={STORE},
        description="Has past days built again that late or loaded events have changed, that were missed, or that "
        "another definition made",
    )
    def outdated(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        waiting = _waits_for(context.instance, env)
        if waiting:
            return dg.SkipReason(waiting)
        store: FeatureStore = getattr(context.resources, STORE)
        wanted = _existing(found(store), partitions)
        if not wanted:
            return dg.SkipReason("every past day that would be built by itself is up to date")
        # Its own fields have types that mypy cannot see through the decorator.
        subset = AssetGraphSubset(  # type: ignore[call-arg]
            partitions_subsets_by_asset_key={
                key: partitions.subset_with_partition_keys(names) for key, names in wanted.items()
            },
        )
        return dg.SensorResult(run_requests=[dg.RunRequest.for_asset_graph_subset(subset, tags={TAG: env})])

    return outdated


def _existing(wanted: Outdated, partitions: dg.PartitionsDefinition) -> dict[dg.AssetKey, Sequence[str]]:
    """The partitions of days; history may begin before they do."""
    named = {
        key: [day.isoformat() for day in days if partitions.has_partition_key(day.isoformat())]
        for key, days in wanted.items()
    }
    return {key: names for key, names in named.items() if names}


def _waits_for(instance: dg.DagsterInstance, env: str) -> str | None:
    """The backfill of this sensor that is at work, or has failed a moment ago."""
    ours = (each for each in instance.get_backfills(limit=NEWEST) if each.tags.get(TAG) == env)
    for backfill in itertools.islice(ours, 1):
        if backfill.status not in BULK_ACTION_TERMINAL_STATUSES:
            return f"backfill {backfill.backfill_id} is at work"
        is_done = backfill.status is BulkActionStatus.COMPLETED_SUCCESS
        if not is_done and time.time() - backfill.backfill_timestamp < AGAIN_S:  # Dagster's own books, not the store's
            return f"backfill {backfill.backfill_id} did not succeed; the next one is asked for an hour after it began"
    return None
