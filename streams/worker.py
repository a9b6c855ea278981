"""One worker of the flow: alone in its process, or one of several that another process started."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import msgspec
from bytewax.run import cli_main
from feature_store_deploy.streams.failure import FORESEEN, in_words
from feature_store_deploy.streams.flow import EPOCH, build_flow
from feature_store_deploy.streams.succession import SUPERSEDED

from feature_store.errors import FlowSuperseded
from feature_store.fold.run import Start

if TYPE_CHECKING:
    from feature_store_deploy.streams.context import FlowContext

DEFECT, FAILED, PORT_TAKEN, PEER_LOST = 1, 2, 3, 4
"""Exit codes of a process among several: its traceback says why; its report says why; somebody else listens on its
port or calls there; another process ended. `SUPERSEDED`: the newer run that its report names
owns the online store.
"""

_STDIN, _STDOUT, _STDERR = range(3)
_PORT_TROUBLES = ("Address already in use", "incorrect timely handshake")
"""What the engine says when somebody else listens on a worker's port, or called there before the other workers did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A process among those of one flow."""

    addresses: list[str]
    """`host:port` where each listens for the others."""
    process: int
    """Which of them this is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process among several is told when it starts: all are told the same beginning."""

    start: Start
    place: Place
    tick: timedelta


def run_worker(context: FlowContext, start: Start, *, tick: timedelta, place: Place | None = None) -> None:
    """Run a worker in this process until it is ended.

    Raises:
        FeatureStoreError, RedisError, duckdb.IOException: what stopped it, without the engine's wrapping.
    """
    collect_rarely()
    flow = build_flow(context, start, tick=tick)
    among = {} if place is None else {"addresses": place.addresses, "process_id": place.process}
    try:
        cli_main(flow, workers_per_process=1, epoch_interval=EPOCH, **among)
    except BaseException as error:  # a panic of the engine is no Exception
        if context.failures:
            raise context.failures[0] from error
        raise


def run_among_others(context: FlowContext) -> NoReturn:
    """Run as one process of several. Orders come over standard input, and whoever gave them is gone when it ends; the
    line for the user about what failed goes to standard output.
    """
    report, orders = _own_report(), _read_orders()
    threading.Thread(target=_wait_for_parent, daemon=True).start()
    code = PEER_LOST
    try:
        run_worker(context, orders.start, tick=orders.tick, place=orders.place)
    except FlowSuperseded as error:
        os.write(report, b"%d" % error.by)
        code = SUPERSEDED
    except FORESEEN as error:
        os.write(report, in_words(error).encode())
        code = FAILED
    except Exception as error:  # noqa: BLE001 - the process ends here
        code = PORT_TAKEN if _is_port_trouble(error) else DEFECT
        if code == DEFECT:
            traceback.print_exc()
    except BaseException:  # noqa: BLE001, S110 - a panic of the engine: it has lost another process
        pass
    sys.stderr.flush()
    os._exit(code)  # threads of the engine may be anywhere, and wait for the lost process


def end_with_parent() -> Callable[[str], None]:
    """Let this process end when nobody holds its standard input any more; returns what says a line to whoever does."""
    report = _own_report()
    threading.Thread(target=_wait_for_parent, daemon=True).start()

    def say(line: str) -> None:
        os.write(report, f"{line}\n".encode())

    return say


def _own_report() -> int:
    """The file of the standard output, kept for reports: what is printed in passing is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who started this one ends it
    report = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return report


def collect_rarely() -> None:
    """Let the cycle collector alone for longer: batches are many small objects without cycles, and looking through
    them again and again takes a third of the flow's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _is_port_trouble(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of a port which somebody else has."""
    while error is not None:
        if any(trouble in str(error) for trouble in _PORT_TROUBLES):
            return True
        error = error.__cause__ or error.__context__
    return False


def _read_orders() -> Orders:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_STDIN, 65536)
        if not part:
            os._exit(PEER_LOST)
        line += part
    return msgspec.json.decode(line, type=Orders)


def _wait_for_parent() -> None:
    """Nothing more comes over standard input; it ends when the process at its other end does, however that ends."""
    os.read(_STDIN, 1)
    os._exit(PEER_LOST)
