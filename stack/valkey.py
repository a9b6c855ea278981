"""`python -m feature_store_deploy.stack.valkey`: the embedded server as a process of the stack.

The server survives a wrapper that is killed, and its directory takes no second one. So a new wrapper takes over the
server that it finds, if that listens where it should, and ends it otherwise.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import redis

from feature_store.embedded import HOST, EmbeddedValkey, answering_pid
from feature_store.errors import FeatureStoreError, OnlineStoreError
from feature_store.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_CLIENTS_S = 5.0
"""How long a server that is told to end waits for the others to end first."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Orphan:
    """A server that runs in the directory; its wrapper is gone."""

    pid: int
    port: int


class ServerProcess:
    """The embedded server of a home: started here, or taken over."""

    def __init__(self, settings: Settings) -> None:
        self._directory = server_directory(settings)
        self._server = EmbeddedValkey(self._directory, server_port(settings))
        self._adopted: int | None = None

    def start(self) -> str:
        """Start it or take it over; says which.

        Raises:
            OnlineStoreError: the port is in use, or the server does not start.
        """
        orphan = find_orphan(self._directory)
        if orphan is not None:
            if orphan.port == self._server.port and answering_pid(orphan.port) == orphan.pid:
                self._adopted = orphan.pid
                return f"took over the Valkey that runs already (pid {orphan.pid})"
            end_orphan(self._directory)
        self._server.start()
        return f"Valkey answers on port {self._server.port} (pid {self._server.pid})"

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._server.running if self._adopted is None else find_orphan(self._directory) is not None

    def stop(self) -> None:
        """End it after it has written everything to disk."""
        if self._adopted is None:
            self._server.stop()
        else:
            end_orphan(self._directory)


def server_directory(settings: Settings) -> Path:
    """Where the embedded server of a home keeps its data."""
    return settings.home.absolute() / "valkey"


def server_port(settings: Settings) -> int:
    """The port that the settings give the embedded server.

    Raises:
        OnlineStoreError: the Redis of the settings is not on this machine's loopback.
    """
    address = urlsplit(settings.redis_url)
    if address.scheme != "redis" or address.hostname not in (HOST, "localhost"):
        raise OnlineStoreError(
            f"setting `redis_url` ({settings.redis_url}) is no address of the embedded Valkey; "
            f"name redis://{HOST}:<port>/0, or remove the process `stack.valkey` from the Procfile"
        )
    return address.port or 6379


def find_orphan(directory: Path) -> Orphan | None:
    """The server that holds the directory's lock, or None if it is free."""
    path = directory / "valkey.lock"
    if not path.exists():
        return None
    with path.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = re.fullmatch(r"pid (\d+), port (\d+)", lock.read().strip())
            return Orphan(int(found[1]), int(found[2])) if found else Orphan(0, 0)
    return None


def end_orphan(directory: Path, *, timeout_s: float = 20.0) -> None:
    """End the server that runs in the directory, if any.

    Raises:
        OnlineStoreError: it does not end.
    """
    deadline = time.perf_counter() + timeout_s
    signalled = 0
    while (orphan := find_orphan(directory)) is not None:
        if orphan.pid and orphan.pid != signalled:
            with suppress(ProcessLookupError):
                os.kill(orphan.pid, signal.SIGTERM)
            signalled = orphan.pid
        if time.perf_counter() > deadline:
            raise OnlineStoreError(f"the Valkey in '{directory}' (pid {orphan.pid}) does not end; end it by hand")
        time.sleep(0.05)


@contextmanager
def running_server(settings: Settings) -> Iterator[None]:
    """The embedded server for the time of a `with` block."""
    server = ServerProcess(settings)
    server.start()
    try:
        yield
    finally:
        server.stop()


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, or until the server dies; returns the exit code."""
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        del number, frame
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server = ServerProcess(settings)
    print(server.start(), flush=True)  # noqa: T201 - its output is the stack's
    while server.running and not stopping:
        time.sleep(_POLL_S)
    if not stopping:
        return 1
    _wait_for_clients(settings)
    server.stop()
    return 0


def _wait_for_clients(settings: Settings) -> None:
    """Wait until nobody else is connected: the others write their last when they end."""
    deadline = time.perf_counter() + LAST_CLIENTS_S
    try:
        with redis.Redis.from_url(settings.redis_url, retry=None) as client:
            while time.perf_counter() < deadline and len(client.client_list()) > 1:
                time.sleep(0.05)
    except redis.RedisError:
        return


if __name__ == "__main__":
    try:
        sys.exit(run(Settings()))
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
