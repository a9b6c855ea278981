"""The stream over Kafka: a backlog from a topic to the last value acknowledged, and from published to visible.

Broker, flow, server, publisher and reader are processes of their own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.results import Result, median, row
from benchmarks.stream import (
    ENV,
    EVENTS,
    SEQ,
    Click,
    activity,
    deployment,
    latency,
    publish_directly,
    seconds_for_backlog,
)
from feature_store import EventSource, kafka
from feature_store.log.binding import open_log
from tests.kafka_broker import KafkaBroker, SharedBroker, missing

SERVERS = "BENCHMARK_KAFKA_SERVERS"
PARTITIONS, RATE, REPETITIONS = 4, 10_000, 3

clicks = EventSource(
    "clicks",
    schema=Click,
    event_time="at",
    event_id="uid",
    log=kafka("clicks", bootstrap_servers=f"env:{SERVERS}"),
)
registry, probed = activity(clicks), activity(clicks, SEQ)


def rows(*, workers: Sequence[int] = (1, 2)) -> list[Result]:
    """All measurements of this file, the throughput with some numbers of Bytewax workers."""
    absent = missing()
    if absent is not None:
        raise SystemExit(f"benchmarks of Kafka need Java 17 and Maven: {absent}")
    return [*map(throughput_row, workers), latency_row()]


@contextmanager
def topic() -> Iterator[None]:
    """A broker of its own with a fresh topic, named by the environment."""
    with tempfile.TemporaryDirectory() as directory:
        broker = KafkaBroker(Path(directory) / "kafka")
        broker.start()
        try:
            SharedBroker(broker.servers, "", "").topic(name="clicks", partitions=PARTITIONS)
            os.environ[SERVERS] = broker.servers
            yield
        finally:
            os.environ.pop(SERVERS, None)
            broker.kill()


def throughput_row(workers: int) -> Result:
    """Events a second and worker."""
    with topic(), deployment("benchmarks.kafka:registry", registry, workers=workers) as (client, flow, _):
        log = open_log(client, ENV, clicks)
        rates = [EVENTS / seconds_for_backlog(client, flow, log, name=f"r{n}") for n in range(REPETITIONS)]
    name = f"kafka: unique entities, six windowed features, {workers} worker{'s' if workers > 1 else ''}, each"
    return row(name, median(rates) / workers, "events/s", limit=15_000, at_least=True)


def latency_row() -> Result:
    """From just before an event is published to the first read that knows it, while 10,000 others come each second."""
    with topic(), deployment("benchmarks.kafka:probed", probed) as (_, _, settings):
        name, p99_ms = latency("kafka: published to visible", "benchmarks.kafka", settings, rate=RATE)
    return row(name, p99_ms, "ms", limit=250.0)


if __name__ == "__main__":
    publish_directly(sys.argv[2], clicks, rate=RATE)
