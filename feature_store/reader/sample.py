"""The sample of what was served: chosen by entity, encoded beside the read, pushed to Redis behind its back.

A read appends the bytes of the vectors that are chosen to a bounded buffer, and nothing more. Twice a second they go to
the stream `served:<env>`, from where the archiver takes them to the lake. A full buffer drops and counts; a Redis that
refuses is told of once, and counted. No read waits for any of it, or fails.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from feature_store.declare.key import KeyKind, key_text
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import served_key
from feature_store.reader.commands import Command
from feature_store.reader.computing import recorded
from feature_store.reader.plan import HASHES, ReadPlan
from feature_store.reader.vector import FeatureVector
from feature_store.time_rule import SECOND_US

CAPACITY = 4096
"""How many vectors wait at most; a reader that dies loses at most those, and at most those of `PAUSE_S`."""
PAUSE_S = 0.5
"""Seconds between two pushes."""
KEPT = 100_000
"""About how many entries each stream holds for the archiver; older ones make room."""
PUSHED_AT_ONCE = 500

FIELD = "v"
_MIX = 0x9E3779B1


class ServedRecord(msgspec.Struct, frozen=True, array_like=True):
    """One served vector, as it stands in the stream."""

    id: str
    service: str
    """`name@version`, as it was really served."""
    requested_us: int | None
    """The time that was asked for; None: now."""
    served_us: int
    """When it was served, by the reader's clock."""
    request: dict[str, str | int | float | bool | None]
    """What the service took from the request: the columns of its join keys, as their canonical texts, and those of its
    functions, times as microseconds and dates as days since the epoch."""
    views: tuple[str, ...]
    sources: list[int | None]
    """Five numbers for each view: run, n, effective time, shard, time of the newest event."""
    features: tuple[str, ...]
    values: list[Any]
    statuses: list[int]


class Sampled(NamedTuple):
    """What became of the vectors that were chosen."""

    waiting: int
    pushed: int
    dropped: int
    """There was no room for them."""
    refused: int
    """Redis did not take them: away, out of memory, or without the right to write."""


class ServedSample:
    """The vectors of one reader on their way to the stream; threads may share it."""

    def __init__(self, env: str, *, capacity: int = CAPACITY) -> None:
        self._env, self._capacity = env, capacity
        self._buffer: deque[Command] = deque()
        self._encode = msgspec.msgpack.Encoder().encode
        self._pushed = self._dropped = self._refused = 0
        self._told = False
        self._frames: dict[str, _Frame] = {}
        self.restart()

    def restart(self) -> None:
        """Begin anew in a process that was forked off: what waits is the parent's."""
        self._prefix, self._numbers, self._lock = secrets.token_hex(8), itertools.count(1), threading.Lock()
        self._buffer.clear()

    @property
    def counts(self) -> Sampled:
        """What became of the chosen vectors so far."""
        return Sampled(len(self._buffer), self._pushed, self._dropped, self._refused)

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._buffer)

    def note(
        self,
        plan: ReadPlan,
        rows: Sequence[Mapping[str, object]],
        kept: Sequence[int],
        *,
        requests: Sequence[Sequence[object]],
        as_of: Sequence[int | None],
        now_us: int,
        vectors: Sequence[FeatureVector],
    ) -> None:
        """Keep some of the rows of a read, those that `chosen` names."""
        for i in kept:
            try:
                given = [column[i] for column in requests]
                command = self._command(plan, rows[i], given, as_of_us=as_of[i], now_us=now_us, vector=vectors[i])
            except (OverflowError, TypeError, ValueError):  # a default of the service that has no bytes
                command = None
            with self._lock:
                if command is None or len(self._buffer) >= self._capacity:
                    self._dropped += 1
                else:
                    self._buffer.append(command)

    def _command(
        self,
        plan: ReadPlan,
        row: Mapping[str, object],
        given: Sequence[object],
        *,
        as_of_us: int | None,
        now_us: int,
        vector: FeatureVector,
    ) -> Command:
        frame = self._frames.get(plan.service.id)
        if frame is None or frame.plan is not plan:
            frame = self._frames[plan.service.id] = _Frame.of(plan, self._env)
        record = (  # in the order of `ServedRecord`
            f"{self._prefix}-{next(self._numbers)}",
            frame.service,
            as_of_us,
            now_us,
            {
                **{each.column: recorded(value) for each, value in zip(plan.requests, given, strict=True)},
                **{column: key_text(row[column], kind) for column, kind in frame.columns},
            },
            frame.views,
            vector.sources,
            frame.features,
            vector.values,
            vector.statuses,
        )
        return (*frame.push, self._encode(record))

    def take(self) -> list[Command]:
        """Commands that push the oldest of what waits; the caller says what became of them."""
        with self._lock:
            return [self._buffer.popleft() for _ in range(min(len(self._buffer), PUSHED_AT_ONCE))]

    def pushed(self, commands: Sequence[Command]) -> None:
        """Redis has them."""
        with self._lock:
            self._pushed += len(commands)
        self._told = False

    def refused(self, commands: Sequence[Command], error: OnlineStoreError) -> None:
        """Redis did not take them: they are given up, which is said once until it takes some again."""
        with self._lock:
            self._refused += len(commands)
        if not self._told:
            import logging  # takes longer than a read

            self._told = True
            logging.getLogger(__name__).warning("served vectors are not logged, reads go on: %s", error)


