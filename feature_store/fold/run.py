"""One run of the stream: where it begins, how a partition is read, how a shard is driven. Still no engine.

`LocalStream` drives all of it in one process, a step at a time: rebuilds, tests and stepped replays do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.errors import LogTailLost
from feature_store.fold.rebuild import Origin, open_intake, rebuild_shards, resolve_origin
from feature_store.fold.shard import Shard, Writes
from feature_store.fold.split import ShardBatch, Splitter
from feature_store.log.binding import open_log
from feature_store.online.ready import ReadyRecord, store_generation, withdraw_shards, write_shards
from feature_store.online.server import check_server
from feature_store.online.writer import OnlineWriter
from feature_store.registry import view_fingerprint

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog, LogRecord
    from feature_store.registry import Registry
    from feature_store.transforms.compiled import Compiled

MAX_RECORDS = 10_000
"""Records of a micro-batch, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where one run of the stream begins."""

    run: int
    generation: str
    begins: Mapping[str, Mapping[int, int]]
    """Source -> partition -> the first record that the log held before the lake was looked at."""
    origin: Origin
    evicts: bool
    shards: int

    @property
    def partitions(self) -> list[tuple[str, int]]:
        """Every (source, partition) that the run reads."""
        return [(source, partition) for source, begins in self.begins.items() for partition in begins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a partition says with every batch: a shard is fresh if all partitions are."""

    source: str
    partition: int
    batch: ShardBatch
    oldest_unread_us: int | None
    """Arrival of the oldest record that was not read yet, as far as known; None: everything was read."""
    caught_up: bool
    """Everything that the log held when the run began has been read."""


def live_sources(registry: Registry) -> list[str]:
    """The sources that come over a log and feed a stream view."""
    return [
        name
        for name, source in registry.sources.items()
        if source.log is not None and any(view.online == "stream" for view in registry.views_of(name))
    ]


def begin_run(compiled: Compiled, lake: Lake, client: Redis, *, env: str, shards: int) -> Start:
    """Resolve where a new run begins. Until it has caught up, what is missing in Redis is UNKNOWN.

    Raises:
        OnlineStoreError: Redis is away, too old or evicts.
    """
    facts = check_server(client)
    withdraw_shards(client, env)
    write_shards(client, env, shards)
    begins: dict[str, Mapping[int, int]] = {}
    for source in live_sources(compiled.registry):
        lake.ensure_source(source, compiled.schemas[source])
        log = open_log(client, env, compiled.registry.source(source))
        begins[source] = {partition: log.begin(partition) for partition in range(log.partitions)}
    return Start(
        run=int(client.incr(f"runs:{env}")),
        generation=store_generation(client, env),
        begins=begins,
        # After the logs: what the archiver takes away from now on is missed where a log begins, and is an error.
        origin=resolve_origin(compiled, lake),
        evicts=facts.evicts,
        shards=shards,
    )


class PartitionReader:
    """Reads one partition of one source: records in, rows for every shard out."""

    def __init__(
        self, compiled: Compiled, lake: Lake, log: EventLog, start: Start, *, source: str, partition: int
    ) -> None:
        """Begin where the lake ends. The lake stays in use: ids of old events are looked up there."""
        self._source, self._partition, self._log, self._shards = source, partition, log, start.shards
        self._intake = open_intake(
            compiled, lake, source, origin=start.origin, partition=partition, partitions=log.partitions
        )
        self._splitter = Splitter(source, compiled.plans_of(source), shards=start.shards)
        self.position = start.origin.positions[source].get(partition, start.begins[source][partition])
        self._target = log.end(partition)
        self._caught_up = False

    def look_ahead(self) -> None:
        """Let the coming reads give all that the log holds now; without this, its newest records may come later."""
        self._log.end(self._partition)

    def read(self) -> list[LogRecord]:
        """The next records, without moving on."""
        try:
            return self._log.read(self._partition, self.position, max_records=MAX_RECORDS)
        except LogTailLost as lost:
            self.position = lost.resume
            return self._log.read(self._partition, self.position, max_records=MAX_RECORDS)

    def take(self, records: Sequence[LogRecord]) -> list[Reading]:
        """Move past these records: one reading per shard, also for no records, so that positions and hearts go on."""
        batches = self._idle() if not records else self._batches(records)
        # A log may leave numbers out before its end, and in a new epoch without records the end lies beyond every
        # position that can be reached: nothing to read means that the end has been reached.
        self._caught_up = self._caught_up or not records or self.position >= self._target
        unread = records[-1].arrived_us if len(records) == MAX_RECORDS else None
        return self._readings(batches, unread)

    def silent(self, since_us: int) -> list[Reading]:
        """What to say while the log does not answer: whatever has arrived since it last did is unread."""
        return self._readings(self._idle(), since_us)

    def _readings(self, batches: Sequence[ShardBatch], unread_us: int | None) -> list[Reading]:
        return [
            Reading(
                source=self._source,
                partition=self._partition,
                batch=batch,
                oldest_unread_us=unread_us,
                caught_up=self._caught_up,
            )
            for batch in batches
        ]

    def _batches(self, records: Sequence[LogRecord]) -> list[ShardBatch]:
        accepted = self._intake.accept(self._partition, records, start=self.position)
        self.position = accepted.end
        return self._splitter.split(accepted.events, {self._partition: self.position})

    def _idle(self) -> list[ShardBatch]:
        positions = {self._partition: self.position}
        return [
            ShardBatch(shard=shard, source=self._source, views={}, positions=positions) for shard in range(self._shards)
        ]


