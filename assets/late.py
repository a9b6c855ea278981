"""One sensor per view that brings past days up to date when late events came after they were built."""

import dagster as dg
from feature_store_deploy.assets.keys import history_key, op_name
from feature_store_deploy.assets.resource import STORE

from feature_store.declare import FeatureView
from feature_store.history.outdated import built_table, outdated_days
from feature_store.store import FeatureStore
from feature_store.time_rule import HOUR_US

INTERVAL_S = 300
MOST_DAYS = 31
"""Days that one look asks for; the next asks for the others."""


def is_recomputed(view: FeatureView) -> bool:
    """Whether late events have past days of a view built again: tiles, and rows whose policy is `recompute`."""
    return view.source.log is not None and (not view.is_batch or view.late_events == "recompute")


def build_late_sensor(view: FeatureView, *, env: str) -> dg.SensorDefinition:
    """The sensor of a view. A day is asked for once an hour at most until it has been built."""
    key = history_key(env, view)
    name = op_name(key)
    table = built_table(view)
    job = dg.define_asset_job(
        f"{name}__late_job",
        selection=dg.AssetSelection.assets(key),
        description=f"Builds past days of '{view.id}' again",
    )

    @dg.sensor(
        name=f"{name}__late_sensor",
        job=job,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={STORE},
        description=f"Past days of '{view.id}' that late events have changed",
    )
    def late_days(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        store: FeatureStore = getattr(context.resources, STORE)
        now_us = store.clock.now_us()
        days = outdated_days(store.lake, view, now_us=now_us)
        if not days:
            return dg.SkipReason(f"every past day of '{view.id}' knows its events")
        built = store.lake.newest_builds(table)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    partition_key=day.isoformat(), run_key=f"{view.id}/{day}/{built[day]}/{now_us // HOUR_US}"
                )
                for day in days[:MOST_DAYS]
            ]
        )

    return late_days
