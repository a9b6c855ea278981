"""The catalogue of faults: each breaks something of a running deployment, and says how and when that ends."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import redis
from filelock import FileLock

from chaos.declared import SOURCE
from chaos.launcher import POINTS
from chaos.stack import Child, Stack

CLOCK_BACK_US = -300_000_000
LOCK_S = 0.5
"""How long a lock is waited for that somebody else holds: it is broken already."""


class Lasting(NamedTuple):
    """A fault that lasts."""

    seconds: float
    end: Callable[[], object]


Act = Callable[[Stack, random.Random], Lasting | None]


def kill(role: str) -> Act:
    """SIGKILL of a process and all that it has started."""
    return lambda stack, draw: stack.children[role].signal(signal.SIGKILL)  # noqa: ARG005


def stop(role: str, longest_s: float) -> Act:
    """SIGSTOP, and some time later SIGCONT."""

    def act(stack: Stack, draw: random.Random) -> Lasting:
        child = stack.children[role]
        child.signal(signal.SIGSTOP)
        return Lasting(_pulse(draw, longest_s), lambda: child.signal(signal.SIGCONT))

    return act


def kill_worker(stack: Stack, draw: random.Random) -> None:
    """SIGKILL of one of the flow's workers (of the flow, where it is its own worker)."""
    _signal(_a_worker(stack.children["flow"], draw), signal.SIGKILL)


def stop_worker(stack: Stack, draw: random.Random) -> Lasting:
    """SIGSTOP of one of the flow's workers, and some time later SIGCONT."""
    pid = _a_worker(stack.children["flow"], draw)
    _signal(pid, signal.SIGSTOP)
    return Lasting(_pulse(draw, 2.0), lambda: _signal(pid, signal.SIGCONT))


def _pulse(draw: random.Random, longest_s: float) -> float:
    """How long something stands still: often a moment, sometimes so long that others take it for dead."""
    return draw.uniform(0.01, draw.choice([0.2, 0.2, 0.2, longest_s]))


def _a_worker(flow: Child, draw: random.Random) -> int:
    return draw.choice(flow.workers)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def two_flows(stack: Stack, draw: random.Random) -> None:
    """A second flow is started beside the running one."""
    del draw
    stack.succeed_flow()


def stopped_and_succeeded(stack: Stack, draw: random.Random) -> Lasting:
    """The flow is stopped, another takes over, and the first one wakes up."""
    stack.children["flow"].signal(signal.SIGSTOP)
    former = stack.succeed_flow()
    return Lasting(draw.uniform(4.0, 10.0), lambda: former.signal(signal.SIGCONT))


def kill_server(stack: Stack, draw: random.Random) -> Lasting:
    """SIGKILL of the server, which comes back with its data."""
    stack.server.kill()
    return Lasting(draw.uniform(0.0, 1.0), stack.server.start)


def empty_server(stack: Stack, draw: random.Random) -> None:
    """SIGKILL of the server, which comes back without its data."""
    del draw
    stack.lose(stack.empty_server)


def flush_server(stack: Stack, draw: random.Random) -> None:
    """FLUSHALL."""
    del draw
    stack.lose(lambda: stack.client().flushall())


def stale_replica(stack: Stack, draw: random.Random) -> None:
    """The server dies, and Sentinel promotes a replica that has not got its last acknowledged writes."""
    stack.lose(lambda: stack.replace_server(draw.uniform(0.2, 1.0)))


def evict(stack: Stack, draw: random.Random) -> Lasting:
    """Somebody switches eviction on, with less memory than is used: until that ends, anything may be lost at any time."""
    client, positions = stack.client(), stack.store.lake.positions(SOURCE)
    used = int(client.info("memory")["used_memory"])
    stack.lose(lambda: _limit(client, policy="allkeys-lru", bytes_=used - draw.randrange(20_000, 200_000)))
    return Lasting(draw.uniform(0.3, 1.5), lambda: stack.lose(lambda: _unlimited(stack), positions=positions))


