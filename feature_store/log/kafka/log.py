"""The log over its parts: where it stands, what it holds, who has read it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from feature_store.errors import LogError, LogGap, LogTailLost, LogUnavailable, UnknownNameError
from feature_store.log.kafka.clients import ANSWER_S, KafkaClients
from feature_store.log.kafka.groups import KafkaGroups
from feature_store.log.kafka.lives import TopicLives
from feature_store.log.kafka.publisher import KafkaPublisher
from feature_store.log.kafka.tail import FetchFailed, PartitionTail
from feature_store.log.kafka.topic import Bounds, KafkaTopic
from feature_store.log.protocol import LogRecord, Position, Record, pack_offset, unpack_offset

if TYPE_CHECKING:
    import redis
    from confluent_kafka import Message

    from feature_store.declare.log import KafkaBinding

CHECK_S = 30.0
"""A reader makes sure this often that the topic is the one it knows."""
PROBE_S, RETRY_S = 1.0, 1.0
"""A reader in trouble asks for so long whether Kafka answers, and then leaves it alone for so long."""

Asked = TypeVar("Asked")


class KafkaLog:
    """One source's log in a topic of Kafka. It connects when it is first used, and reads each partition by a consumer of
    its own. Safe for one thread.
    """

    def __init__(self, client: redis.Redis, binding: KafkaBinding, *, env: str) -> None:
        """Remember what is bound; `client` knows the topic's lives.

        Raises:
            LogError: confluent-kafka is not installed, or an environment variable is not set.
        """
        if importlib.util.find_spec("confluent_kafka") is None:
            raise LogError("log `kafka` needs confluent-kafka: install feature-store[kafka]")
        self.source = binding.topic
        self._clients = KafkaClients(binding, group=f"feature-store.{env}")
        self._groups = KafkaGroups(self._clients, prefix=f"feature-store.{env}.{binding.topic}.")
        self._publisher = KafkaPublisher(self._clients)
        lives = TopicLives(client, env=env, topic=binding.topic)
        self._topic = KafkaTopic(self._clients, lives, partitions=binding.partitions)
        self._tails: dict[int, PartitionTail] = {}
        self._kept: dict[str, dict[int, int]] = {}
        self._check_at = self._silent_until = 0.0

    @property
    def partitions(self) -> int:
        """How many the topic had when it was first looked at."""
        return self._topic.life.partitions

    def publish(self, records: Sequence[Record]) -> list[Position]:
        """See `EventLog.publish`. An offset has the epoch of the end of the call, also if the leader changed within it.

        Raises:
            InputError: the topic does not take a record; names it.
        """
        if not records:
            return []
        placed = self._publisher.publish(records, self.partitions)
        last: dict[int, int] = {}
        for p, n in placed:
            last[p] = max(n, last.get(p, -1))
        prefixes = {p: self._topic.prefix(epoch) for p, epoch in self._topic.leader_epochs(list(last)).items()}
        for p, n in last.items():
            self._expect(p, n + 1)
        return [Position(p, prefixes[p] + n) for p, n in placed]

    def read(self, partition: int, position: int, *, max_records: int = 10_000) -> list[LogRecord]:
        """See `EventLog.read`."""
        return self._guarded(lambda: self._read(partition, position, max_records), partition, position)

    def wait(self, positions: Mapping[int, int], *, timeout_s: float) -> bool:
        """See `EventLog.wait`."""
        deadline = time.monotonic() + timeout_s
        share_s = min(timeout_s, 0.1) / max(1, len(positions))
        while True:
            for partition, position in positions.items():
                tail = self._guarded(lambda p=partition, at=position: self._at(p, at), partition, position)  # type: ignore[misc]
                if tail.wait(timeout_s=share_s):
                    return True
            if time.monotonic() >= deadline:
                return False

    def begin(self, partition: int) -> int:
        """See `EventLog.begin`."""
        return self._topic.begin(self._topic.bounds(partition))

    def end(self, partition: int) -> int:
        """See `EventLog.end`."""
        bounds = self._topic.bounds(partition)
        self._expect(partition, bounds.high)
        return self._topic.prefix(bounds.epoch) + bounds.high

    def lag(self, partition: int, position: int) -> int:
        """See `EventLog.lag`. A transaction's marker counts as a record."""

        def behind() -> int:
            self._at(partition, position)
            return max(0, self._topic.bounds(partition).high - unpack_offset(position)[1])

        return self._guarded(behind, partition, position)

    def register(self, consumer: str, positions: Mapping[int, int] | None = None) -> dict[int, int]:
        """See `EventLog.register`."""
        known = self._acknowledged(consumer)
        missing = {p: (positions or {}).get(p) for p in range(self.partitions) if p not in known}
        fresh = {p: self.begin(p) if at is None else at for p, at in missing.items()}
        self._commit(consumer, fresh)
        self._kept[consumer] = dict(sorted((known | fresh).items()))
        return dict(self._kept[consumer])

    def rejoin(self, consumer: str, positions: Mapping[int, int]) -> dict[int, int]:
        """See `EventLog.rejoin`."""
        return self.register(consumer, positions)

    def unregister(self, consumer: str) -> None:
        """See `EventLog.unregister`."""
        self._kept.pop(consumer, None)
        self._groups.delete(consumer)

    def acknowledge(self, consumer: str, positions: Mapping[int, int]) -> None:
        """See `EventLog.acknowledge`."""
        known = self._kept.get(consumer) or self._acknowledged(consumer)
        if not known:
            raise UnknownNameError("consumer", consumer, self.consumers())
        self._commit(consumer, {p: at for p, at in positions.items() if at > known.get(p, -1)}, answer_s=PROBE_S)
        self._kept[consumer] = {p: max(at, positions.get(p, -1)) for p, at in (dict(positions) | known).items()}

    def consumers(self) -> dict[str, dict[int, int]]:
        """See `EventLog.consumers`."""
        found = {name: self._acknowledged(name) for name in self._groups.names()}
        return {name: positions for name, positions in found.items() if positions}

    def trim(self, *, behind: str | None = None) -> int:  # noqa: ARG002
        """Nothing: what Kafka keeps is the topic's own configuration."""
        return 0

    # ---- reading

    def _expect(self, partition: int, end: int) -> None:
        """The next read gives what stands before `end`."""
        if partition in self._tails:
            self._tails[partition].end = max(self._tails[partition].end, end)

    def _read(self, partition: int, position: int, max_records: int) -> list[LogRecord]:
        tail = self._at(partition, position)
        messages = tail.take(max_records)
        if not messages:
            self._look_after()
            tail = self._at(partition, position)
            if tail.behind:
                self._settle(tail, partition)
            messages = tail.take(max_records)
        records = self._records(messages)
        if records:
            tail.position = records[-1].offset + 1
        return records

    def _at(self, partition: int, position: int) -> PartitionTail:
        """The consumer of a partition, standing at a position that has been checked."""
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = PartitionTail(self._clients.consumer, self.source, partition)
        if tail.position != position:
            self._start(tail, partition, position)
        return tail

    def _start(self, tail: PartitionTail, partition: int, position: int) -> None:
        life = self._topic.look_up()
        bounds = self._topic.bounds(partition)
        epoch, n = unpack_offset(position)
        if epoch < life.base:
            raise self._tail_lost(partition, position, bounds, ended_at=bounds.low)
        if n > bounds.high:
            raise self._tail_lost(partition, position, bounds, ended_at=bounds.high)
        if n < bounds.low:
            raise LogGap(self.source, partition, position, self._topic.begin(bounds))
        reached = min(epoch - life.base, bounds.epoch)
        tail.start(position, n=n, epoch=reached, end=bounds.high)
        self._check_at = time.monotonic() + CHECK_S
        self._settle(tail, partition)
        tail.raise_failure()

    def _settle(self, tail: PartitionTail, partition: int) -> None:
        """Wait for what is known to be there."""
        if not tail.settle(timeout_s=ANSWER_S):
            tail.position = -1
            raise LogUnavailable(
                f"Kafka at {self._clients.servers} does not deliver topic '{self.source}' partition {partition} "
                f"({self._clients.trouble or 'no answer'})"
            )

    def _guarded(self, step: Callable[[], Asked], partition: int, position: int) -> Asked:
        """Take a step of reading; what the broker refuses becomes what it means."""
        if time.monotonic() < self._silent_until:
            raise LogUnavailable(f"Kafka at {self._clients.servers} does not answer ({self._clients.trouble})")
        try:
            return step()
        except LogUnavailable:
            self._silent_until = time.monotonic() + RETRY_S
            raise
        except FetchFailed as failed:
            raise self._meaning(failed, partition, position) from failed

    def _meaning(self, failed: FetchFailed, partition: int, position: int) -> LogError:
        """Why the broker does not give what stands at a position."""
        if not failed.out_of_range:
            return self._clients.refused(failed.error)
        life = self._topic.look_up()
        bounds, n = self._topic.bounds(partition), unpack_offset(position)[1]
        if unpack_offset(position)[0] >= life.base and n < bounds.low:
            return LogGap(self.source, partition, position, self._topic.begin(bounds))
        ended_at = bounds.low if failed.truncated_at is None else min(failed.truncated_at, bounds.high)
        return self._tail_lost(partition, position, bounds, ended_at=max(ended_at, bounds.low))

    def _tail_lost(self, partition: int, position: int, bounds: Bounds, *, ended_at: int) -> LogTailLost:
        life, (epoch, _) = self._topic.life, unpack_offset(position)
        end, goes_on = pack_offset(epoch, ended_at), ended_at
        if epoch >= life.base + bounds.epoch:
            # No election has cut anything off since, so this is a life that Redis has forgotten: read all of it.
            life, goes_on = self._topic.begin_life_above(epoch), bounds.low
        resume = pack_offset(max(epoch + 1, life.base), goes_on)
        return LogTailLost(self.source, partition, reached=position, end=end, resume=resume)

    def _look_after(self) -> None:
        """Now and then make sure that the topic is the one it was. When connections have broken and Kafka answers again,
        begin anew: the log may have lost its tail meanwhile.
        """
        troubled = self._clients.trouble is not None
        if not troubled and time.monotonic() < self._check_at:
            return
        before = self._topic.life
        if self._topic.look_up(answer_s=PROBE_S) != before or troubled:
            for tail in self._tails.values():
                tail.position = -1
        self._check_at = time.monotonic() + CHECK_S

    def _records(self, messages: Sequence[Message]) -> list[LogRecord]:
        records, epoch, prefix = [], -2, 0
        for message in messages:
            written_under = message.leader_epoch()
            if written_under != epoch:
                epoch = written_under  # type: ignore[assignment]
                prefix = self._topic.prefix(written_under)
            arrived_us = message.timestamp()[1] * 1000
            records.append(LogRecord(prefix + message.offset(), arrived_us, message.value() or b""))  # type: ignore[operator]
        return records

    # ---- acknowledging

    def _acknowledged(self, consumer: str) -> dict[int, int]:
        """Positions of this life of the topic; Kafka forgets those of an earlier one with the topic."""
        base = self._topic.life.base
        found = self._groups.offsets(consumer, partitions=self.partitions)
        return {p: pack_offset(base + epoch, n) for p, (epoch, n) in found.items()}

    def _commit(self, consumer: str, positions: Mapping[int, int], *, answer_s: float | None = None) -> None:
        base = self._topic.life.base
        offsets = {p: unpack_offset(at) for p, at in positions.items()}
        of_this_life = {p: (epoch - base, n) for p, (epoch, n) in offsets.items() if epoch >= base}
        self._groups.commit(consumer, of_this_life, answer_s=answer_s)
