"""A backfill that was stopped, failed or killed goes on: a new one asks for exactly what the old one has not done."""

import time
from dataclasses import dataclass
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import PARENT_BACKFILL_ID_TAG, ROOT_BACKFILL_ID_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from feature_store_deploy.assets.driver import cancel, has_daemon, terminate
from feature_store_deploy.assets.progress import runs_of

from feature_store.errors import InputError
from feature_store.settings import Settings

LAST = "last"
_PATIENCE_S = 30.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is left of a backfill that was stopped, failed or killed, to be run; what is done is not done again."""

    name: str = LAST
    """Its id, or `LAST`: the newest that has not succeeded."""

    def days_per_run(self, settings: Settings, concurrency: int) -> int:
        """What the setting says: how many days are left is known once it begins."""
        del concurrency
        return settings.backfill_days

    def begin(self, context: WorkspaceProcessContext) -> str:
        return resume(context, self.name)


def resume(context: WorkspaceProcessContext, name: str = LAST) -> str:
    """Ask for what is left of a backfill; what its runs have materialized stays as it is.

    A run that is still at work is ended first, and loses the days at hand. A backfill that a daemon works on goes on by
    itself: it is the answer.

    Args:
        context: of the definitions.
        name: the backfill's id, or `LAST`: the newest that has not succeeded.

    Returns:
        The id of the backfill that goes on.

    Raises:
        InputError: there is no such backfill, it was resumed before, or it has done everything.
    """
    instance, before = context.instance, _named(context.instance, name)
    if has_daemon(instance) and before.status not in BULK_ACTION_TERMINAL_STATUSES:
        return str(before.backfill_id)
    _end(instance, before)
    left = _left(context, before)
    if left.is_empty:
        raise InputError(f"backfill {before.backfill_id} has built all of its partitions; there is nothing to resume")
    after = PartitionBackfill.from_asset_graph_subset(
        backfill_id=uuid4().hex[:8],
        backfill_timestamp=time.time(),  # Dagster's own books, not the store's
        tags={
            **before.tags,
            PARENT_BACKFILL_ID_TAG: before.backfill_id,
            ROOT_BACKFILL_ID_TAG: before.tags.get(ROOT_BACKFILL_ID_TAG, before.backfill_id),
        },
        dynamic_partitions_store=instance,
        asset_graph_subset=left,
        title=before.title,
        description=None,
        run_config=before.run_config,
    )
    instance.add_backfill(after)
    return str(after.backfill_id)


def _named(instance: dg.DagsterInstance, name: str) -> PartitionBackfill:
    listed = [each for each in instance.get_backfills() if each.is_asset_backfill]  # the newest first
    resumed = {each.tags[PARENT_BACKFILL_ID_TAG]: each for each in listed if PARENT_BACKFILL_ID_TAG in each.tags}
    for each in listed:
        is_open = each.status is not BulkActionStatus.COMPLETED_SUCCESS and each.backfill_id not in resumed
        if each.backfill_id == name or (name == LAST and is_open):
            if each.backfill_id in resumed:
                raise InputError(f"backfill {name} was resumed before, as {resumed[name].backfill_id}")
            return each
    raise InputError("no backfill is unfinished" if name == LAST else f"there is no backfill {name}")


def _end(instance: dg.DagsterInstance, backfill: PartitionBackfill) -> None:
    """End what is left of a backfill's runs; those whose process is gone are marked as failed."""
    if backfill.status not in BULK_ACTION_TERMINAL_STATUSES:
        cancel(instance, backfill.backfill_id)
    deadline = time.monotonic() + _PATIENCE_S
    for run in runs_of(instance, backfill.backfill_id):
        is_alive = not run.is_finished and terminate(instance, run.run_id)
        while is_alive and not _is_over(instance, run.run_id) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if not _is_over(instance, run.run_id):
            instance.report_run_failed(run, message="its process is gone")


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


def _left(context: WorkspaceProcessContext, backfill: PartitionBackfill) -> AssetGraphSubset:
    """What it was asked for, without what its runs have materialized: a run that was killed may have done a part."""
    graph = context.create_request_context().asset_graph
    done = {
        AssetKeyPartitionKey(event.asset_key, event.partition)
        for run in runs_of(context.instance, backfill.backfill_id)
        for entry in context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if (event := entry.get_dagster_event()).asset_key is not None
    }
    target = backfill.get_asset_backfill_data(graph).target_subset
    return target - AssetGraphSubset.from_asset_partition_set(done, graph)
