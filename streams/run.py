"""Runs the flow and the archiver until they are told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import duckdb
from feature_store_deploy.streams.cluster import run_cluster
from feature_store_deploy.streams.watch import watch_in_background
from feature_store_deploy.streams.worker import run_worker
from redis.exceptions import RedisError

from feature_store.errors import LakeError, LogError, LogUnavailable, SchemaRegistryError
from feature_store.fold.archive import CONSUMER, Archiver, CommitArchiver
from feature_store.lake.events import live_table
from feature_store.online.server import check_server
from feature_store.online.writer import passes
from feature_store.proof.served_archive import ServedArchiver
from feature_store.stop import stop_on_signal

if TYPE_CHECKING:
    import threading

    from feature_store_deploy.streams.context import FlowContext

    from feature_store.lake import Lake
    from feature_store.stop import Stop

logger = logging.getLogger(__name__)


def run_once(context: FlowContext, *, tick: timedelta, ask: Callable[[str], None]) -> None:
    """Run the flow until it is ended: in this process, or in one for each of several workers.

    It asks for a successor when it should be built anew: see `watch`.

    Raises:
        FlowSuperseded: a newer run has taken over.
        FeatureStoreError, RedisError: what stopped the flow, without the engine's wrapping.
    """
    start = context.begin()
    logger.info("run %d begins at %s", start.run, dict(start.origin.positions))
    watch_in_background(context, start, ask)
    try:
        if context.workers == 1:
            run_worker(context, start, tick=tick)
        else:
            run_cluster(start, tick=tick)
    except BaseException:
        with suppress(RedisError, LogError):
            context.abandon(start)
        raise


def run_archiver(context: FlowContext, *, every_s: float = 5.0, stop: Stop | threading.Event | None = None) -> bool:
    """Bring every live source, the commit records and what readers logged to the lake every few seconds, until SIGTERM
    or `stop`, or until a source has got columns that its declaration did not have when this began.

    A lake, a log, a schema registry that is away, or a Redis without room, delays archiving, and nothing is skipped; it
    is tried again.

    Returns:
        Whether to begin again, with the declarations that stand on the disk.
    """
    stop = stop or stop_on_signal()
    client = context.connect()
    check_server(client)
    with context.open_lake() as lake:
        sources = context.compiled.registry.sources.items()
        logs = {name: context.log(client, name) for name, source in sources if source.log is not None}
        archivers = [
            Archiver(context.compiled, lake, log, source=name, observer=context.observer) for name, log in logs.items()
        ]
        commits = CommitArchiver(lake, client, context.env)
        served = ServedArchiver(context.compiled, lake, client, context.env)  # behind the commits that its vectors name
        columns = _columns(lake, logs)
        while not stop.is_set():
            if (_columns(lake, logs) or columns) != columns:
                logger.info("a source has columns that it did not have; the archiver begins again")
                return True
            moved = sum(map(_moved, [*(archiver.step for archiver in archivers), commits.step, served.step]))
            for log in logs.values():
                _moved(partial(log.trim, behind=CONSUMER))
            if moved:
                logger.info("archived %d records", moved)
            stop.wait(every_s)
    return False


def _columns(lake: Lake, sources: Iterable[str]) -> list[object]:
    """What the lake keeps of live events; nothing if it cannot be asked."""
    try:
        return [lake.columns(live_table(source)) for source in sources]
    except (LakeError, duckdb.IOException):
        return []


def _moved(step: Callable[[], int]) -> int:
    """How many records a step has moved: none if something is away, which holds up no other source."""
    try:
        return step()
    except (LakeError, LogUnavailable, SchemaRegistryError, duckdb.IOException, RedisError) as error:
        if isinstance(error, RedisError) and not passes(error):
            raise
        logger.warning("archiving waits: %s", str(error).splitlines()[0])
        return 0
