"""The event log on Redis Streams: one stream per partition, ids `<epoch>-<n>`.

Scripts are not kept over a restart, so a publisher that finds its script unknown knows that the server may have lost
its last second, and starts a new epoch before it publishes on. A log that was wiped and, on the same day and before its
readers looked again, filled beyond the position they had reached, looks as before, except that it has forgotten its
consumers: they notice when they acknowledge, and start an epoch with everything in it (`rejoin`).

Errors of the connection are redis-py's own (`redis.ConnectionError`, `redis.TimeoutError`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from redis.exceptions import NoScriptError, ResponseError

from feature_store.errors import LogError, LogFull, LogGap, LogTailLost, UnknownNameError
from feature_store.log import scripts
from feature_store.log.epochs import Epochs
from feature_store.log.protocol import LogRecord, Position, Record, pack_offset, partition_of, unpack_offset

if TYPE_CHECKING:
    import redis

    Streams = dict[bytes | str | memoryview[int], int | bytes | str | memoryview[int]]

Argument = int | str | bytes
Entry = tuple[bytes, dict[bytes, bytes]]

# A script holds up every other client: a thousand records take about 3 ms.
CHUNK = 1000
PUBLISH_SHA = hashlib.sha1(scripts.PUBLISH.encode(), usedforsecurity=False).hexdigest()


class _Snapshot(NamedTuple):
    """One moment of a partition."""

    records: list[LogRecord]
    epochs: Epochs


class RedisStreamLog:
    """One source's log on a Redis server, safe for any number of publishers and readers."""

    def __init__(
        self, client: redis.Redis, *, env: str, source: str, partitions: int = 1, limit: int = 5_000_000
    ) -> None:
        if partitions < 1:
            raise LogError(f"`partitions` must be at least 1, got {partitions}")
        self._client, self.source, self.partitions, self._limit = client, source, partitions, limit
        self._meta = f"logmeta:{env}:{{{source}}}"
        self._streams = [f"log:{env}:{{{source}}}:{p}" for p in range(partitions)]

    def publish(self, records: Sequence[Record]) -> list[Position]:
        """See `EventLog.publish`."""
        placed = [partition_of(record.event_id, self.partitions) for record in records]
        coming = Counter(placed)
        positions: list[Position] = []
        for start in range(0, len(records), CHUNK):
            chunk = placed[start : start + CHUNK]
            room = [coming[p] for p in range(self.partitions)]
            rows = zip(chunk, records[start : start + CHUNK], strict=True)
            body = [part for p, record in rows for part in (p, record.arrived_us, record.payload)]
            status, said = self._run(scripts.PUBLISH, [self.partitions, self._limit, *room, *body])
            if status == "full":
                raise self._full(int(said[0]), written=start)
            positions += _positions(chunk, said)
            coming.subtract(chunk)
        return positions

    def read(self, partition: int, position: int, *, max_records: int = 10_000) -> list[LogRecord]:
        """See `EventLog.read`."""
        records = _records(self._entries(partition, position, max_records))
        if records and records[0].offset == position:
            return _dense(records)
        return self._read_checked(partition, position, max_records)

    def wait(self, positions: Mapping[int, int], *, timeout_s: float) -> bool:
        """See `EventLog.wait`. Returns early when the client's socket would time out first."""
        patience = self._client.connection_pool.connection_kwargs.get("socket_timeout")
        block_s = min(timeout_s, patience / 2) if patience else timeout_s
        after: Streams = {self._streams[p]: _previous_id(offset) for p, offset in positions.items()}
        found = self._client.xread(after, count=1, block=max(1, int(block_s * 1000)))
        return bool(found)

    def begin(self, partition: int) -> int:
        """See `EventLog.begin`."""
        entries = self._entries(partition, 0, 1)
        return _offset(entries[0][0]) if entries else self.end(partition)

    def end(self, partition: int) -> int:
        """See `EventLog.end`."""
        return self._snapshot(partition, 0, 1).epochs.end

    def lag(self, partition: int, position: int) -> int:
        """See `EventLog.lag`."""
        epochs = self._snapshot(partition, position, 1).epochs
        lag = epochs.lag(position)
        if lag is None:
            raise self._tail_lost(partition, position, epochs)
        return lag

    def start_epoch(self, *, above: int = 0, again: bool = False) -> int:
        """Begin an epoch in every partition, after those that the log knows and after `above`; returns it.

        All that the log holds comes again in it if it may have been wiped since a reader had reached the epoch
        `above`, and with `again` in any case.
        """
        _, (epoch,) = self._run(scripts.START_EPOCH, [self.partitions, above, int(again)])
        with contextlib.suppress(ResponseError):  # no append-only file, or a server before 7.2
            # An epoch that is forgotten in a power cut would be given a second time.
            self._client.waitaof(1, 0, 1000)
        return int(epoch)

    def register(self, consumer: str, positions: Mapping[int, int] | None = None) -> dict[int, int]:
        """See `EventLog.register`."""
        wanted = [_id(positions[p]) if positions and p in positions else "" for p in range(self.partitions)]
        _, ids = self._run(scripts.REGISTER, [self.partitions, consumer, *wanted])
        return {p: _offset(known) for p, known in enumerate(ids)}

    def rejoin(self, consumer: str, positions: Mapping[int, int]) -> dict[int, int]:
        """See `EventLog.rejoin`."""
        if positions and consumer not in self.consumers():
            self.start_epoch(above=max(unpack_offset(at)[0] for at in positions.values()), again=True)
        return self.register(consumer, positions)

    def unregister(self, consumer: str) -> None:
        """See `EventLog.unregister`."""
        self._client.hdel(self._meta, *(f"ack:{p}:{consumer}" for p in range(self.partitions)))

    def acknowledge(self, consumer: str, positions: Mapping[int, int]) -> None:
        """See `EventLog.acknowledge`."""
        pairs = [part for p, offset in positions.items() for part in (p, _id(offset))]
        status, _ = self._run(scripts.ACKNOWLEDGE, [consumer, *pairs])
        if status == "unknown":
            raise UnknownNameError("consumer", consumer, self.consumers())

    def consumers(self) -> dict[str, dict[int, int]]:
        """See `EventLog.consumers`."""
        found: dict[str, dict[int, int]] = {}
        meta = cast("dict[bytes, bytes]", self._client.hgetall(self._meta))
        for field, value in meta.items():
            kind, _, rest = field.decode().partition(":")
            if kind == "ack":
                partition, _, consumer = rest.partition(":")
                found.setdefault(consumer, {})[int(partition)] = _offset(value)
        return found

    def trim(self, *, behind: str | None = None) -> int:
        """See `EventLog.trim`."""
        _, (removed,) = self._run(scripts.TRIM, [behind or ""])
        return int(removed)

    def _entries(self, partition: int, position: int, count: int) -> list[Entry]:
        return cast("list[Entry]", self._client.xrange(self._streams[partition], min=_id(position), count=count))

    def _snapshot(self, partition: int, position: int, count: int) -> _Snapshot:
        """Records from `position` on and the partition's epochs, read at once."""
        while True:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.xrange(self._streams[partition], min=_id(position), count=count)
                pipe.xinfo_stream(self._streams[partition])
                pipe.hgetall(self._meta)
                entries, info, meta = pipe.execute(raise_on_error=False)
            if b"epoch" in meta:
                last = None if isinstance(info, ResponseError) else info["last-generated-id"]
                return _Snapshot(_records(entries), _epochs(meta, partition, last))
            self.start_epoch()

    def _read_checked(self, partition: int, position: int, count: int) -> list[LogRecord]:
        """A read whose first record is not the one at `position`: nothing new, a new epoch, or a loss."""
        found = self._snapshot(partition, position, count)
        expected = found.epochs.next_offset(position)
        if expected is None:
            raise self._tail_lost(partition, position, found.epochs)
        if expected == found.epochs.end:
            return []
        first = found.records[0].offset if found.records else found.epochs.end
        if first != expected:
            raise LogGap(self.source, partition, expected, first)
        return _dense(found.records)

    def _tail_lost(self, partition: int, position: int, epochs: Epochs) -> LogTailLost:
        resume, end = epochs.resume(position), epochs.end
        if resume is None:
            self.start_epoch(above=unpack_offset(position)[0])
            resume = self._snapshot(partition, position, 1).epochs.resume(position)
        return LogTailLost(self.source, partition, reached=position, end=end, resume=resume or 0)

    def _full(self, partition: int, *, written: int) -> LogFull:
        acknowledged = {name: positions[partition] for name, positions in self.consumers().items()}
        slowest = min(acknowledged, key=lambda name: (acknowledged[name], name), default=None)
        return LogFull(self.source, partition, limit=self._limit, slowest=slowest, written=written)

    def _run(self, script: str, arguments: Sequence[Argument]) -> tuple[str, list[str]]:
        """Run a script, after starting an epoch where it finds that it must; returns its status and what it said."""
        while True:
            status, *said = (part.decode() for part in self._call(script, arguments))
            if status == "partitions":
                raise LogError(
                    f"log '{self.source}' has {said[0]} partitions, but was opened with {self.partitions}; "
                    "the number of partitions of a log never changes"
                )
            if status != "epoch":
                return status, said
            self.start_epoch()

    def _call(self, script: str, arguments: Sequence[Argument]) -> list[bytes]:
        keys = [self._meta, *self._streams]
        if script is not scripts.PUBLISH:
            return cast("list[bytes]", self._client.eval(script, len(keys), *keys, *arguments))
        while True:
            try:
                return cast("list[bytes]", self._client.evalsha(PUBLISH_SHA, len(keys), *keys, *arguments))
            except NoScriptError:
                # The server has been restarted. The epoch comes first: with the script known again, others publish.
                self.start_epoch()
                self._client.script_load(script)


