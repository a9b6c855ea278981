"""Told to stop: SIGTERM and SIGINT."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Stop:
    """As a `threading.Event`, but a signal may set it while its own thread waits: an Event's lock, which is held for a moment
    before and behind each wait, would never be had by the handler, and the process would end no more.
    """

    def __init__(self) -> None:
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)

    def set(self) -> None:
        """Let whoever waits, and whoever will, go on."""
        with suppress(BlockingIOError):  # said often enough
            os.write(self._tell, b".")

    def is_set(self) -> bool:
        """Whether it was set."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it was set within so many seconds."""
        return bool(select.select([self._told], [], [], timeout)[0])


def stop_on_signal() -> Stop:
    """What SIGTERM or SIGINT sets, from here on."""
    stop = Stop()

    def halt(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, halt)
    signal.signal(signal.SIGINT, halt)
    return stop
