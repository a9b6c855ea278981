"""`dead_letters`: of what came over a source's log, nearly everything was an event."""

import dagster as dg
from feature_store_deploy.assets.keys import events_key
from feature_store_deploy.checks.declared import DEAD_LETTERS, Figure, Measurement, judged
from feature_store_deploy.checks.policy import check_of, severity_of, spec_of
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.dead_letters import LETTERS, Wanted, count_letters
from feature_store.declare import EventSource
from feature_store.declare.check import Check
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US

LIMIT, FEW = 0.01, 5
"""The share of records that may be no event, unless the declaration says otherwise; so few never make the check red."""
LOOKED_US = DAY_US
COUNTED = ("rejected", "conflict")
"""Kinds of letters; a duplicate is no defect."""
METHOD = "share of records of the last 24 hours that are no event, or contradict one"


def build_dead_letters_check(source: EventSource, *, env: str) -> Checks | None:
    """The check of a source with a log; None if the declaration wants none."""
    check = check_of(source, DEAD_LETTERS)
    if check is None:
        return None
    described = f"Of the records of '{source.name}' hardly any is a dead letter"
    spec = spec_of(events_key(env, source), DEAD_LETTERS, check, description=described, owner=source.owner)

    def dead_letters(step: Step) -> dg.AssetCheckResult:
        found = measure_dead_letters(step.store, source, check)
        return judged(found, key=spec.key, owner=source.owner, severity=severity_of(DEAD_LETTERS, check))

    return Checks.of_one(spec, dead_letters)


def measure_dead_letters(store: FeatureStore, source: EventSource, check: Check) -> Measurement:
    """The share of dead letters among the records that arrived within `LOOKED_US`."""
    since_us = store.clock.now_us() - LOOKED_US
    counts = [
        each
        for each in count_letters(store.lake, Wanted(source=source.name, since_us=since_us))
        if each.kind in COUNTED and each.example is not None
    ]
    letters = sum(each.letters for each in counts)
    events = store.lake.live_rows_since(source.name, since_us)
    records = letters + events
    limit = max(LIMIT, FEW / max(records, 1)) if check.limit is None else check.limit
    said = f"{letters:,} of {records:,}" + (f", most often {counts[0].kind}: {counts[0].reason}" if counts else "")
    personal = store.registry.is_personal(source.name)
    return Measurement(
        figures=[
            Figure(
                name="records",
                value=letters / max(records, 1),
                limit=limit,
                said=f"{letters:,} of {records:,}" if personal else said,
            )
        ],
        reference="the declaration",
        sample_size=records,
        method=METHOD,
        metadata={
            "letters": letters,
            "next": f"`feature-store dead-letters list {source.name}`; they stand in the lake's table `{LETTERS}`",
        },
    )