def _epochs(meta: Mapping[bytes, bytes], partition: int, last_id: bytes | None) -> Epochs:
    """The epochs of a partition, from the log's hash and the last id its stream ever gave."""
    ended = {
        int(field.removeprefix(b"end:")): int(counts.split(b",")[partition])
        for field, counts in meta.items()
        if field.startswith(b"end:")
    }
    current = int(meta[b"epoch"])
    epoch, n = unpack_offset(_offset(last_id)) if last_id else (0, 0)
    return Epochs(ends=dict(sorted(ended.items())) | {current: n + 1 if epoch == current else 0})


def _positions(placed: Sequence[int], last_ids: Sequence[str]) -> list[Position]:
    """Where the records of a call stand, from the partition of each and each partition's last id."""
    counts = Counter(placed)
    following = {p: _offset(last_ids[p]) - count + 1 for p, count in counts.items()}
    positions = []
    for p in placed:
        positions.append(Position(p, following[p]))
        following[p] += 1
    return positions


def _records(entries: Sequence[Entry]) -> list[LogRecord]:
    if not entries:
        return []
    first, last = _offset(entries[0][0]), _offset(entries[-1][0])
    # Ids increase, so as many as lie between the first and the last are dense; parsing each costs a third of a read.
    dense = last - first == len(entries) - 1
    offsets = range(first, last + 1) if dense else [_offset(entry) for entry, _ in entries]
    return [
        LogRecord(offset, int(fields[b"a"]), fields[b"d"]) for offset, (_, fields) in zip(offsets, entries, strict=True)
    ]


def _dense(records: list[LogRecord]) -> list[LogRecord]:
    """The records up to the first jump; the next read says what the jump is."""
    first = records[0].offset
    if records[-1].offset == first + len(records) - 1:
        return records
    return [record for n, record in enumerate(records) if record.offset == first + n]


def _offset(entry: bytes | str) -> int:
    epoch, _, n = (entry if isinstance(entry, str) else entry.decode()).partition("-")
    return pack_offset(int(epoch), int(n))


def _id(offset: int) -> str:
    epoch, n = unpack_offset(offset)
    return f"{epoch}-{n}"


def _previous_id(offset: int) -> str:
    epoch, n = unpack_offset(offset)
    return f"{epoch}-{n - 1}" if n else f"{epoch - 1}-{2**64 - 1}"
