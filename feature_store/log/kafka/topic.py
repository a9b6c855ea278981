"""A topic as the cluster describes it, and the epochs that its leader epochs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from feature_store.errors import LogError
from feature_store.log.kafka.clients import KafkaClients
from feature_store.log.protocol import pack_offset

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from feature_store.log.kafka.lives import TopicLives


class Life(NamedTuple):
    """The topic as it was last looked at."""

    id: str
    partitions: int
    base: int
    """What its leader epochs are added to."""


class Bounds(NamedTuple):
    """One moment of a partition, in Kafka's offsets."""

    low: int
    high: int
    low_epoch: int
    """The leader epoch of the first record."""
    epoch: int
    """The leader epoch of now."""


class KafkaTopic:
    """One topic. It is looked at when something is first asked of it."""

    def __init__(self, clients: KafkaClients, lives: TopicLives, *, partitions: int | None) -> None:
        """`partitions`: how many it must have, None for any number."""
        self._clients, self._lives, self._declared = clients, lives, partitions
        self._found: Life | None = None

    @property
    def life(self) -> Life:
        """As last looked at.

        Raises:
            LogError: there is no such topic, it is compacted, or it has another number of partitions.
            LogUnavailable: Kafka does not answer.
        """
        return self._found or self.look_up()

    def look_up(self, *, answer_s: float | None = None) -> Life:
        """As it is now. Raises what `life` does."""
        name = self._clients.topic
        found_id, count = self._clients.ask(lambda admin, s: _described(admin, s, name), answer_s=answer_s)
        self._check(count)
        if self._found is None and "compact" in self._clients.ask(lambda admin, s: _policy(admin, s, name)):
            raise LogError(
                f"topic '{name}' is compacted, and forgets events; set its cleanup.policy to 'delete', "
                "or fill a topic without compaction from it"
            )
        self._found = Life(found_id, count, self._lives.base(found_id))
        return self._found

    def begin_life_above(self, epoch: int) -> Life:
        """A life whose epochs are greater than one that a reader has reached and nobody else knows of."""
        self._found = self.life._replace(base=self._lives.base(self.life.id, reached=epoch))
        return self._found

    def bounds(self, partition: int, *, answer_s: float | None = None) -> Bounds:
        """What a partition holds now."""
        if not 0 <= partition < self.life.partitions:
            raise LogError(f"topic '{self._clients.topic}' has no partition {partition}, it has {self.life.partitions}")
        return self._clients.ask(lambda admin, s: _bounds(admin, s, self._clients.topic, partition), answer_s=answer_s)

    def leader_epochs(self, partitions: Sequence[int]) -> dict[int, int]:
        """The leader epoch of now of each partition."""
        return self._clients.ask(lambda admin, s: _leader_epochs(admin, s, self._clients.topic, partitions))

    def prefix(self, leader_epoch: int | None) -> int:
        """The log's offset of Kafka's offset 0 under a leader epoch, which a record of an old format lacks."""
        epoch = self.life.base + known_epoch(leader_epoch)
        self._lives.raise_to(epoch)
        return pack_offset(epoch, 0)

    def begin(self, bounds: Bounds) -> int:
        """The log's offset of the first record kept."""
        empty = bounds.low >= bounds.high
        return self.prefix(bounds.epoch if empty else bounds.low_epoch) + bounds.low

    def _check(self, count: int) -> None:
        name = self._clients.topic
        if self._declared is not None and count != self._declared:
            raise LogError(
                f"topic '{name}' at Kafka {self._clients.servers} has {count} partitions, but `partitions={self._declared}` "
                "was declared; correct the declaration, or leave `partitions` away"
            )
        if self._found is not None and count != self._found.partitions:
            raise LogError(
                f"topic '{name}' has {count} partitions now, {self._found.partitions} when this process began; "
                "start it again, so that all of them are read"
            )


def _described(admin: AdminClient, timeout_s: float, topic: str) -> tuple[str, int]:
    from confluent_kafka import TopicCollection

    found = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s)[topic].result()
    return str(found.topic_id), len(found.partitions)


def _policy(admin: AdminClient, timeout_s: float, topic: str) -> str:
    """The topic's clean-up policy; nothing where this user may not ask."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        configs = admin.describe_configs([resource], request_timeout=timeout_s)[resource].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return ""
        raise
    return str(configs["cleanup.policy"].value)


def _bounds(admin: AdminClient, timeout_s: float, topic: str, partition: int) -> Bounds:
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    place = TopicPartition(topic, partition)
    asked = [
        admin.list_offsets({place: spec}, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout_s)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    ]
    low, high = (answer[place].result() for answer in asked)
    return Bounds(low.offset, high.offset, known_epoch(low.leader_epoch), known_epoch(high.leader_epoch))


def _leader_epochs(admin: AdminClient, timeout_s: float, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}  # type: ignore[no-untyped-call]
    answers = admin.list_offsets(asked, request_timeout=timeout_s)
    return {place.partition: known_epoch(answer.result().leader_epoch) for place, answer in answers.items()}


def known_epoch(epoch: int | None) -> int:
    """A leader epoch, 0 where a broker or a record of old does not say it."""
    return 0 if epoch is None or epoch < 0 else epoch
