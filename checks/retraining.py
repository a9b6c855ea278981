"""Retraining: when the drift of a service goes over its limit, a training set is proposed, or made, once for each such change.

The proposal is an evaluation of the check `retraining` of `training/<service>`, so it is told as any failed check is, and is
taken back when the drift is over. It names the report, the baseline, and the steps to a new one.
"""

import dagster as dg
from feature_store_deploy.assets.keys import op_name, training_key
from feature_store_deploy.checks.declared import DRIFT, OWNER, outcome, spec_metadata
from feature_store_deploy.checks.drifted import DRIFTED, MANIFEST, Drifted, newest_drift
from feature_store_deploy.checks.policy import check_of
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.declare import FeatureService
from feature_store.settings import Settings

RETRAINING = "retraining"
TAG = "feature_store/retraining"
"""Of a run that drift has started: the number of the evaluation that was red. Of a proposal: `proposed`."""
_PROPOSED, _WITHDRAWN = "proposed", "withdrawn"
INTERVAL_S = 60
SHOWN = 5


def said_of(found: Drifted, service: FeatureService, key: dg.AssetKey, *, started: bool) -> str:
    """What a person should know and do; `key` is that of the training set."""
    if not found.features:
        return f"'{service.id}' is distributed as its baseline"
    named = ", ".join(found.features[:SHOWN]) + (", ..." if len(found.features) > SHOWN else "")
    begun = "a run of it has been started" if started else f"materialize `{'/'.join(key.path[1:])}`"
    parts = [
        f"'{service.id}' has moved away from what its model was trained on: {named}",
        f"baseline {found.baseline or 'none, compared with the days before'}",
        *([f"report {found.report}"] if found.report else []),
        f"next: {begun}, train, and accept its manifest: `feature-store baseline {service.id} MANIFEST`",
    ]
    return "; ".join(parts)


def build_retraining_check(service: FeatureService, *, env: str) -> Checks | None:
    """The check that says whether a model should be trained again; None where drift is not checked."""
    key = training_key(env, service)
    if check_of(service, DRIFT) is None:
        return None
    described = f"The model of '{service.id}' need not be trained again: drift is within its limits"
    spec = dg.AssetCheckSpec(RETRAINING, asset=key, description=described, metadata=spec_metadata(service.owner))

    def retraining(step: Step) -> dg.AssetCheckResult:
        found = newest_drift(step.instance, key)
        return outcome(
            passed=found is None or not found.features,
            severity=dg.AssetCheckSeverity.WARN,
            description="drift was not checked yet" if found is None else said_of(found, service, key, started=False),
            owner=service.owner,
            metadata={} if found is None else _told(found),
        )

    return Checks.of_one(spec, retraining)


def build_retraining_sensor(service: FeatureService, settings: Settings) -> dg.SensorDefinition | None:
    """The sensor of a service; None where there is nothing to propose. Its cursor says whether a proposal stands, and since which evaluation."""
    env = settings.environment
    key, starts = training_key(env, service), settings.retraining == "start"
    if check_of(service, DRIFT) is None or settings.retraining == "off":
        return None

    @dg.sensor(
        name=f"{op_name(key)}__retraining_sensor",
        asset_selection=dg.AssetSelection.assets(key),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"{'Starts' if starts else 'Proposes'} a training set of '{service.id}' when its drift goes over its limit",
    )
    def retraining(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found, proposed = newest_drift(context.instance, key), (context.cursor or "").startswith(_PROPOSED)
        if found is None or bool(found.features) == proposed:
            return dg.SkipReason("nothing has changed")
        said = said_of(found, service, key, started=starts)
        context.instance.report_runless_asset_event(_evaluation(key, service, found, said))
        cursor = f"{_PROPOSED if found.features else _WITHDRAWN} {found.number}"
        if not found.features:
            return dg.SensorResult(cursor=cursor, skip_reason=f"no longer: {said}")
        context.log.warning(said)
        requests = [dg.RunRequest(run_key=f"{service.id}/{found.number}", tags={TAG: str(found.number)})]
        return dg.SensorResult(cursor=cursor, **({"run_requests": requests} if starts else {"skip_reason": said}))

    return retraining


def _evaluation(key: dg.AssetKey, service: FeatureService, found: Drifted, said: str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=RETRAINING,
        passed=not found.features,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
        metadata={OWNER: dg.MetadataValue.text(service.owner or "nobody"), **_told(found)},
    )


def _told(found: Drifted) -> dict[str, dg.MetadataValue]:
    return {
        "evaluation": dg.MetadataValue.int(found.number),
        TAG: dg.MetadataValue.text(_PROPOSED if found.features else _WITHDRAWN),
        DRIFTED: dg.MetadataValue.json(list(found.features)),
        **({"report_link": dg.MetadataValue.url(found.report)} if found.report else {}),
        **({MANIFEST: dg.MetadataValue.path(found.baseline)} if found.baseline else {}),
    }
