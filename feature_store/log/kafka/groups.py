"""What consumers have acknowledged, as offsets of consumer groups that have no members.

A consumer that subscribes to nothing commits for its group. (The admin client's requests for groups abort the process
when a coordinator does not answer in time; they serve to list and to delete only.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from feature_store.log.kafka.topic import known_epoch

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    from confluent_kafka.admin import AdminClient

    from feature_store.log.kafka.clients import KafkaClients

_SLICE_S = 0.005


class _Commits:
    """What became of the commits of one group."""

    def __init__(self) -> None:
        self.answers: list[KafkaError | None] = []

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self.answers.append(error or next((at.error for at in partitions if at.error), None))

    def wait(self, client: Consumer, timeout_s: float) -> None:
        """Wait for an answer; raises KafkaException if it is no or does not come."""
        from confluent_kafka import KafkaError, KafkaException

        deadline = time.monotonic() + timeout_s
        while not self.answers:
            if time.monotonic() >= deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
            client.poll(_SLICE_S)
        if self.answers[0] is not None:
            raise KafkaException(self.answers[0])


class KafkaGroups:
    """The groups of one topic: each is called after its consumer."""

    def __init__(self, clients: KafkaClients, *, prefix: str) -> None:
        self._clients, self._prefix = clients, prefix
        self._open: dict[str, tuple[Consumer, _Commits]] = {}

    def names(self) -> list[str]:
        """The consumers whose groups carry the prefix."""

        def listed(admin: AdminClient, timeout_s: float) -> list[str]:
            found = admin.list_consumer_groups(request_timeout=timeout_s).result()
            return [str(group.group_id) for group in found.valid]

        found = self._clients.ask(listed)
        return sorted(name.removeprefix(self._prefix) for name in found if name.startswith(self._prefix))

    def offsets(self, consumer: str, *, partitions: int) -> dict[int, tuple[int, int]]:
        """Partition -> (leader epoch, offset) committed."""
        from confluent_kafka import TopicPartition

        client, _ = self._of(consumer)
        places = [TopicPartition(self._clients.topic, partition) for partition in range(partitions)]
        found = self._clients.ask(lambda _, timeout_s: client.committed(places, timeout=timeout_s))
        return {at.partition: (known_epoch(at.leader_epoch), at.offset) for at in found if at.offset >= 0}

    def commit(self, consumer: str, offsets: Mapping[int, tuple[int, int]], *, answer_s: float | None = None) -> None:
        """Commit (leader epoch, offset) per partition."""
        from confluent_kafka import TopicPartition

        if not offsets:
            return
        client, commits = self._of(consumer)
        topic = self._clients.topic
        places = [TopicPartition(topic, p, n, leader_epoch=epoch) for p, (epoch, n) in offsets.items()]

        def committed(_: AdminClient, timeout_s: float) -> None:
            commits.answers.clear()
            client.commit(offsets=places, asynchronous=True)  # the other way waits for as long as it takes
            commits.wait(client, timeout_s)

        self._clients.ask(committed, answer_s=answer_s)

    def delete(self, consumer: str) -> None:
        """Forget a consumer."""
        from confluent_kafka import KafkaError, KafkaException

        group = self._prefix + consumer
        self._open.pop(consumer, None)

        def deleted(admin: AdminClient, timeout_s: float) -> None:
            try:
                admin.delete_consumer_groups([group], request_timeout=timeout_s)[group].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise

        self._clients.ask(deleted)

    def _of(self, consumer: str) -> tuple[Consumer, _Commits]:
        if consumer not in self._open:
            commits = _Commits()
            client = self._clients.consumer(group=self._prefix + consumer, on_commit=commits.answered)
            self._open[consumer] = (client, commits)
        return self._open[consumer]
