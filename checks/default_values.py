"""`default_value_rate`: readers of a service are rarely given a declared default instead of a value."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.assets.keys import served_vectors_key
from feature_store_deploy.checks.declared import DEFAULT_VALUE_RATE, Figure, Measurement, judged
from feature_store_deploy.checks.policy import check_of, severity_of, spec_of
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.declare import FeatureService
from feature_store.declare.check import Check
from feature_store.proof.layout import served_layout
from feature_store.proof.served_log import SERVED
from feature_store.proof.served_table import read_served
from feature_store.status import Status
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US

LIMIT, FEW = 0.05, 5
"""The share of values that may be defaults, unless the declaration says otherwise; so few never make the check red."""
LOOKED_US = DAY_US
METHOD = "share of logged vectors of the last 24 hours in which the feature was served by its default"


def build_default_values_check(service: FeatureService, *, env: str) -> Checks | None:
    """The check of a service's served vectors; None if the declaration wants none."""
    check = check_of(service, DEFAULT_VALUE_RATE)
    if check is None:
        return None
    described = f"Readers of '{service.id}' rarely get a default: the value is there"
    key = served_vectors_key(env, service)
    spec = spec_of(key, DEFAULT_VALUE_RATE, check, description=described, owner=service.owner)

    def default_value_rate(step: Step) -> dg.AssetCheckResult:
        found = measure_default_values(step.store, service, check)
        return judged(found, key=spec.key, owner=service.owner, severity=severity_of(DEFAULT_VALUE_RATE, check))

    return Checks.of_one(spec, default_value_rate)


def measure_default_values(store: FeatureStore, service: FeatureService, check: Check) -> Measurement:
    """The share of defaults, of each feature that is watched."""
    since_us = store.clock.now_us() - LOOKED_US
    vectors = read_served(store.compiled, store.lake, service.id, where=f"{SERVED} >= {since_us}")
    layout = served_layout(store.compiled, service.id)
    replaced = replaced_statuses(service)
    figures = []
    for feature in layout.features if vectors.num_rows else ():
        if feature.name in check.by and check.by[feature.name] is None:
            continue
        statuses = vectors.column(feature.status).drop_null()
        defaults = int(pc.sum(pc.is_in(statuses, value_set=pa.array(replaced, statuses.type))).as_py() or 0)
        declared = check.by.get(feature.name, check.limit)
        limit = float(declared) if isinstance(declared, int | float) else max(LIMIT, FEW / max(len(statuses), 1))
        said = f"{defaults:,} of {len(statuses):,}"
        figures.append(Figure(name=feature.name, value=defaults / max(len(statuses), 1), limit=limit, said=said))
    return Measurement(
        figures=figures,
        reference="the declaration",
        sample_size=vectors.num_rows,
        method=METHOD,
        said="no vectors were logged in the last 24 hours",
    )


def replaced_statuses(service: FeatureService) -> list[int]:
    """The statuses of values in whose place a service serves the default."""
    policies = ((Status.STALE, service.on_stale), (Status.AHEAD, service.on_ahead))
    return [int(Status.UNKNOWN), *(int(status) for status, policy in policies if policy == "default")]
