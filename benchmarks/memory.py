"""The memory of a process and all that it started, as Linux accounts for it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_POLL_S = 0.1
PROC = Path("/proc")


class Peak:
    """The most memory that this process and its descendants held at once within a `with`; shared pages count once."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.mb = max(self.mb, sum(map(_held_mb, family(os.getpid()))))
            if self._done.wait(_POLL_S):
                return


def family(pid: int) -> list[int]:
    """A process and its descendants, as far as they live."""
    try:
        lists = [path.read_text() for path in (PROC / str(pid) / "task").glob("*/children")]
    except OSError:
        return [pid]  # it has ended
    return [pid, *(one for text in lists for child in text.split() for one in family(int(child)))]


def _held_mb(pid: int) -> float:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
