"""Several workers on one machine: a process each, which this one starts, watches and ends. None outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from feature_store_deploy.streams.succession import SUPERSEDED
from feature_store_deploy.streams.worker import FAILED, PEER_LOST, PORT_TAKEN, Orders, Place

from feature_store.embedded import HOST, PORT_ATTEMPTS, free_ports
from feature_store.errors import FeatureStoreError, FlowSuperseded
from feature_store.stop import stop_on_signal

if TYPE_CHECKING:
    from feature_store.fold.run import Start
    from feature_store.stop import Stop

Process = subprocess.Popen[bytes]

_POLL_S = 0.05
_CAUSE_S = 5.0
"""How long after a process that lost another one the other one may take to end."""


def run_cluster(start: Start, *, tick: timedelta) -> None:
    """Run a process for each shard of `start` until SIGTERM or SIGINT.

    Raises:
        FlowSuperseded: a newer run has taken over.
        FeatureStoreError: one of them ended, and with it the others; says which and why.
    """
    stop = stop_on_signal()
    for attempt in range(1, PORT_ATTEMPTS + 1):
        with _processes(start, tick) as processes:
            ended = _first_to_end(processes, stop)
            if ended is None:
                return
            # A free port can be taken by somebody else before the worker binds it.
            if ended.returncode == SUPERSEDED:
                raise FlowSuperseded(start.run, int(_report(ended)))
            if ended.returncode != PORT_TAKEN or attempt == PORT_ATTEMPTS:
                raise FeatureStoreError(_why(ended, f"worker {processes.index(ended) + 1} of {len(processes)}"))


@contextmanager
def _processes(start: Start, tick: timedelta) -> Iterator[list[Process]]:
    """The running processes; they have ended when the block has."""
    addresses = [f"{HOST}:{port}" for port in free_ports(start.shards)]
    processes: list[Process] = []
    with ExitStack() as ending:
        for number in range(start.shards):
            place = Place(addresses=addresses, process=number)
            process = _started(Orders(start=start, place=place, tick=tick))
            ending.enter_context(process)
            ending.callback(process.kill)  # at any moment: what a worker knows follows from the log
            processes.append(process)
        yield processes


def _started(orders: Orders) -> Process:
    """A process with its orders. Its standard input stays open for as long as this process lives."""
    command = [sys.executable, "-m", "feature_store_deploy.streams", "worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has ended already, and its exit code says why
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
    return process


def _first_to_end(processes: Sequence[Process], stop: Stop) -> Process | None:
    """The process that ended for a reason of its own; None if all are to end."""
    lost_s: float | None = None
    while not stop.wait(_POLL_S):
        ended = [process for process in processes if process.poll() is not None]
        causes = [process for process in ended if process.returncode != PEER_LOST]
        if causes:
            return min(causes, key=lambda process: process.returncode not in (FAILED, SUPERSEDED))
        if ended:
            lost_s = lost_s or time.perf_counter()
            if len(ended) == len(processes) or time.perf_counter() - lost_s > _CAUSE_S:
                return ended[0]
    return None


def _why(ended: Process, name: str) -> str:
    code = ended.returncode
    if code == FAILED:
        return _report(ended)
    if code == PORT_TAKEN:
        return f"{name} found its loopback port in use {PORT_ATTEMPTS} times; start the flow again"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{name} {how}, and the flow with it; start it again"


def _report(ended: Process) -> str:
    return ended.stdout.read().decode() if ended.stdout is not None else ""
