"""Keeps a run of the flow going in a process of its own, and lets a successor build beside it and take over.

This process imports neither the engine nor the declarations, so a successor begins with those that stand on the disk.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from feature_store.errors import FeatureStoreError
from feature_store.stop import stop_on_signal

logger = logging.getLogger(__name__)

SUPERSEDED = 5
"""Exit code of a flow that has ended because a newer one owns the online store: starting it again would turn the tables."""

_POLL_S = 0.05
_AGAIN_S = 30.0
"""How long after a successor that failed the next one is tried."""
_ENDING_S = 20.0


class _Run:
    """A run in a process of its own, which ends when this one does, and says over standard output what it asks for."""

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "feature_store_deploy.streams", "run", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._asks = self.process.stdout.fileno() if self.process.stdout is not None else -1
        os.set_blocking(self._asks, False)

    def asks(self) -> list[str]:
        """Why it wants a successor, as far as it has said since the last call."""
        with suppress(BlockingIOError):
            return os.read(self._asks, 65536).decode(errors="replace").splitlines()
        return []

    def end(self) -> None:
        """End it, at once if it does not by itself."""
        self.process.terminate()
        try:
            self.process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Succession:
    """The run that owns the online store and, while something has changed, the one that is to follow it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._current = _Run(arguments)
        self._successor: _Run | None = None
        self._wanted, self._answered, self._not_before_s = "", "", 0.0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a run ends that has no successor; returns the exit code.

        Raises:
            FeatureStoreError: the run was ended by a signal.
        """
        stop = stop_on_signal()
        try:
            while not stop.wait(_POLL_S):
                code = self._current.process.poll()
                if code is not None and self._successor is None:
                    return _exit_code(code)
                if code is not None and self._successor is not None:
                    self._current, self._successor = self._successor, None
                    self._answered, self._wanted = self._wanted, ""
                self._watch_successor()
                self._listen()
        finally:
            for run in (self._current, self._successor):
                if run is not None:
                    run.end()
        return 0

    def _watch_successor(self) -> None:
        if self._successor is None or self._successor.process.poll() is None:
            return
        logger.warning("the successor has ended before it could take over; the flow goes on as it was")
        self._successor, self._not_before_s = None, time.perf_counter() + _AGAIN_S

    def _listen(self) -> None:
        """Start a successor if one is wanted. What changes while it builds, it notices by itself."""
        said = self._current.asks()
        if self._successor is not None:
            return
        # A successor may want the same again: what was applied is not what stands on this disk.
        self._wanted = next((line for line in reversed(said) if line != self._answered), self._wanted)
        if self._wanted and time.perf_counter() >= self._not_before_s:
            logger.info("a successor is built beside the run: %s", self._wanted)
            self._successor = _Run(self._arguments)


def _exit_code(code: int) -> int:
    if code < 0:
        raise FeatureStoreError(f"the flow was ended by {signal.Signals(-code).name}; start it again")
    return code
