"""What the API counts, for Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from feature_store.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from feature_store.serving.freshness import Freshness

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder through which several workers count together."""
CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_NOT_SERVED = ("catching_up", "unknown")
_RUN_SECONDS = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0)


@dataclass(slots=True)
class Metrics:
    """Counts of one process, or of all workers of a server."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _requests: Counter = field(init=False)
    _calls: Counter = field(init=False)
    _latency: Histogram = field(init=False)
    _errors: Counter = field(init=False)
    _functions: Histogram = field(init=False)
    _failures: Counter = field(init=False)

    def __post_init__(self) -> None:
        self._requests = Counter("http_requests", "Answered requests", ["operation", "status"], registry=self.registry)
        self._calls = Counter("grpc_requests", "Answered gRPC calls", ["operation", "code"], registry=self.registry)
        self._latency = Histogram(
            "online_store_latency_seconds", "Reads of the online store", buckets=_SECONDS, registry=self.registry
        )
        self._errors = Counter("online_store_errors", "Reads that failed", registry=self.registry)

        self._functions = Histogram(
            "on_demand_seconds",
            "Runs of on-demand functions",
            ["feature"],
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "on_demand_failures", "Rows on which an on-demand function failed", ["feature"], registry=self.registry
        )

    def ran(self, feature: str, seconds: float, failed: int) -> None:
        """Count a run of an on-demand function; the reader names a bounded number of features."""
        self._functions.labels(feature).observe(seconds)
        if failed:
            self._failures.labels(feature).inc(failed)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Time a read; one that raises counts as failed, unless what was asked for is wrong."""
        began = time.perf_counter()
        try:
            yield
        except (InputError, UnknownNameError):
            raise
        except BaseException:
            self._errors.inc()
            raise
        finally:
            self._latency.observe(time.perf_counter() - began)

    def answered(self, operation: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(operation, str(status)).inc()

    def called(self, operation: str, code: str) -> None:
        """Count a gRPC call."""
        self._calls.labels(operation, code).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def freshness_text(found: Mapping[str, Freshness]) -> bytes:
    """The freshness of views, by `view@version`, in Prometheus' text format: infinite where it is not served, or not yet."""
    registry = CollectorRegistry()
    age = Gauge("feature_freshness_seconds", "Age of what readers get of a view", ["view"], registry=registry)
    limit = Gauge("feature_freshness_sla_seconds", "The age that is promised", ["view"], registry=registry)
    for view, fresh in found.items():
        age.labels(view).set(float("inf") if fresh.age_s is None or fresh.state in _NOT_SERVED else fresh.age_s)
        limit.labels(view).set(fresh.sla_s)
    return generate_latest(registry)


def forget(pid: int, folder: str | Path) -> None:
    """Let the gauges of a worker that has ended be nobody's; its counts stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
