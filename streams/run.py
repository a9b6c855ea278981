"""Runs the flow and the archiver until they are told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import duckdb
from feature_store_deploy.streams.cluster import run_cluster
from feature_store_deploy.streams.stop import stop_on_signal
from feature_store_deploy.streams.watch import watch_in_background
from feature_store_deploy.streams.worker import run_worker
from redis.exceptions import RedisError

from feature_store.errors import LakeError, LogError, LogUnavailable, SchemaRegistryError
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.online.server import check_server

if TYPE_CHECKING:
    import threading

    from feature_store_deploy.streams.context import FlowContext

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


def run_archiver(context: FlowContext, *, every_s: float = 5.0, stop: threading.Event | None = None) -> None:
    """Bring every live source and the commit records to the lake every few seconds, until SIGTERM or `stop`.

    A lake, a log or a schema registry that is away delays archiving, and nothing is skipped; it is tried again.
    """
    stop = stop or stop_on_signal()
    client = context.connect()
    check_server(client)
    with context.open_lake() as lake:
        sources = context.compiled.registry.sources.items()
        logs = {name: context.log(client, name) for name, source in sources if source.log is not None}
        archivers = [
            Archiver(context.compiled, lake, log, source=name, clock=context.clock) for name, log in logs.items()
        ]
        commits = CommitArchiver(lake, client, context.env)
        while not stop.is_set():
            moved = sum(map(_moved, [*(archiver.step for archiver in archivers), commits.step]))
            for log in logs.values():
                log.trim()
            if moved:
                logger.info("archived %d records", moved)
            stop.wait(every_s)


def _moved(step: Callable[[], int]) -> int:
    """How many records a step has moved: none if something is away, which holds up no other source."""
    try:
        return step()
    except (LakeError, LogUnavailable, SchemaRegistryError, duckdb.IOException) as error:
        logger.warning("archiving waits: %s", str(error).splitlines()[0])
        return 0
