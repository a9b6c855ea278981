"""When assets and checks run by themselves; a batch view's newest rows as soon as their step is over."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from feature_store_deploy.assets.keys import events_key, history_key, online_key, op_name
from feature_store_deploy.assets.partitions import newest_partition

from feature_store.declare import FeatureView
from feature_store.registry import Registry
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, format_duration, to_us

AFTER_MINUTES = 1
"""How long after a step its rows are built: the last events before it are still on their way to the lake."""

FIRST = {"dagster/priority": "1"}
"""Tags of runs that are started before those of a backfill."""


def build_schedule(name: str, selection: dg.AssetSelection, *, cron: str, description: str) -> dg.ScheduleDefinition:
    """The schedule `<name>__schedule` of a job `<name>__job`, in UTC, running from the start."""
    return dg.ScheduleDefinition(
        name=f"{name}__schedule",
        job=dg.define_asset_job(f"{name}__job", selection=selection, description=description),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )


def build_history_job(registry: Registry, *, env: str) -> UnresolvedAssetJobDefinition:
    """The one job of all views' schedules, of which each runs its own assets: a job costs as much as the graph is large."""
    keys = dict.fromkeys(key for view in registry.views for key in _scheduled(view, env=env))
    return dg.define_asset_job(
        f"{env}__history__job",
        selection=dg.AssetSelection.assets(*keys),
        description="Builds the newest days of views, and publishes those of batch views",
        tags=FIRST,
    )


def build_view_schedule(view: FeatureView, job: UnresolvedAssetJobDefinition, *, env: str) -> dg.ScheduleDefinition:
    """The schedule of a view: rows of a batch view with each step, and published; tiles of any other with each day.

    A source without a log is loaded first.
    """
    every_us = view.every_us if view.is_batch else DAY_US
    what = "Builds and publishes the newest rows" if view.is_batch else "Builds the tiles of the newest day"

    @dg.schedule(
        name=f"{op_name(history_key(env, view))}__schedule",
        job=job,
        cron_schedule=cron(every_us),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{what} of '{view.id}', every {format_duration(every_us)}",
    )
    def newest(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at_us = to_us(context.scheduled_execution_time)
        return dg.RunRequest(
            partition_key=newest_partition(at_us, every_us=every_us), asset_selection=_scheduled(view, env=env)
        )

    return newest


def _scheduled(view: FeatureView, *, env: str) -> list[dg.AssetKey]:
    is_loaded = view.source.log is None and view.source.load is not None
    return [
        *([events_key(env, view.source)] if is_loaded else []),
        history_key(env, view),
        *([online_key(env, view)] if view.is_batch else []),
    ]


def cron(every_us: int) -> str | list[str]:
    """When to run: `AFTER_MINUTES` after each step of a day; steps below a minute share one run a minute."""
    minutes = max(every_us // MINUTE_US, 1)
    if every_us <= HOUR_US and 60 % minutes == 0:
        listed = ",".join(str((minute + AFTER_MINUTES) % 60) for minute in range(0, 60, minutes))
        return "* * * * *" if minutes == 1 else f"{listed} * * * *"
    steps = [step // MINUTE_US for step in range(0, DAY_US, every_us)]
    return [f"{(step + AFTER_MINUTES) % 60} {(step + AFTER_MINUTES) // 60} * * *" for step in steps]
