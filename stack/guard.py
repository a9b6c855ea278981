"""What is checked before anything starts: the ports, and that a home has one stack."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from feature_store_deploy.stack.procfile import Procfile
from feature_store_deploy.stack.valkey import find_orphan, server_directory, server_port

from feature_store.embedded import HOST
from feature_store.errors import SettingsError
from feature_store.settings import PREFIX, Settings

VALKEY, DAGSTER = "feature_store_deploy.stack.valkey", "feature_store_deploy.stack.dagster"
API, EXPORTER = "feature_store.serving", "feature_store_deploy.stack.exporter"


def check_ports(procfile: Procfile, settings: Settings) -> None:
    """Refuse ports that are in use.

    Raises:
        SettingsError: names the port, who would use it and the setting.
        OnlineStoreError: the embedded server is to run, but the settings name another address.
    """
    if procfile.has(VALKEY):
        port = server_port(settings)
        orphan = find_orphan(server_directory(settings))
        if orphan is None or orphan.port != port:  # what an earlier stack left is taken over
            _check_port(port, "the embedded Valkey", "redis_url")
    if procfile.has(DAGSTER):
        _check_port(settings.ui_port, "the web UI", "ui_port")
    if procfile.has(API) and settings.api_port:
        _check_port(settings.api_port, "the HTTP API", "api_port")
    if procfile.has(API) and settings.api_grpc_port:
        _check_port(settings.api_grpc_port, "the gRPC API", "api_grpc_port")
    if procfile.has(EXPORTER):
        _check_port(settings.metrics_port, "the exporter", "metrics_port")


def _check_port(port: int, what: str, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SettingsError(
                f"port {port} for {what} is in use ({error.strerror}); stop what listens there, or choose another port "
                f"with {PREFIX}{setting.upper()}"
            ) from error


@contextmanager
def one_stack(settings: Settings) -> Iterator[None]:
    """Hold the home for the time of a `with` block.

    Raises:
        SettingsError: another stack runs there, or the home cannot be written.
    """
    path = settings.home.absolute() / "stack.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise SettingsError(
            f"setting `home`: '{path.parent}' cannot be written ({error.strerror}); "
            f"make it writable or choose another directory with {PREFIX}HOME"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SettingsError(
                f"another stack ({lock.read().strip() or 'starting'}) runs in '{path.parent}'; "
                f"stop it, or choose another directory with {PREFIX}HOME"
            ) from None
        os.ftruncate(lock.fileno(), 0)
        lock.write(f"pid {os.getpid()}")
        lock.flush()
        yield
