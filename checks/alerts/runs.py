"""What a run's end changes: a failure is made up for by runs that build the same days of the same assets."""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from feature_store_deploy.checks.alerts.spans import without
from feature_store_deploy.checks.alerts.state import FailedRun

ASSET_JOB = "__ASSET_JOB"
"""How Dagster calls the job of assets that somebody has chosen."""
SHOWN = 3
Entity = dg.AssetKey | dg.AssetCheckKey


def is_final(run: dg.DagsterRun) -> bool:
    """Whether a failure is the last word: Dagster will not try again by itself."""
    return run.tags.get(WILL_RETRY_TAG, "").lower() != "true"


def entities(instance: dg.DagsterInstance, run_id: str) -> list[Entity]:
    """The assets that a run was to build, in order; where it has none, its checks; nothing for a job without either."""
    planned = {dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}
    assets, checks = set[dg.AssetKey](), set[dg.AssetCheckKey]()
    for each in instance.all_logs(run_id, of_type=planned):
        data = each.get_dagster_event().event_specific_data
        if isinstance(data, AssetMaterializationPlannedData):
            assets.add(data.asset_key)
        elif isinstance(data, AssetCheckEvaluationPlanned):
            checks.add(data.asset_check_key)
    return sorted(assets or checks, key=text)


def is_of(of: Sequence[Entity], env: str) -> bool:
    """Whether a run of these concerns an environment; one without assets and checks concerns all."""
    assets = [key.asset_key if isinstance(key, dg.AssetCheckKey) else key for key in of]
    return not assets or any(key.path[0] == env for key in assets)


def text(key: Entity) -> str:
    """An entity as it stands in the state."""
    return key.to_user_string()


def run_name(run: dg.DagsterRun, of: Sequence[Entity]) -> str:
    """What people call a run: its job, or the assets that somebody has chosen."""
    if not run.job_name.startswith(ASSET_JOB):
        return run.job_name
    names = [text(key) for key in of]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def run_days(run: dg.DagsterRun) -> str:
    """The partitions of a run, as `Days` writes days; '' for none."""
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, run.tags.get(PARTITION_NAME_TAG, ""))
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
    return first if first == last else f"{first}/{last}"


def made_up(failed: Mapping[str, FailedRun], built: Sequence[str], days: str) -> list[str]:
    """The ids of failed runs that are made up for when a run has built these entities; what is left of others shrinks."""
    done = []
    for run_id, each in failed.items():
        for name in set(each.left) & set(built):
            each.left[name] = without(each.left[name], days)
            if not each.left[name]:
                del each.left[name]
        if not each.left:
            done.append(run_id)
    return done


def why(instance: dg.DagsterInstance, run_id: str, event: dg.DagsterEvent) -> str | None:
    """Why a run failed, in a line; None if a blocking check has stopped it, whose failure is told as that of the check."""
    steps = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [each.get_dagster_event().step_failure_data.error for each in steps]
    others = [each for each in errors if each is None or each.cls_name != DagsterAssetCheckFailedError.__name__]
    if errors and not others:
        return None
    error = others[0] if others else None
    while error is not None and error.cause is not None:
        error = error.cause
    said = error.message if error is not None and error.message else event.message
    return (said or "it failed").strip().splitlines()[0]
