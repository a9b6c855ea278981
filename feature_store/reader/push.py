"""A thread that pushes the sample of a blocking reader."""

from __future__ import annotations

import os
import threading
import weakref

from feature_store.errors import OnlineStoreError
from feature_store.reader.sample import PAUSE_S, ServedSample
from feature_store.reader.transport import Transport

_ENDING_S = 10.0
"""How long a reader that is closed waits for a push that is under way; Redis answers or fails long before."""


class Pusher:
    """Pushes what waits in a sample, twice a second; the thread begins with the first vector that does."""

    def __init__(self, sample: ServedSample, transport: Transport) -> None:
        self._sample, self._transport = sample, transport
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        """The process whose thread runs; threads do not follow a fork."""

    def wake(self) -> None:
        """See to it that somebody pushes."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == (pid := os.getpid()):
                return
            if self._pid:
                self._sample.restart()
            self._pid, self._stop = pid, threading.Event()
            mine = (weakref.ref(self), self._stop)
            self._thread = threading.Thread(target=_push_again_and_again, args=mine, name="served-vectors", daemon=True)
            self._thread.start()

    def push(self) -> None:
        """Push all that waits."""
        while commands := self._sample.take():
            try:
                self._transport.exchange(commands)
            except OnlineStoreError as error:
                self._sample.refused(commands, error)
            else:
                self._sample.pushed(commands)

    def close(self) -> None:
        """Push what waits, and end the thread."""
        self._stop.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(_ENDING_S)  # it may be pushing, by a connection that is to be closed
            self.push()
        self._thread, self._pid = None, 0


def _push_again_and_again(pusher: weakref.ref[Pusher], stop: threading.Event) -> None:
    """Until it is stopped, or nobody has the reader any more."""
    while not stop.wait(PAUSE_S):
        found = pusher()
        if found is None:
            return
        found.push()
        del found
