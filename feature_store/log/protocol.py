"""What every event log promises: partitions, offsets that only grow, a loss that never goes unnoticed.

An offset is one integer, `epoch << 46 | n`. Over everything that a partition has ever contained, offsets strictly
increase: a new epoch begins when a log may have lost its tail, so a record that took the place of a lost one has a
greater offset than it. Within an epoch `n` grows by one with each record, except where the log's own server says that
it left numbers out (Kafka's transaction markers); lag is a subtraction of `n`. A position is the next offset to read: at
or below the next record's, above the one before. 17 bits of epochs and 46 of numbers last for decades of either.

Another log (Kinesis, Pulsar) is one module that passes `tests/test_log_contract.py`, and a line in `log.binding`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from feature_store.errors import EPOCH_BITS


class Record(NamedTuple):
    """An event on its way into the log."""

    event_id: str
    payload: bytes
    arrived_us: int
    """Kept as exactly as the log can: Redis to the microsecond, Kafka to the millisecond."""


class LogRecord(NamedTuple):
    """An event as the log keeps it."""

    offset: int
    arrived_us: int
    payload: bytes


class Position(NamedTuple):
    """Where a record stands."""

    partition: int
    offset: int


class EventLog(Protocol):
    """One source's live events."""

    @property
    def source(self) -> str:
        """The name in errors."""

    @property
    def partitions(self) -> int:
        """How many partitions; fixed for the life of a log."""

    def publish(self, records: Sequence[Record]) -> list[Position]:
        """Append records, each to the partition of its event id, in call order; says where each one stands.

        A call that fails may have written some of its records, in their order within each partition; publishing all of
        them again is always right, since the second copy of an event is dropped by its id. (Redis writes up to a
        thousand records whole or not at all, Kafka each one for itself.)

        Raises:
            LogFull: a partition has no room for its share.
            LogUnavailable: the server does not answer.
        """

    def read(self, partition: int, position: int, *, max_records: int = 10_000) -> list[LogRecord]:
        """The records from `position` on, in order; empty when there are none yet. Does not wait for one to come.

        Everything is there that stood before an `end` which this object has named, or that it has published itself;
        what others have published in the last moments may come with the next call.

        Raises:
            LogGap: retention has passed `position`, or records are missing.
            LogTailLost: the log ended before `position`, go on at `resume`.
            LogUnavailable: the server does not answer.
        """

    def wait(self, positions: Mapping[int, int], *, timeout_s: float) -> bool:
        """Block until some partition has a record at or after its position; False when time ran out."""

    def begin(self, partition: int) -> int:
        """The offset of the first record kept; the end when there is none."""

    def end(self, partition: int) -> int:
        """The offset that the next record will have."""

    def lag(self, partition: int, position: int) -> int:
        """How many records stand from `position` to the end, numbers left out included.

        Raises:
            LogTailLost: as for `read`.
        """

    def register(self, consumer: str, positions: Mapping[int, int] | None = None) -> dict[int, int]:
        """Keep records for `consumer` from now on: from `positions`, or from the first record kept.

        A consumer that is already registered keeps what it has acknowledged. Returns that, per partition.
        """

    def rejoin(self, consumer: str, positions: Mapping[int, int]) -> dict[int, int]:
        """Register a consumer that has read up to these positions, and must not miss what a log in this one's place holds.

        A log that does not know such a consumer may have been wiped and filled again, with the same offsets as before:
        Redis then begins an epoch in which all that it holds comes again. (Kafka's topics have an identity.)
        """

    def unregister(self, consumer: str) -> None:
        """Stop keeping records for `consumer`."""

    def acknowledge(self, consumer: str, positions: Mapping[int, int]) -> None:
        """`consumer` needs nothing before these positions any more; an older position than before changes nothing.

        Raises:
            UnknownNameError: `consumer` is not registered.
        """

    def consumers(self) -> dict[str, dict[int, int]]:
        """Each registered consumer's acknowledged position per partition."""

    def trim(self, *, behind: str | None = None) -> int:
        """Remove what every registered consumer has acknowledged, nothing without one; returns how many records.

        As long as the consumer `behind` is not registered, nothing is removed: a log that was wiped has forgotten it.

        A log whose retention is its server's own business (Kafka) removes nothing.
        """


def partition_of(event_id: str, partitions: int) -> int:
    """The partition of an event: a function of its id, so a duplicate meets its original."""
    return zlib.crc32(event_id.encode()) % partitions


def pack_offset(epoch: int, n: int) -> int:
    """The offset of record `n` of an epoch."""
    return epoch << EPOCH_BITS | n


def unpack_offset(offset: int) -> tuple[int, int]:
    """Epoch and number of an offset."""
    return offset >> EPOCH_BITS, offset & (1 << EPOCH_BITS) - 1