class ShardRunner:
    """Drives one shard from its rebuild on: what to write, and what its ready record says."""

    def __init__(self, compiled: Compiled, start: Start, *, env: str, partitions: Iterable[tuple[str, int]]) -> None:
        """`partitions` are all (source, partition) that feed the shard; it writes once all of them have caught up."""
        self._compiled, self._start, self._env = compiled, start, env
        self._plans = [plan for plan in compiled.plans.values() if plan.view.online == "stream"]
        self._fingerprint = "|".join(view_fingerprint(plan.view) for plan in self._plans)
        self._behind = set(partitions)
        self._unread: dict[tuple[str, int], int | None] = {}
        self._shard: Shard | None = None

    @property
    def rebuilt(self) -> bool:
        """True once the shard has state."""
        return self._shard is not None

    def rebuild(self, lake: Lake, shard: int, *, now_us: int) -> None:
        """Fill the shard with what the lake knows."""
        fresh = Shard(self._plans, env=self._env, shard=shard, run=self._start.run)
        rebuild_shards(
            self._compiled, lake, self._start.origin, shards=[fresh], count=self._start.shards, now_us=now_us
        )
        self._shard = fresh

    def fold(self, readings: Sequence[Reading], now_us: int) -> tuple[Writes, ReadyRecord] | None:
        """Fold readings (none: a tick); None while catching up.

        Raises:
            RuntimeError: before `rebuild`.
        """
        if self._shard is None:
            raise RuntimeError("`rebuild` must come before `fold`")
        for reading in readings:
            place = (reading.source, reading.partition)
            self._unread[place] = reading.oldest_unread_us
            if reading.caught_up:
                self._behind.discard(place)
        catching_up = bool(self._behind)
        writes = self._shard.fold([reading.batch for reading in readings], now_us, catching_up=catching_up)
        return None if catching_up else (writes, self._ready(writes, self._shard.layouts, now_us))

    def _ready(self, writes: Writes, layouts: Mapping[str, int], now_us: int) -> ReadyRecord:
        commit = writes.commit
        unread = [arrived for arrived in self._unread.values() if arrived is not None]
        return ReadyRecord(
            field=str(commit.shard),
            generation=self._start.generation,
            fingerprint=self._fingerprint,
            views=dict(layouts),
            run=commit.run,
            n=commit.n,
            positions=commit.positions,
            beat_us=now_us,
            oldest_unread_us=min(unread, default=None),
            evicts=self._start.evicts,
        )


class LocalStream:
    """The whole stream in this process: every `step` reads what the logs hold and writes what follows from it."""

    def __init__(
        self, compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock, shards: int = 1
    ) -> None:
        """Begin a run: rebuild from the lake, then catch up with the first step."""
        self.start = begin_run(compiled, lake, client, env=env, shards=shards)
        self._clock = clock
        now_us = clock.now_us()
        logs = {name: open_log(client, env, compiled.registry.source(name)) for name in live_sources(compiled.registry)}
        self._readers = [
            PartitionReader(compiled, lake, logs[name], self.start, source=name, partition=p)
            for name, p in self.start.partitions
        ]
        self._runners = [
            ShardRunner(compiled, self.start, env=env, partitions=self.start.partitions) for _ in range(shards)
        ]
        for number, runner in enumerate(self._runners):
            runner.rebuild(lake, number, now_us=now_us)
        self._writer = OnlineWriter(client, env, clock=clock)

    def step(self) -> int:
        """Read everything the logs hold, fold it at the clock's time, write; returns how many records were read."""
        total = 0
        readings: list[Reading] = []
        for reader in self._readers:
            reader.look_ahead()
            while records := reader.read():
                readings.extend(reader.take(records))
                total += len(records)
            readings.extend(reader.take([]))
        for number, runner in enumerate(self._runners):
            mine = [reading for reading in readings if reading.batch.shard == number]
            output = runner.fold(mine, self._clock.now_us())
            if output is not None:
                writes, ready = output
                self._writer.write(writes.values, writes.commit, ready=ready)
        return total
