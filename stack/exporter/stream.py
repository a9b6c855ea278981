"""What Redis says of the stream, also when neither the flow nor the archiver runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from feature_store.errors import LogError
from feature_store.fold.archive import CONSUMER
from feature_store.fold.run import live_sources
from feature_store.log.binding import open_log
from feature_store.stream_progress import Vouchers, read_vouchers

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
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
        vouchers = read_vouchers(self._client, self._env)
        if self._streamed:
            yield GaugeMetricFamily("stream_shards", "Shards over which entities are spread", value=vouchers.shards)
            ready = len(vouchers.speaking)
            yield GaugeMetricFamily("stream_shards_ready", "Shards that vouch for their values", value=ready)
        known_us = vouchers.watermark_us
        if self._streamed and known_us is not None:
            yield GaugeMetricFamily(
                "stream_watermark_timestamp_seconds", "What had arrived by then is in the values", value=known_us / 1e6
            )
            age_s = max(self._clock.now_us() - known_us, 0) / 1e6
            yield GaugeMetricFamily(
                "stream_lag_seconds", "Age of the watermark, by the deployment's clock", value=age_s
            )
        yield self._lags(vouchers)

    def _lags(self, vouchers: Vouchers) -> Metric:
        found = GaugeMetricFamily(
            "stream_lag_records", "Records of a log that a consumer has not had yet", labels=["source", "consumer"]
        )
        for source, log in self._logs.items():
            reached = vouchers.reached(source) if source in self._streamed and not vouchers.silent else {}
            try:
                for consumer, reads in ((FLOW, reached), (ARCHIVER, log.consumers().get(CONSUMER, {}))):
                    if reads:
                        found.add_metric([source, consumer], sum(log.lag(p, at) for p, at in reads.items()))
            except LogError:  # nobody can say how far a log is that has lost its end, or is away
                continue
        return found