def out_of_memory(stack: Stack, draw: random.Random) -> Lasting:
    """The server has no memory left, and refuses writes."""
    client = stack.client()
    _limit(client, policy="noeviction", bytes_=int(client.info("memory")["used_memory"]) // 2)
    return Lasting(draw.uniform(0.3, 2.0), lambda: _unlimited(stack))


def _limit(client: redis.Redis, *, policy: str, bytes_: int) -> None:
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", max(bytes_, 1))


def _unlimited(stack: Stack) -> None:
    client = stack.client()
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")


def slow_server(stack: Stack, draw: random.Random) -> None:
    """The server answers nobody for a while."""
    stack.client().client_pause(int(_pulse(draw, 1.5) * 1000))


def sleeping_server(stack: Stack, draw: random.Random) -> None:
    """The server's only thread sleeps: it does not even accept connections."""
    seconds = _pulse(draw, 1.5)
    threading.Thread(target=lambda: _quietly(lambda: stack.client().execute_command("DEBUG SLEEP", seconds))).start()


def _quietly(act: Callable[[], object]) -> None:
    with suppress(redis.RedisError):
        act()


def clock_back(stack: Stack, draw: random.Random) -> Lasting:
    """Everybody's clock is set back by five minutes, and right again later."""
    shift = stack.place.clock_shift
    shift.write_text(str(CLOCK_BACK_US))
    return Lasting(draw.uniform(0.5, 3.0), lambda: shift.write_text("0"))


def lock_catalog(stack: Stack, draw: random.Random) -> Lasting:
    """Somebody keeps a write transaction open on the lake's catalog."""
    connection = sqlite3.connect(stack.place.catalog, timeout=LOCK_S, check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return Lasting(draw.uniform(0.5, 3.0), connection.close)


def hold_commit_lock(stack: Stack, draw: random.Random) -> Lasting:
    """Somebody holds the lock of all who commit to the lake."""
    lock = FileLock(stack.place.settings.lake_directory / "commit.lock", timeout=LOCK_S, thread_local=False)
    lock.acquire()
    return Lasting(draw.uniform(0.5, 3.0), lock.release)


def full_disk(stack: Stack, draw: random.Random) -> Lasting:
    """No file of the archiver or of the backfill can grow: the kernel refuses what they write."""
    pids = [stack.children[role].pid for role in ("archive", "backfill") if role in stack.children]
    for pid in pids:
        _limit_files(pid, draw.choice([0, 1000, 5000]))
    return Lasting(draw.uniform(0.5, 3.0), lambda: [_limit_files(pid, resource.RLIM_INFINITY) for pid in pids])


def _limit_files(pid: int, size: int) -> None:
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size if hard == resource.RLIM_INFINITY else hard, hard))


def meet(point: str) -> Act:
    """Whoever comes to a fail point next dies there."""
    return lambda stack, draw: stack.place.armed(point).touch()  # noqa: ARG005


class Fault(NamedTuple):
    """A fault and how often it is drawn beside the others. Most are cheap: a process that is killed takes seconds to come back,
    and a deployment that is down all the time shows nothing.
    """

    weight: int
    """How many of a deck it has."""
    act: Act
    loses: bool = False
    """Whether the server loses what it has acknowledged: what was served before can often not be proved then."""
    point: str | None = None
    """The fail point that it arms: it happens where that is met."""


FAULTS: Mapping[str, Fault] = {
    "worker killed": Fault(1, kill_worker),
    "worker stopped": Fault(16, stop_worker),
    "flow killed": Fault(1, kill("flow")),
    "flow stopped": Fault(12, stop("flow", 3.0)),
    "flow woken after its successor took over": Fault(1, stopped_and_succeeded),
    "two flows": Fault(1, two_flows),
    "archiver killed": Fault(2, kill("archive")),
    "archiver stopped": Fault(16, stop("archive", 3.0)),
    "publisher killed": Fault(2, kill("publish")),
    "publisher stopped": Fault(16, stop("publish", 2.0)),
    "backfill killed": Fault(3, kill("backfill")),
    "backfill stopped": Fault(10, stop("backfill", 3.0)),
    "server killed": Fault(2, kill_server),
    "server emptied": Fault(1, empty_server, loses=True),
    "server flushed": Fault(1, flush_server, loses=True),
    "failover to a replica without the last writes": Fault(1, stale_replica, loses=True),
    "eviction": Fault(1, evict, loses=True),
    "out of memory": Fault(3, out_of_memory),
    "server paused": Fault(10, slow_server),
    "server asleep": Fault(8, sleeping_server),
    "clock set back": Fault(3, clock_back),
    "catalog locked": Fault(8, lock_catalog),
    "commit lock held": Fault(8, hold_commit_lock),
    "disk full": Fault(8, full_disk),
} | {f"fail point {point}": Fault(3 if point.startswith("flow") else 2, meet(point), point=point) for point in POINTS}
