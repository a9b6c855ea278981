"""The server: a port, and one or several processes that answer on it."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.serving.metrics import SHARED, forget
from feature_store.serving.worker import work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_LOOK_S = 0.2
_AGAIN_S = 1.0
"""How long after a worker that died the next one is started."""
_ENDING_S = 15.0
"""How long workers may take to end, after the drain."""


def serve(*, host: str, port: int, workers: int, drain_s: float, said: Callable[[str], object]) -> None:
    """Serve this deployment's API until SIGTERM or SIGINT.

    Args:
        host: a loopback address: there is no access control yet.
        port: 0 for a free one.
        workers: processes. One that dies is started again.
        drain_s: for how long, after SIGTERM, `/ready` says no while all else is answered still.
        said: is told where the server listens.

    Raises:
        InputError: the host is no loopback address, or the port is taken.
    """
    check_loopback(host)
    with _listening(host, port) as listening:
        said(f"serving at http://{host}:{listening.getsockname()[1]} (what there is: /openapi.json)")
        if workers == 1:
            work(listening, drain_s=drain_s)
            return
        with tempfile.TemporaryDirectory(prefix="feature-store-metrics-") as folder:
            _supervise(listening, workers=workers, drain_s=drain_s, metrics=folder)


def check_loopback(host: str) -> None:
    """Refuse a host that others can reach.

    Raises:
        InputError: it is no loopback address.
    """
    try:
        safe = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        safe = False
    if not safe:
        raise InputError(
            f"`host` must be a loopback address, got '{host}': the API has no access control yet; "
            "let a proxy that has stand in front of it"
        )


def _listening(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(1024)
    except OSError as error:
        opened.close()
        raise InputError(
            f"`port` {port} of {host} cannot be had: {error.strerror}; name another with --port"
        ) from error
    return opened


def _supervise(listening: socket.socket, *, workers: int, drain_s: float, metrics: str | Path) -> None:
    """Keep so many workers running until a signal comes; then let them end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "feature_store.serving.worker", str(listening.fileno()), str(drain_s)],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env=os.environ | {SHARED: str(metrics)},
            start_new_session=True,  # Ctrl-C is for us; we tell them
        )

    running = [start() for _ in range(workers)]
    try:
        while not stop.wait(_LOOK_S):
            for place, worker in enumerate(running):
                if worker.poll() is not None and not stop.wait(_AGAIN_S):
                    forget(worker.pid, metrics)
                    running[place] = start()
    finally:
        _end(running, within_s=drain_s + _ENDING_S)


def _end(running: Sequence[subprocess.Popen[bytes]], *, within_s: float) -> None:
    for worker in running:
        worker.terminate()
    deadline = time.monotonic() + within_s
    for worker in running:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
