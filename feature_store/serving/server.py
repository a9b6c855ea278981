"""The server: a port, and one or several processes that answer on it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from feature_store.access.audit import AuditLog
from feature_store.access.keyring import read_published
from feature_store.errors import InputError, OnlineStoreError
from feature_store.serving.certificate import certificate_of
from feature_store.serving.local import is_loopback
from feature_store.serving.metrics import SHARED, forget
from feature_store.serving.worker import KEYS_AS_MADE, KEYS_REQUIRED, work
from feature_store.stop import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from feature_store.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
_AGAIN_S = 1.0
"""How long after a worker that died the next one is started."""
_ENDING_S = 15.0
"""How long workers may take to end, after the drain."""


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    workers: int,
    drain_s: float,
    said: Callable[[str], object],
    grpc_port: int | None = None,
) -> None:
    """Serve this deployment's API until SIGTERM or SIGINT.

    Args:
        settings: of the deployment.
        host: a loopback address; or another, if there are API keys.
        port: 0 for a free one.
        workers: processes. One that dies is started again.
        drain_s: for how long, after SIGTERM, `/ready` says no while all else is answered still.
        said: is told where the server listens.
        grpc_port: of the gRPC API; 0 for a free one, None for none.

    Raises:
        InputError: others can reach the host and there are no keys, a port is taken, or the extra `grpc` is missing.
        OnlineStoreError: others can reach the host and Redis does not say whether there are keys.
        SettingsError: a certificate or the audit log's file is of no use.
    """
    if grpc_port is not None and find_spec("grpc_health") is None:
        raise InputError("`grpc_port` needs the extra `grpc`: install feature-store[serve,grpc]")
    AuditLog(settings.audit_log)
    certificate, is_reachable = certificate_of(settings), not is_loopback(host)
    if is_reachable:
        check_keys(settings, host)
    keys_required = is_reachable or settings.api_keys_required
    scheme, secured = ("http", "") if certificate is None else ("https", "TLS, ")
    with _listening(host, port) as listening, _reserved(host, grpc_port) as grpc:
        shown = f"[{host}]" if ":" in host else host
        address = f"{scheme}://{shown}:{listening.getsockname()[1]}"
        said(f"serving at {address} (what there is: /openapi.json, for people: {address}/catalog)")
        if grpc is not None:
            said(f"serving gRPC at {grpc} ({secured}feature_store.v1, health, reflection)")
        if is_reachable and certificate is None:
            said("warning: keys come in the clear; name a certificate, or let a proxy with one stand in front")
        if workers == 1:
            work(listening, drain_s=drain_s, keys_required=keys_required, grpc=grpc)
            return
        with tempfile.TemporaryDirectory(prefix="feature-store-metrics-") as folder:
            _supervise(
                listening,
                workers=workers,
                drain_s=drain_s,
                keys_required=keys_required,
                grpc=grpc,
                metrics=folder,
            )


def check_keys(settings: Settings, host: str) -> None:
    """Refuse a host that others can reach while nobody has made a key.

    Raises:
        InputError: nobody has.
        OnlineStoreError: Redis does not say.
    """
    import redis

    from feature_store.online.address import connected
    from feature_store.online.refusal import worded

    try:
        with connected(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            found = read_published(client, settings.environment)
    except (redis.RedisError, OSError) as error:
        raise OnlineStoreError(
            f"`host` is '{host}', which others can reach, and nobody says whether there are API keys: {worded(error)}"
        ) from error
    if found is None or found.is_open:
        raise InputError(
            f"`host` must be a loopback address as long as the environment '{settings.environment}' has no API keys, got '{host}'; "
            "make one with `feature-store keys create`"
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
    listening: socket.socket,
    *,
    workers: int,
    drain_s: float,
    keys_required: bool,
    grpc: str | None,
    metrics: str | Path,
) -> None:
    """Keep so many workers running until a signal comes; then let them end."""
    stop = stop_on_signal()
    keys = KEYS_REQUIRED if keys_required else KEYS_AS_MADE
    arguments = [str(listening.fileno()), str(drain_s), keys, *([] if grpc is None else [grpc])]

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
                    logger.error(
                        "worker %d has ended (%s); another takes its place", worker.pid, _ending(worker.poll())
                    )
                    forget(worker.pid, metrics)
                    running[place] = start()
    finally:
        _end(running, within_s=drain_s + _ENDING_S)


def _ending(code: int | None) -> str:
    """What an exit code says.

    >>> _ending(-9), _ending(1)
    ('by SIGKILL', 'with exit code 1')
    """
    return f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"


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
