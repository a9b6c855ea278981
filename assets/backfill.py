"""Backfills from code: a real Dagster backfill, visible in the UI, with progress.

Dagster's daemon looks at backfills every 30 seconds. Where none is running, this process does the daemon's part: it asks
for the next runs as soon as those before are done, and starts a few at a time.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import dagster as dg
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, DagsterRun
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.backfill import execute_backfill_jobs
from dagster._daemon.daemon import BackfillDaemon

from assets.books import relax_syncing
from assets.instance import WORKSPACE, dagster_instance
from feature_store.errors import FeatureStoreError, InputError

_POLL_S = 0.5
_DAEMON_FRESH_S = 60
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_logger = logging.getLogger("assets.backfill")


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


def launch_backfill(
    home: Path,
    *,
    start: date,
    end: date,
    assets: Sequence[dg.AssetKey] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    title: str | None = None,
    workspace: Path = WORKSPACE,
    concurrency: int = 2,
    timeout_s: float = 3600,
) -> Progress:
    """Materialize the days of [start, end) of some assets and wait for it.

    Args:
        home: the store's home directory; Dagster's books are in it.
        start: the first day.
        end: the day after the last.
        assets: keys; every partitioned asset by default.
        on_progress: called when something has changed.
        title: as the UI shows it.
        workspace: the file that names the definitions; run processes read settings from the environment.
        concurrency: runs at a time, if no daemon is running.
        timeout_s: after it the backfill is cancelled.

    Returns:
        The last progress; `ok` tells whether all is done. Failed runs are seen in the UI and can be launched again.

    Raises:
        InputError: no day between start and end, an unknown asset, or a day before the partitions.
        FeatureStoreError: the definitions cannot be loaded, or time ran out.
    """
    if start >= end:
        raise InputError(f"`start` must lie before `end`, got {start} and {end}")
    relax_syncing()
    with ExitStack() as stack:
        instance = stack.enter_context(dagster_instance(home))
        target = WorkspaceFileTarget([str(workspace)])
        context = stack.enter_context(WorkspaceProcessContext(instance, target, code_server_log_level="WARNING"))
        backfill_id = _submit(context, days=_days(start, end), assets=assets, title=title)
        return _wait(context, backfill_id, on_progress, concurrency=concurrency, timeout_s=timeout_s)


def _days(start: date, end: date) -> list[str]:
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days)]


def _submit(
    context: WorkspaceProcessContext, *, days: Sequence[str], assets: Sequence[dg.AssetKey] | None, title: str | None
) -> str:
    """Ask for a backfill, as the UI does."""
    request = context.create_request_context()
    for entry in request.get_code_location_entries().values():
        if entry.load_error:
            raise FeatureStoreError(f"the definitions cannot be loaded: {entry.load_error.message.strip()}")
    graph = request.asset_graph
    partitioned = {key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned}
    chosen = sorted(partitioned if assets is None else assets)
    unknown = [key.to_user_string() for key in chosen if key not in partitioned]
    if unknown:
        raise InputError(f"no asset with daily partitions is called {', '.join(unknown)}")
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=uuid4().hex[:8],
        asset_graph=graph,
        partition_names=days,
        asset_selection=chosen,
        backfill_timestamp=time.time(),  # Dagster's own books, not the store's
        tags={},
        dynamic_partitions_store=context.instance,
        all_partitions=False,
        title=title,
        description=None,
        run_config=None,
    )
    context.instance.add_backfill(backfill)
    return backfill.backfill_id


def _wait(
    context: WorkspaceProcessContext,
    backfill_id: str,
    on_progress: Callable[[Progress], None],
    *,
    concurrency: int,
    timeout_s: float,
) -> Progress:
    begun, counter, last = time.perf_counter(), _Counter(context, backfill_id), None
    with _Driver(context, backfill_id, concurrency=concurrency) as driver:
        while True:
            if not has_daemon(context.instance):
                driver.step()
            now = counter.progress(seconds=time.perf_counter() - begun)
            if last is None or now.state != last.state:
                on_progress(now)
                last = now
            if now.finished:
                return now
            if now.seconds > timeout_s:
                _cancel(context.instance, backfill_id)
                raise FeatureStoreError(f"backfill {backfill_id} took more than {timeout_s:g} s and was cancelled")
            time.sleep(_POLL_S)


def has_daemon(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that looks at backfills has shown itself lately."""
    heartbeat = instance.get_daemon_heartbeats().get(BackfillDaemon.daemon_type())
    return heartbeat is not None and time.time() - heartbeat.timestamp < _DAEMON_FRESH_S


class _Driver:
    """Does the daemon's part for one backfill."""

    def __init__(self, context: WorkspaceProcessContext, backfill_id: str, *, concurrency: int) -> None:
        self._context, self._backfill_id, self._concurrency = context, backfill_id, concurrency
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backfill")
        self._asking: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def step(self) -> None:
        """Start waiting runs, and ask for the next ones when there are none left.

        Asking takes seconds, because it notes every partition; the first runs start while it goes on.
        """
        instance = self._context.instance
        runs = _runs(instance, self._backfill_id)
        waiting = [run for run in runs if run.status is dg.DagsterRunStatus.QUEUED]
        active = [run for run in runs if run.status in IN_PROGRESS_RUN_STATUSES]
        for run in waiting[: max(self._concurrency - len(active), 0)]:
            instance.launch_run(run.run_id, self._context.create_request_context())
        if self._asking is not None and not self._asking.done():
            return
        if self._asking is not None:
            self._asking.result()
        self._asking = None if waiting or active else self._pool.submit(self._ask)

    def _ask(self) -> None:
        backfill = self._context.instance.get_backfill(self._backfill_id)
        if backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES:
            errors = [error for error in execute_backfill_jobs(self._context, _logger, [backfill]) if error]
            if errors:
                raise FeatureStoreError(f"backfill {self._backfill_id}: {errors[0].message.strip()}")


def _cancel(instance: dg.DagsterInstance, backfill_id: str) -> None:
    for run in _runs(instance, backfill_id):
        if run.status in _WAITING:
            instance.report_run_canceled(run)
        elif run.status in IN_PROGRESS_RUN_STATUSES:
            instance.run_launcher.terminate(run.run_id)
    backfill = instance.get_backfill(backfill_id)
    if backfill is not None:
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))


class _Counter:
    """Counts what the runs of a backfill have done; runs that are over are asked once."""

    def __init__(self, context: WorkspaceProcessContext, backfill_id: str) -> None:
        self._context, self._backfill_id = context, backfill_id
        self._over: dict[str, int] = {}
        self._graph = context.create_request_context().asset_graph
        self._total = self._data().target_subset.num_partitions_and_non_partitioned_assets

    def progress(self, *, seconds: float) -> Progress:
        runs = _runs(self._context.instance, self._backfill_id)
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
        if run.status in _WAITING:
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


def _runs(instance: dg.DagsterInstance, backfill_id: str) -> Sequence[DagsterRun]:
    """The runs of a backfill, oldest first."""
    return instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id}), ascending=True)
