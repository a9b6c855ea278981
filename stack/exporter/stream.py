"""What Redis says of the stream, also when neither the flow nor the archiver runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from feature_store.errors import LogError
from feature_store.fold.archive import CONSUMER
from feature_store.fold.run import live_sources
from feature_store.log.binding import open_log
from feature_store.online.keys import generation_key, ready_key
from feature_store.online.ready import ReadyRecord, parse_ready, shards_of

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.log.protocol import EventLog
    from feature_store.registry import Registry

FLOW, ARCHIVER = "flow", "archiver"


class Stream:
    """The stream of one environment, from outside."""

    def __init__(self, registry: Registry, client: Redis, *, env: str, clock: Clock) -> None:
        self._client, self._env, self._clock = client, env, clock
        self._logs = {
            name: open_log(client, env, source) for name, source in registry.sources.items() if source.log is not None
        }
        self._streamed = frozenset(live_sources(registry))

    def families(self) -> Iterator[Metric]:
        """Everything that is known now.

        Raises:
            RedisError: Redis does not answer.
        """
        generation = cast("bytes | None", self._client.get(generation_key(self._env)))
        fields = cast("dict[bytes, bytes]", self._client.hgetall(ready_key(self._env)))
        count = shards_of(fields)
        records = parse_ready(fields)
        shards = [
            record
            for number in range(count)
            if (record := records.get(str(number))) is not None
            and generation is not None
            and record.generation == generation.decode()
        ]
        if self._streamed:
            yield GaugeMetricFamily("stream_shards", "Shards over which entities are spread", value=count)
            yield GaugeMetricFamily("stream_shards_ready", "Shards that vouch for their values", value=len(shards))
        if self._streamed and len(shards) == count:
            known_us = min(known_until_us(record) for record in shards)
            yield GaugeMetricFamily(
                "stream_watermark_timestamp_seconds", "What had arrived by then is in the values", value=known_us / 1e6
            )
            age_s = max(self._clock.now_us() - known_us, 0) / 1e6
            yield GaugeMetricFamily(
                "stream_lag_seconds", "Age of the watermark, by the deployment's clock", value=age_s
            )
        yield self._lags(shards if len(shards) == count else [])

    def _lags(self, shards: list[ReadyRecord]) -> Metric:
        found = GaugeMetricFamily(
            "stream_lag_records", "Records of a log that a consumer has not had yet", labels=["source", "consumer"]
        )
        for source, log in self._logs.items():
            positions = {FLOW: reached(shards, source) if source in self._streamed else {}}
            try:
                positions[ARCHIVER] = log.consumers().get(CONSUMER, {})
                for consumer, reads in positions.items():
                    if reads:
                        found.add_metric([source, consumer], _lag(log, reads))
            except LogError:  # nobody can say how far a log is that has lost its end, or is away
                continue
        return found


def known_until_us(record: ReadyRecord) -> int:
    """The time up to which everything that had arrived is in a shard's values."""
    unread_us = record.oldest_unread_us
    return record.beat_us if unread_us is None else min(record.beat_us, unread_us)


def reached(shards: list[ReadyRecord], source: str) -> Mapping[int, int]:
    """Partition -> how far the slowest shard has read."""
    slowest: dict[int, int] = {}
    for record in shards:
        for partition, position in record.positions.get(source, {}).items():
            slowest[partition] = min(position, slowest.get(partition, position))
    return slowest


def _lag(log: EventLog, positions: Mapping[int, int]) -> int:
    return sum(log.lag(partition, position) for partition, position in positions.items())
