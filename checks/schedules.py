"""When checks run that no load triggers: of the present every five minutes, of what was served every ten, of what
piles up once an hour, of values once a day.
"""

from collections.abc import Collection, Sequence

import dagster as dg
from feature_store_deploy.assets.schedules import build_schedule
from feature_store_deploy.checks.declared import (
    CATEGORIES,
    DEAD_LETTERS,
    DEFAULT_VALUE_RATE,
    HEALTH,
    MISSING_RATE,
    RANGE,
    VOLUME,
)
from feature_store_deploy.checks.declared import DRIFT as DRIFT_CHECK
from feature_store_deploy.checks.outdated import NAME as UP_TO_DATE
from feature_store_deploy.checks.skew import NAME as SKEW_CHECK

WATCH, SKEW, DRIFT, UPKEEP = "watch", "skew", "drift", "upkeep"
KINDS = (WATCH, SKEW, DRIFT, UPKEEP)
_PRESENT = ("freshness", "online_parity", UP_TO_DATE)
_SERVED = (SKEW_CHECK, DEFAULT_VALUE_RATE)
_VALUES = (VOLUME, MISSING_RATE, RANGE, CATEGORIES, DRIFT_CHECK)
_UPKEEP = (DEAD_LETTERS, HEALTH)


def job_name(env: str, name: str) -> str:
    """The name of a check job, one of `KINDS`, in an environment."""
    return f"{_named(env, name)}__job"


def build_check_schedules(checks: Sequence[dg.AssetChecksDefinition], *, env: str) -> list[dg.ScheduleDefinition]:
    """The schedules of the checks that look at the newest days or at the present, with their jobs."""
    keys = [key for each in checks for key in each.check_keys]
    vectors = dg.AssetSelection.assets(*(key.asset_key for key in keys if key.name == SKEW_CHECK))
    return [
        _schedule(env, WATCH, _of(keys, _PRESENT), "*/5 * * * *", "Do readers get fresh values, and the right ones?"),
        _schedule(env, SKEW, vectors | _of(keys, _SERVED), "7-59/10 * * * *", "Was what was served right, and there?"),
        _schedule(env, DRIFT, _of(keys, _VALUES), "10 3 * * *", "Is the newest day as days and training sets were?"),
        _schedule(env, UPKEEP, _of(keys, _UPKEEP), "20 * * * *", "Has anything piled up: dead letters, files, days?"),
    ]


def _of(keys: Sequence[dg.AssetCheckKey], names: Collection[str]) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(key for key in keys if key.name in names))


def _schedule(env: str, name: str, selection: dg.AssetSelection, cron: str, description: str) -> dg.ScheduleDefinition:
    return build_schedule(_named(env, name), selection, cron=cron, description=description)


def _named(env: str, name: str) -> str:
    return f"{env}__{name}"
