"""Figures that are looked up when they are asked for, but not more often than they are worth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

EVERY_S = 10.0

Part = Callable[[], Iterable[Metric]]


class Cached(Collector):
    """The figures of several parts; one that cannot be asked is left out, and said to be away."""

    def __init__(self, parts: Mapping[str, Part], *, every_s: float = EVERY_S) -> None:
        self._parts, self._every_s = parts, every_s
        self._lock, self._next_s = threading.Lock(), 0.0
        self._found: list[Metric] = []
        self._away: dict[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """All figures, at most `every_s` old."""
        with self._lock:
            if time.monotonic() >= self._next_s:
                self._found = self._looked_up()
                self._next_s = time.monotonic() + self._every_s
            return iter(self._found)

    def _looked_up(self) -> list[Metric]:
        up = GaugeMetricFamily("exporter_part_up", "Whether a part could be asked", labels=["part"])
        found: list[Metric] = [up]
        for name, part in self._parts.items():
            try:
                found += list(part())
            except Exception as error:  # noqa: BLE001 - whatever it is: the other parts are told, and that this one is not
                self._say(name, str(error).partition("\n")[0] or type(error).__name__)
                up.add_metric([name], 0)
            else:
                self._away.pop(name, None)
                up.add_metric([name], 1)
        return found

    def _say(self, name: str, why: str) -> None:
        """Once, as long as it is for the same reason."""
        if self._away.get(name) != why:
            logger.warning("no figures of %s: %s", name, why)
        self._away[name] = why
