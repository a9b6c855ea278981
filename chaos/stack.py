"""The real processes of a run, and who starts again what has died, as an orchestrator does."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import duckdb
import redis

from chaos.declared import CUSTOMERS, SOURCE
from chaos.failover import fail_over
from chaos.place import Place
from chaos.publisher import Batch, newest_us, read_outbox, sent_up_to
from feature_store.embedded import HOST, EmbeddedValkey
from feature_store.errors import FeatureStoreError
from feature_store.log.binding import open_log
from feature_store.store import FeatureStore

ROLES = ("publish", "archive", "flow", "backfill")
LOOK_S = 0.05
PATIENCE_S = 180.0
"""How long a deployment may take to come to rest."""
_OPTIONS = {"enable-debug-command": "local", "appendfsync": "always"}
"""Of the servers: what is killed has lost nothing that it had acknowledged, however busy the disk was; other faults lose that."""
RESTART_S = 0.2
"""How long a process that has died stays dead."""


@dataclass(slots=True, kw_only=True)
class Loss:
    """A moment at which the server may have lost what it had acknowledged."""

    at_s: float
    """The machine's time when it had happened."""
    positions: Mapping[int, int]
    """Up to where the lake had the log, just before."""
    batches: int
    """What the publisher had made by then."""
    newest_us: int
    """The latest time of an event among that."""
    sent_again: Mapping[int, int] | None = None
    """Where the log ended when all of that had been sent again."""


