"""When checks run that no load triggers: of the present every five minutes, of what was served every ten, of
distributions once a day.
"""

from collections.abc import Sequence

import dagster as dg
from feature_store_deploy.assets.schedules import build_schedule
from feature_store_deploy.checks.outdated import NAME as UP_TO_DATE
from feature_store_deploy.checks.skew import NAME as SKEW_CHECK

WATCH, SKEW, DRIFT = "watch", "skew", "drift"
KINDS = (WATCH, SKEW, DRIFT)


def job_name(env: str, name: str) -> str:
    """The name of a check job, one of `KINDS`, in an environment."""
    return f"{_named(env, name)}__job"


def build_check_schedules(checks: Sequence[dg.AssetChecksDefinition], *, env: str) -> list[dg.ScheduleDefinition]:
    """The schedules of the checks that look at the newest days or at the present, with their jobs."""
    present = [each for each in checks if _names(each) & {"freshness", "online_parity", UP_TO_DATE}]
    served = [each for each in checks if _names(each) == {SKEW_CHECK}]
    drifting = [each for each in checks if _names(each) == {"drift"}]
    vectors = dg.AssetSelection.assets(*(key.asset_key for each in served for key in each.check_keys))
    return [
        _schedule(env, WATCH, _of(present), "*/5 * * * *", "Do readers get fresh values, and the right ones?"),
        _schedule(env, SKEW, vectors | _of(served), "7-59/10 * * * *", "Was what was served right?"),
        _schedule(env, DRIFT, _of(drifting), "10 3 * * *", "Have the newest days moved away from those before?"),
    ]


def _of(checks: Sequence[dg.AssetChecksDefinition]) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*checks)


def _names(checks: dg.AssetChecksDefinition) -> set[str]:
    return {key.name for key in checks.check_keys}


def _schedule(env: str, name: str, selection: dg.AssetSelection, cron: str, description: str) -> dg.ScheduleDefinition:
    return build_schedule(_named(env, name), selection, cron=cron, description=description)


def _named(env: str, name: str) -> str:
    return f"{env}__{name}"
