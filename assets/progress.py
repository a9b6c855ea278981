"""How far a backfill is, from Dagster's books."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, PartitionBackfill
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.workspace.context import WorkspaceProcessContext

from feature_store.errors import FeatureStoreError

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a backfill is; partitions are counted once per asset."""

    backfill_id: str
    done: int
    failed: int
    total: int
    runs_done: int
    runs: int
    """Runs asked for so far; more may follow."""
    finished: bool
    seconds: float

    @property
    def state(self) -> tuple[int, int, int, int, bool]:
        """What is worth telling: all but the time."""
        return self.done, self.failed, self.runs_done, self.runs, self.finished

    @property
    def ok(self) -> bool:
        """Everything was materialized."""
        return self.finished and self.done == self.total


class Counter:
    """Counts what the runs of a backfill have done; runs that are over are asked once."""

    def __init__(self, context: WorkspaceProcessContext, backfill_id: str) -> None:
        self._context, self._backfill_id = context, backfill_id
        self._over: dict[str, int] = {}
        self._graph = context.create_request_context().asset_graph
        self._total = self._data().target_subset.num_partitions_and_non_partitioned_assets

    def progress(self, *, seconds: float) -> Progress:
        """What is done after that many seconds."""
        runs = runs_of(self._context.instance, self._backfill_id)
        done, failed = sum(self._done(run) for run in runs), 0
        finished = self._backfill().status in BULK_ACTION_TERMINAL_STATUSES
        if finished:
            data = self._data()
            done = data.materialized_subset.num_partitions_and_non_partitioned_assets
            failed = data.failed_and_downstream_subset.num_partitions_and_non_partitioned_assets
        return Progress(
            backfill_id=self._backfill_id,
            done=done,
            failed=failed,
            total=self._total,
            runs_done=sum(run.is_finished for run in runs),
            runs=len(runs),
            finished=finished,
            seconds=seconds,
        )

    def _done(self, run: DagsterRun) -> int:
        if run.run_id in self._over:
            return self._over[run.run_id]
        if run.status in WAITING:
            return 0
        # A step materializes one asset for all days of its run.
        done = self._context.instance.get_run_stats(run.run_id).materializations
        if run.is_finished:
            self._over[run.run_id] = done
        return done

    def _backfill(self) -> PartitionBackfill:
        found = self._context.instance.get_backfill(self._backfill_id)
        if found is None:
            raise FeatureStoreError(f"backfill {self._backfill_id} is gone from Dagster's books")
        return found

    def _data(self) -> AssetBackfillData:
        return self._backfill().get_asset_backfill_data(self._graph)


def runs_of(instance: dg.DagsterInstance, backfill_id: str) -> Sequence[DagsterRun]:
    """The runs of a backfill, oldest first."""
    return instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id}), ascending=True)
