"""Reading one partition of a topic from an offset on, with what the broker says of the way there."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

_SLICE_S = 0.05
_ENDED_AT = re.compile(r"broker end offset is (-?\d+)")


class FetchFailed(Exception):  # noqa: N818
    """The consumer cannot go on; `error` is its own."""

    def __init__(self, error: KafkaError) -> None:
        self.error = error
        super().__init__(error.str())

    @property
    def out_of_range(self) -> bool:
        """Whether the broker does not have what was asked for."""
        from confluent_kafka import KafkaError

        return self.error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION)  # noqa: SLF001

    @property
    def truncated_at(self) -> int | None:
        """Where the log ended for a reader of our epoch, if it says so."""
        found = _ENDED_AT.search(self.error.str())
        return int(found[1]) if found and int(found[1]) >= 0 else None


class PartitionTail:
    """A consumer of one partition. It fetches ahead in a thread of its own."""

    def __init__(self, make_consumer: Callable[[], Consumer], topic: str, partition: int) -> None:
        self._make_consumer, self._topic, self._partition = make_consumer, topic, partition
        self._consumer = make_consumer()
        self._used = False
        self._waiting: deque[Message] = deque()
        self._failed: KafkaError | None = None
        self._reached = -1
        self.position = -1
        """The log's position whose record comes next; -1 before `start`."""
        self.end = 0
        """Records below this offset of Kafka's are known to be there."""

    def start(self, position: int, *, n: int, epoch: int, end: int) -> None:
        """Begin at Kafka's offset `n`, whose predecessor was written under leader epoch `epoch`."""
        from confluent_kafka import TopicPartition

        if self._used:  # a consumer compares the epoch of its first position only
            self._consumer.close()
            self._consumer = self._make_consumer()
        self._used = True
        self._waiting.clear()
        self._failed, self._reached, self.position, self.end = None, -1, position, end
        self._consumer.assign([TopicPartition(self._topic, self._partition, n, leader_epoch=epoch)])

    def settle(self, *, timeout_s: float) -> bool:
        """Wait for a record, the end of what is known to be there, or a failure, which the next `take` tells; False
        when time ran out.
        """
        deadline = time.monotonic() + timeout_s
        while not (self._waiting or self._failed is not None or 0 <= self._reached >= self.end):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._sort([self._consumer.poll(min(left, _SLICE_S))])
        return True

    def take(self, count: int) -> list[Message]:
        """The next records that have been fetched, at most `count`.

        Raises:
            FetchFailed: there are none, because the broker refuses.
        """
        if len(self._waiting) < count and self._failed is None:
            self._sort(self._consumer.consume(count - len(self._waiting), 0))
        self.raise_failure()
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def wait(self, *, timeout_s: float) -> bool:
        """Whether a record has come within this time."""
        deadline = time.monotonic() + timeout_s
        while not self._waiting:
            self.raise_failure()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._sort([self._consumer.poll(left)])
        return True

    def raise_failure(self) -> None:
        """Raise FetchFailed if the broker has refused; the next call begins anew."""
        if self._failed is not None and not self._waiting:
            error, self._failed, self.position = self._failed, None, -1
            raise FetchFailed(error)

    @property
    def behind(self) -> bool:
        """Whether records are known to be there that were not fetched yet."""
        return not self._waiting and self._reached < self.end

    def _sort(self, messages: Sequence[Message | None]) -> None:
        from confluent_kafka import KafkaError

        for message in messages:
            error = None if message is None else message.error()
            if message is None:
                continue
            if error is None:
                self._waiting.append(message)
                self._reached = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._reached = max(self._reached, message.offset() or 0)
            else:
                self._failed = error
