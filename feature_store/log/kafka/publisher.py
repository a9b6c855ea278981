"""Publishing to a topic: each event to the partition of its id, acknowledged by all replicas in sync."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from feature_store.errors import InputError, LogError, LogUnavailable
from feature_store.log.protocol import Record, partition_of

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

    from feature_store.log.kafka.clients import KafkaClients

_POLL_S = 0.05


class KafkaPublisher:
    """Publishes for one log. The key of a record is its event id, its time stamp is when it arrived."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._producer: Producer | None = None

    def publish(self, records: Sequence[Record], partitions: int) -> list[tuple[int, int]]:
        """Write records; returns the partition and Kafka's offset of each.

        Raises:
            InputError: the topic does not take one of them.
            LogUnavailable: not all were acknowledged in time.
        """
        from confluent_kafka import KafkaException

        placed = [partition_of(record.event_id, partitions) for record in records]
        offsets, failures = [-1] * len(records), list[tuple[int, "KafkaError"]]()
        number = -1
        try:
            for number, record in enumerate(records):
                self._send(number, record, placed[number], offsets, failures)
            self._made().flush()
        except KafkaException as error:
            failures.append((number, error.args[0]))
        if failures:
            raise self._failed(failures, records, written=sum(offset >= 0 for offset in offsets))
        return list(zip(placed, offsets, strict=True))

    def _send(
        self,
        number: int,
        record: Record,
        partition: int,
        offsets: list[int],
        failures: list[tuple[int, KafkaError]],
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append((number, error))
            else:
                offsets[number] = message.offset()  # type: ignore[assignment]

        producer = self._made()
        while True:
            try:
                producer.produce(
                    self._clients.topic,
                    value=record.payload,
                    key=record.event_id.encode(),
                    partition=partition,
                    timestamp=record.arrived_us // 1000,
                    on_delivery=delivered,
                )
            except BufferError:
                producer.poll(_POLL_S)
            else:
                producer.poll(0)
                return

    def _made(self) -> Producer:
        if self._producer is None:
            self._producer = self._clients.producer()
        return self._producer

    def _failed(
        self, failures: Sequence[tuple[int, KafkaError]], records: Sequence[Record], *, written: int
    ) -> InputError | LogError:
        from confluent_kafka import KafkaError

        producer, self._producer = self._producer, None  # after a fatal error it does nothing any more
        if producer is not None:
            producer.purge()
        number, error = failures[0]
        count = f"{written} of {len(records)} records are known to be written"
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD):
            return InputError(
                f"topic '{self._clients.topic}' does not take event '{records[number].event_id}' ({error.str()}); {count}, publishing all of them again is safe"
            )
        refused = self._clients.refused(error)
        kind = LogUnavailable if isinstance(refused, LogUnavailable) else LogError
        return kind(f"{refused}; {count}, publishing all of them again is safe")
