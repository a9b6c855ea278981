"""Backfills from code: a real Dagster backfill, visible in the UI, with progress."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from feature_store_deploy.assets.books import quicken_books
from feature_store_deploy.assets.driver import Driver, cancel, has_daemon
from feature_store_deploy.assets.instance import dagster_instance, workspace_file
from feature_store_deploy.assets.progress import Counter, Progress

from feature_store.errors import FeatureStoreError, InputError
from feature_store.settings import PREFIX, Settings

ROUNDS = 2
"""How often each of the concurrent runs is followed by another, in a backfill that this process drives."""
_POLL_S = 0.5


class Asked(Protocol):
    """What a backfill is to build: `Span`, or `resume.Unfinished`."""

    def days_per_run(self, settings: Settings, concurrency: int) -> int:
        """How many days a run takes, unless the caller says it."""

    def begin(self, context: WorkspaceProcessContext) -> str:
        """Write it into Dagster's books; returns its id.

        Raises:
            InputError: there is no such thing to build.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The days of [start, end) of some assets.

    Raises:
        InputError: there is no day between start and end; when it begins, an unknown asset, or a day before the partitions.
    """

    start: date
    end: date
    assets: Sequence[dg.AssetKey] | None = None
    """Their keys; every partitioned asset by default."""
    title: str | None = None
    """As the UI shows it."""

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise InputError(f"`start` must lie before `end`, got {self.start} and {self.end}")

    def days_per_run(self, settings: Settings, concurrency: int) -> int:
        """Each process costs as much as a month of data, so two rounds of runs, unless the setting says more."""
        return max(settings.backfill_days, math.ceil((self.end - self.start).days / (ROUNDS * concurrency)))

    def begin(self, context: WorkspaceProcessContext) -> str:
        last = self.end - timedelta(days=1)
        return submit(context, first=self.start, last=last, assets=self.assets, title=self.title)


def run_backfill(
    settings: Settings,
    asked: Asked,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    workspace: Path | None = None,
    concurrency: int = 2,
    days_per_run: int | None = None,
    timeout_s: float = 3600,
) -> Progress:
    """Materialize what is asked for and wait for it.

    Args:
        settings: of the deployment whose books tell of it.
        asked: a `Span` of days; or `Unfinished`, a backfill that goes on.
        on_progress: called when something has changed.
        workspace: the file that names the definitions, by default the working folder's; run processes read settings from the environment.
        concurrency: runs at a time, if no daemon is running.
        days_per_run: how many days a run takes, if no daemon is running; by default what was asked says it.
        timeout_s: after it the backfill is cancelled.

    Returns:
        The last progress; `ok` tells whether all is done. Failed runs are seen in the UI and can be launched again.

    Raises:
        InputError: there is no such thing to build.
        FeatureStoreError: the definitions cannot be loaded, or time ran out.
    """
    quicken_books()
    days = days_per_run or asked.days_per_run(settings, concurrency)
    told = _told_runs(days=days, threads=_share(settings, concurrency))
    with told, _location(settings, workspace) as context:
        return _wait(context, asked.begin(context), on_progress, concurrency=concurrency, timeout_s=timeout_s)


@contextmanager
def _location(settings: Settings, workspace: Path | None) -> Iterator[WorkspaceProcessContext]:
    with (
        dagster_instance(settings) as instance,
        code_location(instance, workspace or workspace_file()) as context,
    ):
        _check_loaded(context)
        yield context


def _check_loaded(context: WorkspaceProcessContext) -> None:
    for entry in context.create_request_context().get_code_location_entries().values():
        if entry.load_error:
            raise FeatureStoreError(f"the definitions cannot be loaded: {entry.load_error.message.strip()}")


def _share(settings: Settings, concurrency: int) -> int:
    """Threads of a run's DuckDB: the machine's cores divided among runs at a time, unless the setting says otherwise."""
    return settings.batch_threads or max((os.cpu_count() or 1) // concurrency, 1)


@contextmanager
def _told_runs(*, days: int, threads: int) -> Iterator[None]:
    """Tell the processes that are started meanwhile how many days a run takes, and with how many threads."""
    told = {f"{PREFIX}BACKFILL_DAYS": str(days), f"{PREFIX}BATCH_THREADS": str(threads)}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def code_location(instance: dg.DagsterInstance, workspace: Path) -> WorkspaceProcessContext:
    """The definitions that a workspace names, in a process of their own for as long as the context is entered."""
    return WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)]), code_server_log_level="WARNING")


def submit(
    context: WorkspaceProcessContext,
    *,
    first: date,
    last: date,
    assets: Sequence[dg.AssetKey] | None = None,
    title: str | None = None,
) -> str:
    """Ask for a backfill of exactly these days; one asked for by names would add the days that look back to them.

    Returns:
        Its id.

    Raises:
        InputError: an unknown asset, or a day before the partitions.
    """
    graph = context.create_request_context().asset_graph
    partitioned = {key for key in graph.materializable_asset_keys if graph.get(key).is_partitioned}
    chosen = sorted(partitioned if assets is None else assets)
    unknown = [key.to_user_string() for key in chosen if key not in partitioned]
    if unknown:
        raise InputError(f"no asset with daily partitions is called {', '.join(unknown)}")
    for day in (first, last):
        if not all(_has_day(graph.get(key).partitions_def, day) for key in chosen):
            raise InputError(f"there is no partition {day}: partitions reach from the first history to today")
    days = PartitionsSelector(ranges=[PartitionRangeSelector(start=first.isoformat(), end=last.isoformat())])
    backfill = PartitionBackfill.from_partitions_by_assets(
        backfill_id=uuid4().hex[:8],
        asset_graph=graph,
        backfill_timestamp=time.time(),  # Dagster's own books, not the store's
        tags={},
        dynamic_partitions_store=context.instance,
        partitions_by_assets=[PartitionsByAssetSelector(asset_key=key, partitions=days) for key in chosen],
        title=title,
        description=None,
        run_config=None,
    )
    context.instance.add_backfill(backfill)
    return str(backfill.backfill_id)


def _has_day(partitions: dg.PartitionsDefinition | None, day: date) -> bool:
    return partitions is not None and partitions.has_partition_key(day.isoformat())


def _wait(
    context: WorkspaceProcessContext,
    backfill_id: str,
    on_progress: Callable[[Progress], None],
    *,
    concurrency: int,
    timeout_s: float,
) -> Progress:
    begun, counter, last = time.perf_counter(), Counter(context, backfill_id), None
    with Driver(context, backfill_id, concurrency=concurrency) as driver:
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
                cancel(context.instance, backfill_id)
                raise FeatureStoreError(f"backfill {backfill_id} took more than {timeout_s:g} s and was cancelled")
            time.sleep(_POLL_S)


__all__ = ["Asked", "Progress", "Span", "code_location", "run_backfill", "submit"]
