"""The share of reads of late that failed, made of what is counted: looked at when Prometheus asks."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, generate_latest

WINDOW_S = 300.0
_CLOSEST_S = 1.0
"""Between two looks that are remembered, so that no more than a few hundred are, however often somebody asks."""
_COUNT = rb"^%s ([0-9.e+]+)$"
_READS = re.compile(_COUNT % b"online_store_latency_seconds_count", re.MULTILINE)
_FAILED = re.compile(_COUNT % b"online_store_errors_total", re.MULTILINE)


class _Look(NamedTuple):
    at_s: float
    reads: float
    failed: float


class ErrorRate:
    """Remembers what was counted in the last five minutes."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def text(self, counted: bytes, *, at_s: float) -> bytes:
        """`online_store_error_rate` in Prometheus' text format; nothing if nobody has read.

        Args:
            counted: all counts, in the same format.
            at_s: when they were taken, by a clock that does not go back.
        """
        now = _Look(at_s, _value(_READS, counted), _value(_FAILED, counted))
        while len(self._looks) > 1 and self._looks[1].at_s <= at_s - WINDOW_S:
            self._looks.popleft()
        before = self._looks[0] if self._looks else _Look(at_s, 0.0, 0.0)
        if not self._looks or at_s - self._looks[-1].at_s >= _CLOSEST_S:
            self._looks.append(now if self._looks else before)
        if now.reads <= before.reads:
            return b""
        registry = CollectorRegistry()
        rate = Gauge(
            "online_store_error_rate", "Share of reads that failed in the last five minutes", registry=registry
        )
        rate.set((now.failed - before.failed) / (now.reads - before.reads))
        return generate_latest(registry)


def _value(pattern: re.Pattern[bytes], counted: bytes) -> float:
    found = pattern.search(counted)
    return float(found[1]) if found else 0.0
