"""When checks run that no load triggers: of the present every five minutes, of distributions once a day."""

from collections.abc import Sequence

import dagster as dg

WATCH, DRIFT = "watch", "drift"


def job_name(env: str, name: str) -> str:
    """The name of a check job, `WATCH` or `DRIFT`, in an environment."""
    return f"{env}__{name}__job"


def build_check_schedules(checks: Sequence[dg.AssetChecksDefinition], *, env: str) -> list[dg.ScheduleDefinition]:
    """The schedules of the checks that look at the newest days or at the present, with their jobs."""
    present = [each for each in checks if _names(each) & {"freshness", "online_parity"}]
    drifting = [each for each in checks if _names(each) == {"drift"}]
    return [
        _schedule(env, WATCH, present, "*/5 * * * *", "Do readers get fresh values, and the right ones?"),
        _schedule(env, DRIFT, drifting, "10 3 * * *", "Have the newest days moved away from those before?"),
    ]


def _names(checks: dg.AssetChecksDefinition) -> set[str]:
    return {key.name for key in checks.check_keys}


def _schedule(
    env: str, name: str, checks: Sequence[dg.AssetChecksDefinition], cron: str, description: str
) -> dg.ScheduleDefinition:
    job = dg.define_asset_job(job_name(env, name), selection=dg.AssetSelection.checks(*checks), description=description)
    return dg.ScheduleDefinition(
        name=f"{env}__{name}__schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
