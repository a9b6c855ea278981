"""When assets and checks run by themselves; a batch view's newest rows as soon as their step is over."""

import dagster as dg
from feature_store_deploy.assets.keys import events_key, history_key, online_key, op_name
from feature_store_deploy.assets.partitions import newest_partition

from feature_store.declare import FeatureView
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, format_duration, to_us

AFTER_MINUTES = 1
"""How long after a step its rows are built: the last events before it are still on their way to the lake."""


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


def build_view_schedule(view: FeatureView, *, env: str) -> dg.ScheduleDefinition:
    """The schedule of a batch view. A source without a log is loaded first."""
    chosen = [history_key(env, view), online_key(env, view)]
    if view.source.log is None and view.source.load is not None:
        chosen.insert(0, events_key(env, view.source))
    name = op_name(history_key(env, view))
    job = dg.define_asset_job(
        f"{name}__job",
        selection=dg.AssetSelection.assets(*chosen),
        description=f"Builds and publishes the newest rows of '{view.id}'",
    )

    @dg.schedule(
        name=f"{name}__schedule",
        job=job,
        cron_schedule=cron(view.every_us),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Builds and publishes '{view.id}' every {format_duration(view.every_us)}",
    )
    def newest_rows(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at_us = to_us(context.scheduled_execution_time)
        return dg.RunRequest(partition_key=newest_partition(at_us, every_us=view.every_us))

    return newest_rows


def cron(every_us: int) -> str | list[str]:
    """When to run: `AFTER_MINUTES` after each step of a day; steps below a minute share one run a minute."""
    minutes = max(every_us // MINUTE_US, 1)
    if every_us <= HOUR_US and 60 % minutes == 0:
        listed = ",".join(str((minute + AFTER_MINUTES) % 60) for minute in range(0, 60, minutes))
        return "* * * * *" if minutes == 1 else f"{listed} * * * *"
    steps = [step // MINUTE_US for step in range(0, DAY_US, every_us)]
    return [f"{(step + AFTER_MINUTES) % 60} {(step + AFTER_MINUTES) // 60} * * *" for step in steps]
