"""The daemon's part in a backfill, for where no daemon is running.

Dagster's daemon looks at backfills every 30 seconds. The driver asks for the next runs as soon as those before are done,
and starts a few at a time.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_jobs
from dagster._daemon.daemon import BackfillDaemon
from feature_store_deploy.assets.progress import WAITING, runs_of

from feature_store.errors import FeatureStoreError

_DAEMON_FRESH_S = 60
_logger = logging.getLogger(__name__)


def has_daemon(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that looks at backfills has shown itself lately."""
    heartbeat = instance.get_daemon_heartbeats().get(BackfillDaemon.daemon_type())
    return heartbeat is not None and time.time() - heartbeat.timestamp < _DAEMON_FRESH_S


class Driver:
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
        runs = runs_of(instance, self._backfill_id)
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


def cancel(instance: dg.DagsterInstance, backfill_id: str) -> None:
    """End a backfill and its runs."""
    for run in runs_of(instance, backfill_id):
        if run.status in WAITING:
            instance.report_run_canceled(run)
        elif run.status in IN_PROGRESS_RUN_STATUSES:
            terminate(instance, run.run_id)
    backfill = instance.get_backfill(backfill_id)
    if backfill is not None:
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))


def terminate(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Ask the process of a run to end; false if it is gone, or the server that started it."""
    try:
        return bool(instance.run_launcher.terminate(run_id))
    except DagsterUserCodeUnreachableError:
        return False
