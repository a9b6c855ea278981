"""What stands in Dagster's books: newest evaluations of checks, materializations, runs, heartbeats of the daemon."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from feature_store_deploy.checks.declared import OWNER
from feature_store_deploy.checks.skew import NAME as SKEW
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

MEASURED = {
    "missing_rate": "feature_missing_rate",
    "default_value_rate": "feature_default_value_rate",
    "drift": "feature_distribution_drift",
}
"""Check -> the metric that its figures are."""
NOBODY = "nobody"
STATUSES = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


class Books:
    """The books of one environment. Series are of declared assets and checks alone."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        graph = definitions.resolve_asset_graph()
        self._instance = instance
        self._owners = {
            key: str(graph.get_check_spec(key).metadata.get(OWNER, NOBODY)) for key in graph.asset_check_keys
        }
        self._checks = sorted(graph.asset_check_keys, key=str)
        self._assets = sorted(graph.materializable_asset_keys)
        self._evaluated: dict[dg.AssetCheckKey, tuple[float, AssetCheckEvaluation]] = {}
        self._seconds: dict[dg.AssetKey, tuple[str, float | None]] = {}

    def families(self) -> Iterator[Metric]:
        """Everything that is known now."""
        yield from check_families(self._newest_evaluations(), self._owners)
        yield from self._materializations()
        yield self._runs()
        yield self._heartbeats()

    def _newest_evaluations(self) -> Mapping[dg.AssetCheckKey, tuple[float, AssetCheckEvaluation]]:
        """Check -> when it was last evaluated, and how; one that is being evaluated, or was planned and left out, has the
        evaluation before.
        """
        storage = self._instance.event_log_storage
        newest = storage.get_latest_asset_check_execution_by_key(self._checks)
        for key, record in newest.items():
            if record.status in COMPLETED:
                self._note(key, record)
            elif key not in self._evaluated:
                for before in storage.get_asset_check_execution_history(key, limit=1, status=COMPLETED):
                    self._note(key, before)
        return self._evaluated

    def _note(self, key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> None:
        if record.evaluation is not None and record.event is not None:
            self._evaluated[key] = record.event.timestamp, record.evaluation

    def _materializations(self) -> Iterable[Metric]:
        when = _gauge("materialization_timestamp_seconds", "When an asset was last materialized", "asset")
        rows = _gauge("materialization_rows", "Rows that its newest materialization wrote", "asset")
        seconds = _gauge("materialization_seconds", "How long the step of its newest materialization took", "asset")
        for record in self._instance.get_asset_records(self._assets):
            entry = record.asset_entry
            event = entry.last_materialization_record
            if event is None or event.asset_materialization is None:
                continue
            asset = _name(entry.asset_key)
            when.add_metric([asset], event.timestamp)
            if (written := number(_plain(event.asset_materialization.metadata).get("rows_written"))) is not None:
                rows.add_metric([asset], written)
            if (took := self._step_seconds(entry.asset_key, event.run_id, event.event_log_entry.step_key)) is not None:
                seconds.add_metric([asset], took)
        return when, rows, seconds

    def _step_seconds(self, asset: dg.AssetKey, run_id: str, step: str | None) -> float | None:
        """How long a step took; asked for once it has ended, and then no more. None if nobody can say."""
        known_run, known = self._seconds.get(asset, ("", None))
        if known_run == run_id and known is not None:
            return known
        stats = self._instance.get_run_step_stats(run_id, [step]) if step else []
        ended = [(each.start_time, each.end_time) for each in stats]
        took = next((end - start for start, end in ended if start is not None and end is not None), None)
        self._seconds[asset] = run_id, took
        return took

    def _runs(self) -> Metric:
        found = _gauge("dagster_runs", "Runs in the books", "status")
        for status in STATUSES:
            found.add_metric([status.value], self._instance.get_runs_count(dg.RunsFilter(statuses=[status])))
        return found

    def _heartbeats(self) -> Metric:
        found = _gauge("dagster_daemon_heartbeat_timestamp_seconds", "When a daemon last showed itself", "daemon")
        for name, heartbeat in self._instance.get_daemon_heartbeats().items():
            found.add_metric([name], heartbeat.timestamp)
        return found


def check_families(
    evaluated: Mapping[dg.AssetCheckKey, tuple[float, AssetCheckEvaluation]], owners: Mapping[dg.AssetCheckKey, str]
) -> Iterator[Metric]:
    """What checks have found.

    Args:
        evaluated: check -> when (Unix seconds), and its evaluation.
        owners: check -> whom it concerns.
    """
    passed = _gauge(
        "feature_check_passed",
        "Whether a check passed when it was last evaluated",
        "asset",
        "check",
        "severity",
        "owner",
    )
    when = _gauge("feature_check_timestamp_seconds", "When it was", "asset", "check")
    limit = _gauge("feature_check_limit", "The limit of a figure", "asset", "check", "feature")
    figures = {
        check: _gauge(name, f"Newest figure of `{check}`", "asset", "feature") for check, name in MEASURED.items()
    }
    skew = _gauge(SKEW, "Share of served values that are not what the lake says they should have been", "service")
    for key, (at_s, evaluation) in evaluated.items():
        asset, told = _name(key.asset_key), _plain(evaluation.metadata)
        passed.add_metric([asset, key.name, evaluation.severity.value, owners[key]], int(evaluation.passed))
        when.add_metric([asset, key.name], at_s)
        if key.name == SKEW and (score := number(told.get(SKEW))) is not None:
            skew.add_metric([asset.rpartition("/")[2]], score)
        if key.name in figures:
            _add(figures[key.name], [asset], told.get("figures"))
            _add(limit, [asset, key.name], told.get("limits"))
    yield from (passed, when, limit, *figures.values(), skew)


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _add(family: GaugeMetricFamily, labels: list[str], figures: object) -> None:
    for name, figure in figures.items() if isinstance(figures, Mapping) else ():
        if (value := number(figure)) is not None:
            family.add_metric([*labels, str(name)], value)


def _plain(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, object]:
    return {name: value.value for name, value in metadata.items()}


def _name(key: dg.AssetKey) -> str:
    """Without the environment, which is one for all series."""
    return "/".join(key.path[1:])


def _gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, labels=labels)
