"""Over which log the present of a source comes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from feature_store.errors import DeclarationError

ENV = "env:"
"""An option that begins like this names the environment variable that holds it."""

PartitionedBy = Literal["event_id", "producer"]
"""What places an event in its partition. `event_id`: CRC-32 of its id, as `publish` does it; an event that comes elsewhere
is rejected, since a copy of it would not be found. `producer`: a rule of the producers' own, who send all copies of an
event to one partition; the same id in two partitions is two events.
"""

_SECRETS = re.compile(r"(password|secret|\.key\.pem|sasl\.oauthbearer\.config)", re.IGNORECASE)
_OURS = {
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "transactional.id",
}
"""What exactness depends on."""


@dataclass(frozen=True, slots=True)
class RedisStreamBinding:
    """The present of a source comes over Redis Streams."""

    topic: str
    partitions: int = field(default=1, kw_only=True)
    limit: int = field(default=5_000_000, kw_only=True)
    """Records a partition may hold before publishing is refused."""
    partitioned_by: PartitionedBy = field(default="event_id", kw_only=True)


def redis_stream(
    topic: str, *, partitions: int = 1, limit: int = 5_000_000, partitioned_by: PartitionedBy = "event_id"
) -> RedisStreamBinding:
    """Bind a source's live events to a Redis stream. `partitioned_by`: see `PartitionedBy`.

    Raises:
        DeclarationError: `partitioned_by` is neither.
    """
    if problems := list(_placing_problems(partitioned_by)):
        raise DeclarationError([f"log `redis_stream`: {problem}" for problem in problems])
    return RedisStreamBinding(topic, partitions=partitions, limit=limit, partitioned_by=partitioned_by)


@dataclass(frozen=True, slots=True)
class KafkaBinding:
    """The present of a source comes over a topic of Apache Kafka. It holds no password."""

    topic: str
    bootstrap_servers: str = field(kw_only=True)
    partitions: int | None = field(default=None, kw_only=True)
    """How many the topic must have; None: as many as it has."""
    options: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    """Options of librdkafka, sorted."""
    partitioned_by: PartitionedBy = field(default="event_id", kw_only=True)


LogBinding = RedisStreamBinding | KafkaBinding


def kafka(
    topic: str,
    *,
    bootstrap_servers: str,
    partitions: int | None = None,
    options: Mapping[str, str | int | float | bool] | None = None,
    partitioned_by: PartitionedBy = "event_id",
) -> KafkaBinding:
    """Bind a source's live events to a topic of Apache Kafka, which must exist.

    Args:
        topic: its name; an environment of its own is a topic of its own.
        bootstrap_servers: `host:port`, several joined by commas, or `env:NAME`, the variable that holds them.
        partitions: refuse a topic with another number of partitions; any number by default.
        options: of librdkafka, such as `{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN",
            "sasl.username": "reader", "sasl.password": "env:KAFKA_PASSWORD"}`. A value `env:NAME` is read from the
            environment when the log is opened; secrets must be.
        partitioned_by: `event_id`, or `producer` for producers that key by something else; see `PartitionedBy`.

    Raises:
        DeclarationError: an option would hold a secret, or is one that exactness depends on; a name is wrong.
    """
    given = {name: _text(value) for name, value in (options or {}).items()}
    problems = [*_problems(topic, bootstrap_servers, partitions, given), *_placing_problems(partitioned_by)]
    if problems:
        raise DeclarationError([f"log `kafka`: {problem}" for problem in problems])
    return KafkaBinding(
        topic,
        bootstrap_servers=bootstrap_servers,
        partitions=partitions,
        options=tuple(sorted(given.items())),
        partitioned_by=partitioned_by,
    )


def _placing_problems(partitioned_by: str) -> Iterator[str]:
    if partitioned_by not in get_args(PartitionedBy):
        yield f"`partitioned_by` must be 'event_id' or 'producer', got '{partitioned_by}'"


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problems(topic: str, servers: str, partitions: int | None, options: Mapping[str, str]) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic):
        yield f"`topic` must be letters, digits, '.', '_' and '-', got '{topic}'"
    if not servers.removeprefix(ENV):
        yield f"`bootstrap_servers` must be host:port or env:NAME, got '{servers}'"
    if partitions is not None and partitions < 1:
        yield f"`partitions` must be at least 1, got {partitions}"
    for name, value in options.items():
        if name in _OURS:
            yield f"option '{name}' cannot be chosen, the log depends on it"
        elif _SECRETS.search(name) and not value.startswith(ENV):
            yield (
                f"option '{name}' must not stand in the declaration; put it into an environment variable and "
                f"name it: '{name}': 'env:NAME'"
            )
