"""What consumers have acknowledged, as offsets of consumer groups that have no members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from feature_store.log.kafka.clients import KafkaClients

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


class KafkaGroups:
    """The groups of one topic: each is called after its consumer."""

    def __init__(self, clients: KafkaClients, *, prefix: str) -> None:
        self._clients, self._prefix = clients, prefix

    def names(self) -> list[str]:
        """The consumers whose groups carry the prefix."""

        def listed(admin: AdminClient, timeout_s: float) -> list[str]:
            return [
                str(group.group_id) for group in admin.list_consumer_groups(request_timeout=timeout_s).result().valid
            ]

        found = self._clients.ask(listed)
        return sorted(name.removeprefix(self._prefix) for name in found if name.startswith(self._prefix))

    def offsets(self, consumer: str) -> dict[int, tuple[int, int]]:
        """Partition -> (leader epoch, offset) committed."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        group = self._prefix + consumer

        def asked(admin: AdminClient, timeout_s: float) -> dict[int, tuple[int, int]]:
            wanted = [ConsumerGroupTopicPartitions(group)]
            found = admin.list_consumer_group_offsets(wanted, request_timeout=timeout_s)[group].result()
            return {
                at.partition: (-1 if at.leader_epoch is None else at.leader_epoch, at.offset)
                for at in found.topic_partitions
                if at.topic == self._clients.topic and at.offset >= 0
            }

        return self._clients.ask(asked)

    def commit(self, consumer: str, offsets: Mapping[int, tuple[int, int]], *, answer_s: float | None = None) -> None:
        """Commit (leader epoch, offset) per partition."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        if not offsets:
            return
        group = self._prefix + consumer
        places = [
            TopicPartition(self._clients.topic, partition, n, leader_epoch=epoch)
            for partition, (epoch, n) in offsets.items()
        ]

        def committed(admin: AdminClient, timeout_s: float) -> None:
            wanted = [ConsumerGroupTopicPartitions(group, places)]
            admin.alter_consumer_group_offsets(wanted, request_timeout=timeout_s)[group].result()

        self._clients.ask(committed, answer_s=answer_s)

    def delete(self, consumer: str) -> None:
        """Forget a consumer."""
        from confluent_kafka import KafkaError, KafkaException

        group = self._prefix + consumer

        def deleted(admin: AdminClient, timeout_s: float) -> None:
            try:
                admin.delete_consumer_groups([group], request_timeout=timeout_s)[group].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise

        self._clients.ask(deleted)
