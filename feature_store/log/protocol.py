"""What every event log promises: partitions, dense offsets, retention behind its consumers.

An offset is one integer, `epoch << 48 | n`. Within an epoch `n` is dense from 0, so a jump is lost data and lag is a
subtraction. A new epoch begins when a log may have lost its tail; the log remembers where each epoch ended, so the
step from one epoch to the next is checked too. A position is the next offset to read.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

EPOCH_BITS = 48
MAX_EPOCH = (1 << 63 - EPOCH_BITS) - 1


class Record(NamedTuple):
    """An event on its way into the log."""

    event_id: str
    payload: bytes
    arrived_us: int


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

        A call of up to a thousand records is written whole or not at all. A call whose reply was lost is tried again,
        which may write its records twice but leaves offsets dense; the second copy is dropped by its event id.

        Raises:
            LogFull: a partition has no room for its share.
        """

    def read(self, partition: int, position: int, *, max_records: int = 10_000) -> list[LogRecord]:
        """The records from `position` on, dense and in order; empty when there are none yet. Never blocks.

        Raises:
            LogGap: retention has passed `position`, or offsets are not dense.
            LogTailLost: the log ended before `position`; a new epoch has been started, go on at `resume`.
        """

    def wait(self, positions: Mapping[int, int], *, timeout_s: float) -> bool:
        """Block until some partition has a record at or after its position; False when time ran out."""

    def begin(self, partition: int) -> int:
        """The offset of the first record kept; the end when there is none."""

    def end(self, partition: int) -> int:
        """The offset that the next record will have."""

    def lag(self, partition: int, position: int) -> int:
        """How many records stand from `position` to the end.

        Raises:
            LogTailLost: as for `read`.
        """

    def start_epoch(self, *, above: int = 0) -> int:
        """Begin an epoch greater than every earlier one and than `above`; returns its number."""

    def register(self, consumer: str, positions: Mapping[int, int] | None = None) -> dict[int, int]:
        """Keep records for `consumer` from now on: from `positions`, or from the first record kept.

        A consumer that is already registered keeps what it has acknowledged. Returns that, per partition.
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

    def trim(self) -> int:
        """Remove what every registered consumer has acknowledged, nothing without one; returns how many records."""


def partition_of(event_id: str, partitions: int) -> int:
    """The partition of an event: a function of its id, so a duplicate meets its original."""
    return zlib.crc32(event_id.encode()) % partitions


def pack_offset(epoch: int, n: int) -> int:
    """The offset of record `n` of an epoch."""
    return epoch << EPOCH_BITS | n


def unpack_offset(offset: int) -> tuple[int, int]:
    """Epoch and number of an offset."""
    return offset >> EPOCH_BITS, offset & (1 << EPOCH_BITS) - 1
