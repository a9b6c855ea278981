"""Runs the flow and the archiver until they are told to stop."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import duckdb
from bytewax.run import cli_main
from feature_store_deploy.streams.flow import EPOCH, TICK, build_flow
from redis.exceptions import RedisError

from feature_store.errors import FeatureStoreError, LakeError, SchemaRegistryError
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from types import FrameType

    from feature_store_deploy.streams.context import FlowContext

logger = logging.getLogger(__name__)


def run_flow(context: FlowContext, *, tick: timedelta = TICK) -> None:
    """Run one process of one worker until SIGTERM or SIGINT.

    Raises:
        FeatureStoreError, RedisError: what stopped the flow, without the engine's wrapping.
    """
    start = context.begin()
    logger.info("run %d begins at %s", start.run, dict(start.origin.positions))
    collect_rarely()
    try:
        cli_main(build_flow(context, start, tick=tick), workers_per_process=1, epoch_interval=EPOCH)
    except Exception as error:
        cause = root_cause(error)
        if isinstance(cause, FeatureStoreError | RedisError):
            raise cause from error
        raise


def collect_rarely() -> None:
    """Let the cycle collector alone for longer: batches are many small objects without cycles, and looking through
    them again and again takes a third of the flow's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def root_cause(error: BaseException) -> BaseException:
    """What really happened, under the errors that the engine wraps around it: the library's own error if there is one."""
    while error.__cause__ is not None and not isinstance(error, FeatureStoreError):
        error = error.__cause__
    return error


def run_archiver(context: FlowContext, *, every_s: float = 5.0, stop: threading.Event | None = None) -> None:
    """Bring every live source and the commit records to the lake every few seconds, until SIGTERM or `stop`.

    A lake or a schema registry that is away delays archiving, and nothing is skipped; it is tried again.
    """
    stop = stop or _stop_on_signal()
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
            try:
                moved = sum(archiver.step() for archiver in archivers) + commits.step()
                for log in logs.values():
                    log.trim()
            except (LakeError, SchemaRegistryError, duckdb.IOException) as error:
                logger.warning("archiving waits: %s", str(error).splitlines()[0])
                moved = 0
            if moved:
                logger.info("archived %d records", moved)
            stop.wait(every_s)


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()

    def halt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, halt)
    signal.signal(signal.SIGINT, halt)
    return stop
