"""What the flow and the archiver count, for Prometheus. Labels come from the declarations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feature_store.history.late import UNDECLARED_US, limit_us
from feature_store.transforms.project import ARRIVED, TIME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feature_store.fold.intake import Accepted
    from feature_store.registry import Registry

OUTCOMES = ("accepted", "duplicate", "conflict", "rejected")
_RECORDS = (1, 10, 100, 1_000, 10_000, 100_000)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class StreamMetrics:
    """Counts of one process; an `Observer` of what it does."""

    def __init__(
        self,
        process: str,
        registry: Registry,
        sources: Iterable[str],
        *,
        to: CollectorRegistry | None = None,
    ) -> None:
        """Begin at zero, with a series for each source, so that the first event of one is a change.

        Args:
            process: `stream` or `archive`; begins the names.
            registry: the declarations.
            sources: those that the process reads.
            to: where they are collected; nowhere where several processes count together, in files.
        """
        events = Counter(
            f"{process}_events", "Records read, by what became of them", ["source", "outcome"], registry=to
        )
        late = Counter(f"{process}_late_events", "Accepted events that arrived late", ["source"], registry=to)
        batches = Histogram(
            f"{process}_batch_records", "Records of a micro-batch", ["source"], buckets=_RECORDS, registry=to
        )
        newest = Gauge(
            f"{process}_newest_event_timestamp_seconds",
            "Time of the newest accepted event",
            ["source"],
            registry=to,
            multiprocess_mode="max",
        )
        sources = list(sources)
        self._events = {(source, outcome): events.labels(source, outcome) for source in sources for outcome in OUTCOMES}
        self._late = {source: late.labels(source) for source in sources}
        self._batches = {source: batches.labels(source) for source in sources}
        self._newest, self._newest_us = newest, dict.fromkeys(sources, 0)
        self._lateness_us = {source: late_after_us(registry, source) for source in sources}
        self._commits = Histogram(
            f"{process}_commit_seconds", "Writing a commit, until it is visible", buckets=_SECONDS, registry=to
        )
        self._written = Counter(f"{process}_written", "Values or records in these commits", registry=to)

    def took(self, source: str, accepted: Accepted) -> None:
        """Count the records of a micro-batch; one without records is none."""
        events, rejected = accepted.events, accepted.rejected
        if not events.num_rows and not rejected:
            return
        self._batches[source].observe(events.num_rows + len(rejected))
        for record in rejected:
            self._events[source, record.kind].inc()
        if events.num_rows:
            self._events[source, "accepted"].inc(events.num_rows)
            delays = pc.subtract(events.column(ARRIVED), events.column(TIME))
            self._late[source].inc(pc.sum(pc.greater(delays, self._lateness_us[source])).as_py() or 0)
            self._note_newest(source, pc.max(events.column(TIME)).as_py())

    def _note_newest(self, source: str, time_us: int) -> None:
        if time_us > self._newest_us[source]:
            self._newest_us[source] = time_us
            self._newest.labels(source).set(time_us / 1e6)

    def committed(self, values: int, seconds: float) -> None:
        """Count a commit; one without values is a heartbeat."""
        if values:
            self._commits.observe(seconds)
            self._written.inc(values)


def late_after_us(registry: Registry, source: str) -> int:
    """How long after it happened an event of a source may arrive and be late for none of its views: the shortest `lateness` of its views."""
    return min((limit_us(view) for view in registry.views_of(source)), default=UNDECLARED_US)
