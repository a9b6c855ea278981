"""`python -m feature_store_deploy.stack.keep -- command`: runs a command, and again when it dies, until it is told to end.

The command is the leader of its own process group, so what it started is ended with it. A command that dies at once is
started again after a pause that doubles each time.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from feature_store_deploy.stack.family import end_with_parent
from feature_store_deploy.streams.succession import SUPERSEDED

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LONG_RUN_S = 60.0
"""After so long a run the next pause is the first one again."""
GRACE_S = 30.0
"""From SIGTERM to SIGKILL."""
LEFTOVERS_S = 5.0
"""The same, for what the command left behind."""


class Keeper:
    """Keeps one command running."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Run until a signal; returns 0."""
        end_with_parent()
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            began = time.perf_counter()
            if self._run_once() == SUPERSEDED:
                self._say("is not started again: a newer one has taken its place")
                self._sleep(float("inf"))
            if time.perf_counter() - began > LONG_RUN_S:
                pause_s = FIRST_PAUSE_S
            if not self._stopping:
                self._say(f"starts again in {pause_s:g} s")
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return 0

    def _run_once(self) -> int | None:
        try:
            self._process = subprocess.Popen(
                self._command,
                process_group=0,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            self._say(f"cannot be started: {error.strerror}")
            return None
        if self._stopping:  # the signal came while it was being started
            self._process.terminate()
        code = self._process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        _end_group(self._process.pid)
        if not self._stopping:
            self._say(f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")
        return code

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._stopping:
            return
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)
            self._process.terminate()

    def _kill(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._process is not None:
            self._say(f"does not end within {GRACE_S:g} s and is killed")
            self._process.kill()

    def _sleep(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while not self._stopping and time.perf_counter() < until:
            time.sleep(0.1)

    def _say(self, text: str) -> None:
        print(f"`{shlex.join(self._command)}` {text}", flush=True)  # noqa: T201 - its output is the stack's


def _end_group(group: int) -> None:
    """End what is left of a process group whose leader is gone."""
    deadline = time.perf_counter() + LEFTOVERS_S
    try:
        os.killpg(group, signal.SIGTERM)
        while time.perf_counter() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> int:
    """Keep the command that stands after `--`."""
    parser = argparse.ArgumentParser(prog="python -m feature_store_deploy.stack.keep", description=__doc__)
    parser.add_argument("command", nargs="+", help="after --")
    return Keeper(parser.parse_args().command).run()


if __name__ == "__main__":
    sys.exit(main())
