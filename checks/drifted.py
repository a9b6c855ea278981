"""What the newest evaluation of a service's drift has said, and so what the next one compares with.

A training set that is made while drift is over its limit may be made of what has drifted, so it is a candidate alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from feature_store_deploy.checks.declared import DRIFT, REFERENCE
from feature_store_deploy.checks.window import Days

from feature_store.declare import FeatureService
from feature_store.errors import InputError
from feature_store.history.baseline import Baseline, read_baseline
from feature_store.store import FeatureStore

MANIFEST = "baseline"
"""Metadata: the manifest that was compared with; nothing where there is none."""
CANDIDATE = "candidate"
"""Metadata: the manifest of the newest training set, where it was not compared with."""
ASKED = "reference_asked"
"""Metadata: somebody has asked for other days to compare with, which says nothing about what a model was trained on."""
DRIFTED = "drifted"
"""Metadata: what is over its limit; nothing where nothing was measured."""
LOOKED_BACK = 100
_DECIDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """An evaluation of a service's drift."""

    number: int
    """Of the evaluation, in Dagster's books."""
    features: tuple[str, ...]
    """Those that are over their limits; none: it was green."""
    report: str | None
    baseline: str | None
    candidate: str | None
    reference: str | None
    """What was compared with, in words: without a baseline, days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What the drift of a service is measured against."""

    baseline: Baseline | None = None
    days: Days | None = None
    """Without a baseline; None: the days before those in question."""
    candidate: Baseline | None = None
    """The newest training set, if it is not the baseline."""


def newest_drift(instance: dg.DagsterInstance, key: dg.AssetKey) -> Drifted | None:
    """What was said last; None if nothing was.

    Evaluations that measured nothing, or compared with days that somebody asked for, do not count.
    """
    for number, found in islice(_evaluations(instance, dg.AssetCheckKey(key, DRIFT)), LOOKED_BACK):
        told = {name: value.value for name, value in found.metadata.items()}
        if DRIFTED in told and ASKED not in told:
            return Drifted(
                number=number,
                features=() if found.passed else tuple(map(str, told[DRIFTED])),  # type: ignore[arg-type]
                report=_text(told, "report_link"),
                baseline=_text(told, MANIFEST),
                candidate=_text(told, CANDIDATE),
                reference=_text(told, REFERENCE),
            )
    return None


def standard_of(store: FeatureStore, service: FeatureService, last: Drifted | None) -> Standard:
    """What is pinned; else the newest training set, unless it was made while drift was over its limit.

    Such a one counts when it is pinned, and until then what was compared with last, or a newer one once drift is over.

    Args:
        store: the deployment.
        service: whose drift.
        last: what the newest evaluation has said.
    """
    pinned, newest = store.baselines(service.id)
    if pinned is not None:
        return Standard(baseline=pinned, candidate=newest)
    if newest is None or last is None or newest.path == last.baseline:
        return Standard(baseline=newest)
    if not last.features and newest.path != last.candidate:
        return Standard(baseline=newest)
    try:
        if last.baseline is not None:
            held = read_baseline(store.compiled, service, Path(last.baseline))
            return Standard(baseline=held, candidate=newest)
        return Standard(days=Days.parse(last.reference or ""), candidate=newest)
    except (InputError, ValueError):  # its files are gone, or its features are defined otherwise by now
        return Standard(baseline=newest)


def _evaluations(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Iterator[tuple[int, dg.AssetCheckEvaluation]]:
    """Those that have an outcome, the newest first, and their numbers."""
    cursor = None
    while records := instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, cursor=cursor, status=_DECIDED
    ):
        cursor, event = records[0].id, records[0].event
        if event is not None and event.dagster_event is not None:
            yield cursor, event.dagster_event.asset_check_evaluation_data


def _text(told: dict[str, Any], name: str) -> str | None:
    return str(told[name]) if name in told else None
