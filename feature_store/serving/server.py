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
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.serving.metrics import SHARED, forget
from feature_store.serving.worker import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_LOOK_S = 0.2
_AGAIN_S = 1.0
"""How long after a worker that died the next one is started."""
_ENDING_S = 15.0
"""How long workers may take to end, after the drain."""


def serve(
    *, host: str, port: int, workers: int, drain_s: float, said: Callable[[str], object], grpc_port: int | None = None
) -> None:
    """Serve this deployment's API until SIGTERM or SIGINT.

    Args:
        host: a loopback address: there is no access control yet.
        port: 0 for a free one.
        workers: processes. One that dies is started again.
        drain_s: for how long, after SIGTERM, `/ready` says no while all else is answered still.
        said: is told where the server listens.
        grpc_port: of the gRPC API; 0 for a free one, None for none.

    Raises:
        InputError: the host is no loopback address, a port is taken, or the extra `grpc` is missing.
    """
    check_loopback(host)
    if grpc_port is not None and find_spec("grpc_health") is None:
        raise InputError("`grpc_port` needs the extra `grpc`: install feature-store[serve,grpc]")
    with _listening(host, port) as listening, _reserved(host, grpc_port) as grpc:
        said(f"serving at http://{host}:{listening.getsockname()[1]} (what there is: /openapi.json)")
        if grpc is not None:
            said(f"serving gRPC at {grpc} (feature_store.v1, health, reflection)")
        if workers == 1:
            work(listening, drain_s=drain_s, grpc=grpc)
            return
        with tempfile.TemporaryDirectory(prefix="feature-store-metrics-") as folder:
            _supervise(listening, workers=workers, drain_s=drain_s, grpc=grpc, metrics=folder)


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


def _listening(host: str, port: int, *, option: str = "--port") -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(1024)
    except OSError as error:
        opened.close()
        raise InputError(
            f"`port` {port} of {host} cannot be had: {error.strerror}; name another with {option}"
        ) from error
    return opened


@contextmanager
def _reserved(host: str, port: int | None) -> Iterator[str | None]:
    """The address of the gRPC API, kept free for the workers, which cannot be given a socket: each listens on the port
    itself, and the system spreads connections over them. The socket that keeps it does not listen.
    """
    if port is None:
        yield None
        return
    with _listening(host, port, option="--grpc-port") as asked:  # nobody else has it
        found = asked.getsockname()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(found)
        yield f"[{found[0]}]:{found[1]}" if ":" in host else f"{found[0]}:{found[1]}"


def _supervise(
    listening: socket.socket, *, workers: int, drain_s: float, grpc: str | None, metrics: str | Path
) -> None:
    """Keep so many workers running until a signal comes; then let them end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    arguments = [str(listening.fileno()), str(drain_s), *([] if grpc is None else [grpc])]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "feature_store.serving.worker", *arguments],
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
