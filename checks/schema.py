"""`schema`: every loaded row is an event by the source's Pandera model, and contradicts no other."""

import dagster as dg
from feature_store_deploy.assets.events import CONFLICTS, REJECTED, SAMPLE
from feature_store_deploy.assets.keys import events_key
from feature_store_deploy.checks.declared import outcome, stated
from feature_store_deploy.checks.policy import WARN, check_of, severity_of, spec_of
from feature_store_deploy.checks.steps import Checks, Step
from feature_store_deploy.checks.window import days_of_run

from feature_store.declare import EventSource


def build_schema_check(source: EventSource, *, env: str) -> Checks | None:
    """The check of a source's load; what was built from it waits until no row is refused, unless the declaration says otherwise.

    Loading divides good rows from rejected ones and keeps both, so the check reads what the load has counted. Rows that
    contradict an event are a warning that nothing waits for: the event stands as it first came.
    """
    key, check = events_key(env, source), check_of(source, "schema")
    if check is None:
        return None
    severity = severity_of("schema", check)
    described = f"No row of '{source.name}' is refused: types, nulls, ranges ({source.schema.__name__}), ids, times"
    spec = spec_of(key, "schema", check, description=described, owner=source.owner)

    def schema(step: Step) -> dg.AssetCheckResult:
        days = days_of_run(step.run)
        found = _latest(step.instance, key, partition=str(days.last) if days else None)
        if found is None:
            return outcome(passed=True, description="nothing was loaded yet", owner=source.owner, days=days)
        rejected, conflicts = (int(str(found.metadata[name].value)) for name in (REJECTED, CONFLICTS))
        said = [f"{rejected} rows were refused"] if rejected else []
        said += [f"{conflicts} rows contradict an event, which stands as it first came"] if conflicts else []
        rows = int(str(found.metadata["rows_written"].value)) if "rows_written" in found.metadata else 0
        metadata = {
            **stated(
                reference=source.schema.__name__,
                sample_size=rows + rejected,
                method="every row against the Pandera model, and the rules of ids and times",
                figure=rejected,
                limit=0,
            ),
            REJECTED: rejected,
            CONFLICTS: conflicts,
            **{name: found.metadata[name] for name in (SAMPLE,) if name in found.metadata},
        }
        return outcome(
            passed=not said,
            severity=severity if rejected else WARN,
            description="; ".join(said) or "every row is an event",
            owner=source.owner,
            days=days,
            metadata=metadata,
        )

    return Checks.of_one(spec, schema)


def _latest(instance: dg.DagsterInstance, key: dg.AssetKey, *, partition: str | None) -> dg.AssetMaterialization | None:
    """What the newest load (of a day) has said."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None
