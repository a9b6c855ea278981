"""The reader of a run: asks all the time, and writes down every answer."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.declared import SERVICE, SHOPS
from feature_store.errors import FeatureStoreError
from feature_store.proof import ServedLog
from feature_store.reader import FeatureReader
from feature_store.reader.vector import FeatureVector
from feature_store.status import Status

if TYPE_CHECKING:
    from chaos.stack import Stack

PAUSE_S = 0.05
BELIEVED = (Status.PRESENT, Status.EMPTY)


@dataclass(slots=True)
class Regress:
    """An older value that a reader was given after a newer one."""

    key: tuple[str, str]
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(slots=True)
class Watch:
    """What one reader has seen."""

    stack: Stack
    served: ServedLog = field(default_factory=ServedLog)
    read_at: list[float] = field(default_factory=list)
    """The machine's time of each vector in `served`."""
    regressed: list[Regress] = field(default_factory=list)
    refused: int = 0
    """Reads that failed: the server was away, or nothing was published."""
    _newest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Read from now on."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _read_on(self) -> None:
        draw = random.Random(0)
        customers = self.stack.entities()
        place = self.stack.place
        with FeatureReader(place.url, env=place.settings.environment, clock=self.stack.store.clock) as reader:
            while not self._stop.wait(PAUSE_S):
                rows = [{"customer": name, "shop": draw.choice(SHOPS)} for name in customers]
                try:
                    vectors = reader.get_online_features_batch(SERVICE, rows)
                except FeatureStoreError:
                    self.refused += 1
                    continue
                for row, vector in zip(rows, vectors, strict=True):
                    self._note(row, vector)

    def _note(self, row: dict[str, str], vector: FeatureVector) -> None:
        self.served.add(row, vector)
        self.read_at.append(time.time())
        for view, known in vector.provenance.items():
            name = view.partition("@")[0]
            statuses = [s for n, s in zip(vector.names, vector.statuses, strict=True) if n.startswith(f"{name}:")]
            if not all(status in BELIEVED for status in statuses):
                continue
            key, written = (view, row["customer" if name == "spending" else "shop"]), (known.run, known.n)
            before = self._newest.get(key, written)
            if written < before:
                self.regressed.append(Regress(key, before, written))
            self._newest[key] = max(before, written)
