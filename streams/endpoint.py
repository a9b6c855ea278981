"""A process says over HTTP what it counts, for Prometheus. Nobody is asked who he is; nothing else can be asked."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which several processes count together, in the files of a folder."""
_AGAIN_S = 1.0


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> None:
    """Answer in a thread, for as long as the process lives.

    A port that is in use is asked for again until it is free: the process before this one may have it still, and a
    stream does not wait for whoever watches it.
    """
    threading.Thread(target=_serve, args=(registry, host, port), name="metrics", daemon=True).start()


def _serve(registry: CollectorRegistry, host: str, port: int) -> None:
    is_told = False
    while True:
        try:
            start_http_server(port, host, registry)
        except OSError as error:
            if not is_told:
                logger.warning("metrics wait: %s:%d cannot be had: %s", host, port, error.strerror or error)
            is_told = True
            time.sleep(_AGAIN_S)
        else:
            logger.info("metrics at http://%s:%d/metrics", host, port)
            return


@contextmanager
def counting_together(*, host: str, port: int) -> Iterator[None]:
    """Let the processes that are started in the `with` block count together, and answer for them here.

    What ended processes have counted stays, so counts do not go back when one run takes over from another.
    """
    with tempfile.TemporaryDirectory(prefix="feature-store-metrics-") as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        os.environ[SHARED] = folder
        try:
            serve_metrics(registry, host=host, port=port)
            yield
        finally:
            os.environ.pop(SHARED, None)
