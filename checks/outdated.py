"""`up_to_date`: no past day waits for somebody to build it again."""

import dagster as dg
from feature_store_deploy.assets.keys import history_key
from feature_store_deploy.assets.outdated import proposal, started
from feature_store_deploy.checks.declared import outcome, spec_metadata
from feature_store_deploy.checks.steps import Checks, Step
from feature_store_deploy.checks.window import is_backfill

from feature_store.declare import FeatureView
from feature_store.history.outdated import counted, outdated_days
from feature_store.settings import Rebuild
from feature_store.store import FeatureStore

NAME = "up_to_date"


def build_outdated_check(view: FeatureView, *, env: str, rebuild: Rebuild) -> Checks:
    """The check of a view. It proposes what the sensor does not start by itself."""
    key = history_key(env, view)
    described = f"No past day of '{view.id}' waits for somebody to build it again"
    spec = dg.AssetCheckSpec(NAME, asset=key, description=described, metadata=spec_metadata(view.owner))

    def up_to_date(step: Step) -> dg.AssetCheckResult | None:
        return None if is_backfill(step.run) else _judge(view, step.store, env=env, rebuild=rebuild)

    return Checks.of_one(spec, up_to_date)


def _judge(view: FeatureView, store: FeatureStore, *, env: str, rebuild: Rebuild) -> dg.AssetCheckResult:
    found = outdated_days(store.lake, view, now_us=store.clock.now_us())
    by_itself = set(started(found, rebuild))
    waiting = {day: reasons for day, reasons in found.items() if day not in by_itself}
    metadata: dict[str, object] = {"outdated_days": len(found), "started_days": len(by_itself)}
    said = "no day waits"
    if waiting:
        why = ", ".join(f"{reason}: {days}" for reason, days in counted(waiting).items())
        said = f"{len(waiting)} days should be built again ({why})"
        metadata["next_step"] = proposal(view, waiting, env=env)
    return outcome(
        passed=not waiting,
        description=said,
        owner=view.owner,
        metadata=metadata,
        severity=dg.AssetCheckSeverity.WARN,
    )