class _Frame(NamedTuple):
    """What all records of one plan have in common, encoded once."""

    plan: ReadPlan
    push: Command
    """The command, up to the record."""
    service: msgspec.Raw
    views: msgspec.Raw
    features: msgspec.Raw
    columns: Sequence[tuple[str, KeyKind]]

    @classmethod
    def of(cls, plan: ReadPlan, env: str) -> _Frame:
        names, key = plan.names, served_key(env, personal=plan.personal)
        return cls(
            plan=plan,
            push=("XADD", key, "MAXLEN", "~", str(KEPT), "*", FIELD),
            service=_raw(names.service),
            views=_raw(names.views),
            features=_raw(names.features),
            columns=[pair for entity in plan.entities for pair in zip(entity.columns, entity.kinds, strict=True)],
        )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def may_choose(below: int, keys: Sequence[str | None]) -> bool:
    """Whether a read may have a chosen row: of one entity, as most are, whether it is in the sample, by one call of the read."""
    if len(keys) == 1 and (key := keys[0]):
        return zlib.crc32(key.encode()) * _MIX & 0xFFFFFFFF < below
    return below > 0


def chosen(plan: ReadPlan, keys: Sequence[str | None], rows: int, *, now_us: int) -> Sequence[int]:
    """The rows of a request whose entities are in the sample: in every process and at all times the same.

    A row without any key has no entity; such rows are chosen by the second in which they are served.
    """
    below, width = plan.log_below, len(plan.entities)
    if below >= HASHES:
        return range(rows)
    if width == 1 and all(keys):
        if rows == 1:
            return (0,) if is_chosen(keys[0] or "", below) else ()
        checksum, mix = zlib.crc32, _MIX  # as `is_chosen`, which would cost a call for each entity of a read
        return [i for i, key in enumerate(keys) if checksum((key or "").encode()) * mix & 0xFFFFFFFF < below]
    texts = ("\x1f".join([key or "" for key in keys[i * width : i * width + width]]) for i in range(rows))
    return [
        i for i, text in enumerate(texts) if is_chosen(text if text.strip("\x1f") else str(now_us // SECOND_US), below)
    ]


def is_chosen(key: str, below: int) -> bool:
    """Whether an entity's hash lies below; checksums of short texts are near each other, so they are mixed first."""
    return (zlib.crc32(key.encode()) * _MIX & 0xFFFFFFFF) < below