class Child:
    """One process and all that it starts."""

    def __init__(self, place: Place, role: str, *, workers: int = 1) -> None:
        options = {"archive": ["--every", "0.5"]}.get(role, [])
        self.role = role
        self._said: IO[bytes] = place.log(role).open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.process", role, *options],
            env=place.environment(workers=workers),
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its own process id, and that of its group."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def workers(self) -> list[int]:
        """The processes at the end of the chain of those that it has started: who does the work."""
        return [pid for pid in _descendants(self.pid) if not _descendants(pid)] or [self.pid]

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> None:
        """End all of it, at once."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        self._said.close()


def _descendants(pid: int) -> list[int]:
    """All that a process has started, and what those have."""
    with suppress(OSError):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [each for child in map(int, listed.split()) for each in (child, *_descendants(child))]
    return []


def quiet_port() -> int:
    """A free port below those that the system gives to clients.

    A client that keeps trying to reach a server that is away can be given the very port that it is trying to reach, and
    is then connected to itself; the server never gets it back.
    """
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


class Stack:
    """A deployment: server, processes, and the store as the harness itself uses it."""

    def __init__(
        self, folder: Path, *, seed: int, workers: int, guard: str | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self.folder, self.workers, self.patience_s = folder, workers, patience_s
        self.server = self.new_server(port=quiet_port())
        self.server.start()
        self.place = Place.new(folder, url=self.server.url, seed=seed, guard=guard)
        self.children: dict[str, Child] = {}
        self.retired: list[Child] = []
        """Flows that have a successor."""
        self.losses: list[Loss] = []
        self.lock = threading.RLock()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def new_server(self, *, port: int = 0, name: str = "valkey") -> EmbeddedValkey:
        """A server that is not started yet."""
        return EmbeddedValkey(self.folder / name, port=port, options=_OPTIONS)

    def __enter__(self) -> Self:
        self.store = FeatureStore(settings=self.place.settings)
        self.store.apply()
        self._log = open_log(self.client(), self.place.settings.environment, self.store.registry.source(SOURCE))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for child in [*self.children.values(), *self.retired]:
            child.end()
        self.store.close()
        self.server.kill()

    def start(self, *roles: str) -> None:
        """Start these processes, and from now on start again what dies."""
        for role in roles:
            self.children[role] = Child(self.place, role, workers=self.workers)
        if not self._keeper.is_alive():
            self._keeper.start()

    def client(self) -> redis.Redis:
        """A client of its own, that does not wait long."""
        return redis.Redis.from_url(self.place.url, socket_timeout=5, socket_connect_timeout=2)

    def succeed_flow(self) -> Child:
        """Start another flow beside the running one; returns the one that has now a successor."""
        with self.lock:
            former = self.children["flow"]
            self.retired.append(former)
            self.children["flow"] = Child(self.place, "flow", workers=self.workers)
        return former

    def bury_retired(self) -> int:
        """End the flows that had a successor; returns how many of them had not ended by themselves."""
        with self.lock:
            alive = sum(child.is_alive for child in self.retired)
            for child in self.retired:
                child.end()
            self.retired = []
        return alive

    def empty_server(self) -> None:
        """Kill the server and start it without its data."""
        self.server.kill()
        shutil.rmtree(self.server.directory / "appendonlydir", ignore_errors=True)
        self.server.start()

    def replace_server(self, missing_s: float) -> None:
        """Let a replica that lacks so many seconds take the server's place."""
        replica = self.new_server(name=f"valkey{len(self.losses) + 2}")
        try:
            fail_over(self.server, replica, missing_s=missing_s)
        finally:
            self.server, former = replica, self.server
            former.kill()
            if replica.port != former.port:  # nobody was promoted: an operator starts the replica in the server's place
                replica.kill()
                replica.port = former.port
                replica.start()

    def lose(self, act: Callable[[], object], *, positions: Mapping[int, int] | None = None) -> None:
        """Do what may take acknowledged records from the log; then the publisher sends again what the lake lacks.

        `positions` is how far the lake had the log when the server began to lose, where that lasts. The publisher is told
        also of what has failed: a server that does not answer may have done it all the same.
        """
        publisher = self.children["publish"]
        publisher.signal(signal.SIGSTOP)
        try:
            began = self.store.lake.positions(SOURCE) if positions is None else positions
            try:
                act()
            finally:
                at_s, batches = time.time(), read_outbox(self.place)
                self._rewind_publisher(batches)
                # Not before: until the publisher is told, it looks as if all had been sent again.
                self.losses.append(Loss(at_s=at_s, positions=began, batches=len(batches), newest_us=newest_us(batches)))
        finally:
            publisher.signal(signal.SIGCONT)

    def entities(self) -> list[str]:
        """The customers, and one who never pays."""
        return [*CUSTOMERS, "nobody"]

    def _rewind_publisher(self, batches: Sequence[Batch]) -> None:
        """Let the publisher send again what the lake does not hold: the log may have lost it."""
        try:
            held = self.lake_ids()
        except (FeatureStoreError, OSError, duckdb.Error):
            held = set()  # nobody can say, so all of it
        for number, batch in enumerate(batches):
            if any(row["payment_id"] not in held for row in batch.rows):
                self.place.rewind.write_text(str(number))
                return

    def _note_sent_again(self) -> None:
        """See whether what was lost has been sent again."""
        waiting = [loss for loss in self.losses if loss.sent_again is None]
        if not waiting or self.place.rewind.exists():
            return
        sent = sent_up_to(self.place)
        with suppress(redis.RedisError, FeatureStoreError):
            log = self._log
            ends = {p: log.end(p) for p in range(log.partitions)}
            for loss in waiting:
                if sent >= loss.batches:
                    loss.sent_again = ends

    def lake_ids(self) -> set[str]:
        """The event ids of the log that the lake holds."""
        with self.store.lake.cursor() as cursor:
            sql = f"SELECT _event_id FROM ({self.store.lake.events_sql(SOURCE)}) WHERE _partition IS NOT NULL"
            return {row[0] for row in cursor.execute(sql).fetchall()}

    def _keep(self) -> None:
        """Start again what has died."""
        died: dict[str, float] = {}
        while not self._stop.wait(LOOK_S):
            self._note_sent_again()
            with self.lock:
                for role, child in list(self.children.items()):
                    if child.is_alive:
                        continue
                    if time.monotonic() - died.setdefault(role, time.monotonic()) >= RESTART_S:
                        child.end()
                        died.pop(role)
                        self.children[role] = Child(self.place, role, workers=self.workers)
