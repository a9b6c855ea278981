"""Checks from code: evaluated in this process, kept in Dagster's books like any other."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from feature_store_deploy.assets.books import quicken_books
from feature_store_deploy.assets.instance import dagster_instance
from feature_store_deploy.checks.schedules import KINDS, job_name
from feature_store_deploy.checks.steps import takes_days
from feature_store_deploy.checks.window import Days

from feature_store.errors import FeatureStoreError, UnknownNameError
from feature_store.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check said."""

    asset: str
    check: str
    passed: bool
    severity: str
    description: str


def evaluate_checks(
    definitions: dg.Definitions,
    settings: Settings,
    *,
    jobs: Sequence[str] = KINDS,
    days: Days | None = None,
) -> list[Verdict]:
    """Evaluate the checks of some jobs; drift needs some ten seconds, most of them for Evidently.

    Args:
        definitions: where the checks are.
        settings: of the deployment whose checks they are, and whose books tell of them.
        jobs: `WATCH`: freshness and parity; `SKEW`: what was served; `DRIFT`: values; `UPKEEP`: what piles up.
        days: what drift looks at; by default the newest days.

    Raises:
        UnknownNameError: no such job.
        FeatureStoreError: a check could not be evaluated; the UI shows why.
    """
    for name in jobs:
        if name not in KINDS:
            raise UnknownNameError("kind of check", name, KINDS)
    quicken_books()
    with dagster_instance(settings) as instance:
        named = [job_name(settings.environment, name) for name in jobs]
        return [verdict for name in named for verdict in _evaluate(definitions, instance, name, days)]


def _evaluate(definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, days: Days | None) -> list[Verdict]:
    job = definitions.resolve_job_def(name)
    asked = {op.name: {"config": {"days": str(days)}} for op in job.graph.node_defs if days and takes_days(op)}
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config={"ops": asked})
    if not result.success:
        raise FeatureStoreError(f"checks could not be evaluated; Dagster's run {result.run_id} shows why")
    return [
        Verdict(
            asset=each.asset_key.to_user_string(),
            check=each.check_name,
            passed=each.passed,
            severity=each.severity.value,
            description=each.description or "",
        )
        for each in result.get_asset_check_evaluations()
    ]
