"""The one place that knows which logs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.declare.log import KafkaBinding
from feature_store.errors import InputError
from feature_store.log.redis_streams import RedisStreamLog

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.declare.source import EventSource
    from feature_store.log.protocol import EventLog


def open_log(client: Redis, env: str, source: EventSource) -> EventLog:
    """The log of a source. Keep it: a Kafka log connects when it is first used.

    Raises:
        InputError: the source has none.
        LogError: what the log needs is not installed or not set.
    """
    binding = source.log
    if binding is None:
        raise InputError(f"source '{source.name}' has no `log`, so nothing can be published to it or read from it")
    if isinstance(binding, KafkaBinding):
        from feature_store.log.kafka import KafkaLog

        return KafkaLog(client, binding, env=env)
    return RedisStreamLog(client, env=env, source=binding.topic, partitions=binding.partitions, limit=binding.limit)
