"""Ends what a killed run of the tests would leave behind: servers, flows, Dagster's processes, whoever started them.

All that a worker of the tests starts has the worker's mark in its environment. Beside the worker runs this file, whose
standard input ends when the worker does, however that comes about.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "FEATURE_STORE_TESTS_WORKER"
_ENDED_WELL = b"well"


@contextmanager
def guarded(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """Mark all that this process starts within the block; it is ended if this process does not come to the block's end."""
    command = [sys.executable, "-S", __file__, mark]
    guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it
    os.environ[MARK] = mark
    try:
        yield guardian
    finally:
        del os.environ[MARK]
        guardian.communicate(_ENDED_WELL)


def marked(mark: str) -> Iterator[int]:
    """The processes that were started with a mark; on Linux only."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
        except OSError:
            continue


def main(mark: str) -> None:
    """Wait for the end of whoever holds the standard input, and end what is marked unless all went well."""
    if sys.stdin.buffer.read() == _ENDED_WELL:
        return
    while found := [pid for pid in marked(mark) if pid != os.getpid()]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


if __name__ == "__main__":
    main(sys.argv[1])
