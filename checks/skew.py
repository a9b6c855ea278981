"""`training_serving_skew_score`: what readers were served of late is, bit for bit, what the lake says it should have been.

Not `online_parity`, which reads some entities now; this is about what models really got.
"""

import dagster as dg
from feature_store_deploy.assets.keys import served_vectors_key
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.checks.declared import outcome, stated
from feature_store_deploy.checks.policy import as_declared, check_of, spec_of
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.declare import FeatureService
from feature_store.proof.verify import Verdict
from feature_store.time_rule import HOUR_US

NAME = "training_serving_skew_score"
LOOKED_US = HOUR_US
"""How far back from now vectors are verified; `feature-store verify` takes any time."""
SHOWN = 20


def build_skew_check(service: FeatureService, *, env: str) -> Checks | None:
    """The check of a service's served vectors; None if the declaration wants none."""
    check = check_of(service, NAME)
    if check is None:
        return None
    described = f"What readers of '{service.id}' were served is what is recomputed from the lake, to the last bit"
    spec = spec_of(served_vectors_key(env, service), NAME, check, description=described, owner=service.owner)

    def training_serving_skew_score(step: Step) -> dg.AssetCheckResult:
        since_us = step.store.clock.now_us() - LOOKED_US
        [verdict] = step.store.verify(service.id, since_us=since_us)
        return as_declared(judge(verdict, service.owner), NAME, check)

    return Checks.of_one(spec, training_serving_skew_score)


def judge(verdict: Verdict, owner: str | None) -> dg.AssetCheckResult:
    """The result of the check: red if a value is unequal for a reason that is not excused."""
    causes = ", ".join(f"{cause} {count}" for cause, count in sorted(verdict.causes.items()))
    said = f"{verdict.unequal} of {verdict.values} values are unequal{f': {causes}' if causes else ''}"
    if verdict.oracle_unequal:
        said += f"; SQL says otherwise of {verdict.oracle_unequal} more"
    return outcome(
        passed=verdict.defects == 0,
        description=said if verdict.vectors else "no vectors were served of late",
        owner=owner,
        metadata=_told(verdict.masked),
    )


def _told(verdict: Verdict) -> dict[str, object]:
    counted = ("vectors", "values", "unequal", "excused", "defects", "unknown", "stale_unequal", "pending",
               "oracle_values", "oracle_unequal")  # fmt: skip
    told: dict[str, object] = stated(
        reference="what is recomputed from the lake",
        sample_size=verdict.vectors,
        method="equality of bits, of what readers logged within the last hour; differences that are excused do not count",
        figure=verdict.defects,
        limit=0,
    )
    told |= {NAME: verdict.score, **{name: getattr(verdict, name) for name in counted}}
    told |= {f"cause: {cause}": count for cause, count in verdict.causes.items()}
    if verdict.unequals:
        columns = ("cause", "feature", "entity", "served", "recomputed", "vector", "why")
        rows = [
            [each.cause, found.feature, dict(each.entity), found.served, found.recomputed, found.vector, each.detail]
            for each in verdict.unequals[:SHOWN]
            for found in (each.difference,)
        ]
        told["differences"] = dg.MetadataValue.md(table(columns, rows))
    return told
