"""One run of the stream: where it begins, how a partition is read, how a shard is driven. Still no engine.

`LocalStream` drives all of it in one process, a step at a time: rebuilds, tests and stepped replays do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from feature_store.errors import LakeError, LogTailLost, LogUnavailable, OnlineStoreError
from feature_store.fold.chase import Chase
from feature_store.fold.drive import ShardDriver
from feature_store.fold.observed import UNOBSERVED
from feature_store.fold.rebuild import Origin, open_intake, resolve_origin
from feature_store.fold.split import ShardBatch, Splitter
from feature_store.lake.books.stream import STREAM_RUNS
from feature_store.log.binding import open_log
from feature_store.log.protocol import unpack_offset
from feature_store.online.evictions import forget_if_evicted
from feature_store.online.ready import Positions, read_ready, store_generation
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.fold.observed import Observer
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog, LogRecord
    from feature_store.registry import Registry
    from feature_store.transforms.compiled import Compiled

_RUNS = pa.schema(
    [
        ("run", pa.int64()),
        ("snapshot", pa.int64()),
        ("began_us", pa.int64()),
        ("generation", pa.string()),
        ("shards", pa.int64()),
    ]
)

MAX_RECORDS = 10_000
"""Records of a micro-batch, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where one run of the stream begins."""

    run: int
    generation: str
    """Of the store, when the run began."""
    begins: Mapping[str, Mapping[int, int]]
    """Source -> partition -> the first record that the log held before the lake was looked at."""
    origin: Origin
    evicts: bool
    shards: int
    read_before: Mapping[int, Positions] = field(default_factory=dict)
    """Shard -> how far the run before had read then; without the shards for which nobody vouched."""

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
    """Everything that the log held when the run began has been read, and as much of what came since as can be."""


def live_sources(registry: Registry) -> list[str]:
    """The sources that come over a log and feed a stream view."""
    return [
        name
        for name, source in registry.sources.items()
        if source.log is not None and any(view.online == "stream" for view in registry.views_of(name))
    ]


def next_run(lake: Lake, client: Redis, env: str) -> int:
    """The number of a new run, greater than all before, also if Redis has forgotten them."""
    run, newest = int(client.incr(f"runs:{env}")), _newest_run(lake)
    while run <= newest:  # again, if the store is emptied in between
        run = int(client.incrby(f"runs:{env}", newest + 1 - run))
    return run


def _newest_run(lake: Lake) -> int:
    if not lake.exists(STREAM_RUNS):
        return 0
    with lake.reading() as cursor:
        row = cursor.execute(f"SELECT max(run) FROM {lake.table_sql(STREAM_RUNS)}").fetchone()
    return int(row[0] or 0) if row else 0


def begin_run(
    compiled: Compiled, lake: Lake, client: Redis, *, env: str, shards: int, now_us: int, run: int | None = None
) -> Start:
    """Resolve where a new run begins, and record it in the lake: what was loaded at its snapshot, its values know.

    It builds beside the run before, which goes on until this one takes over. `run` is its number, from `next_run`.

    Raises:
        OnlineStoreError: Redis is away, too old or evicts, or was emptied and gave the run's number to another one.
        LakeError: the lake cannot be read or written; nothing has begun.
    """
    facts = check_server(client)
    forget_if_evicted(client, env)
    generation = store_generation(client, env)
    # Before the lake is looked at: what was touched since is looked up there.
    read_before = {
        int(field): record.positions
        for field, record in read_ready(client, env).items()
        if field.isdigit() and record.generation == generation
    }
    begins: dict[str, Mapping[int, int]] = {}
    for source in live_sources(compiled.registry):
        lake.ensure_source(source, compiled.schemas[source])
        log = open_log(client, env, compiled.registry.source(source))
        begins[source] = {partition: log.begin(partition) for partition in range(log.partitions)}
    start = Start(
        run=next_run(lake, client, env) if run is None else run,
        generation=generation,
        read_before=read_before,
        begins=begins,
        # After the logs: what the archiver takes away from now on is missed where a log begins, and is an error.
        origin=resolve_origin(compiled, lake),
        evicts=facts.evicts,
        shards=shards,
    )
    row = (start.run, start.origin.snapshot, now_us, generation, shards)
    if not lake.append(STREAM_RUNS, pa.table([[value] for value in row], schema=_RUNS), once=("run",)).rows:
        raise OnlineStoreError(
            f"run {start.run} is another one: the online store was emptied when both began; start the flow again"
        )
    return start


class PartitionReader:
    """Reads one partition of one source: records in, rows for every shard out."""

    def __init__(
        self,
        compiled: Compiled,
        lake: Lake,
        log: EventLog,
        start: Start,
        *,
        source: str,
        partition: int,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """Begin where the lake ends. The lake stays in use: ids of old events are looked up there."""
        self._observer = observer
        self._compiled, self._lake = compiled, lake
        self._source, self._partition, self._log, self._shards = source, partition, log, start.shards
        self._intake = open_intake(
            compiled, lake, source, origin=start.origin, partition=partition, partitions=log.partitions
        )
        self._splitter = Splitter(source, compiled.plans_of(source), shards=start.shards)
        self.position = start.origin.positions[source].get(partition, start.begins[source][partition])
        self._chase = Chase()
        self._missed: list[pa.Table] = []

    @property
    def caught_up(self) -> bool:
        """Whether what was read is about all that the log holds."""
        return self._chase.caught_up

    def look_ahead(self) -> None:
        """Let the coming reads give all that the log holds now; without this, its newest records may come later."""
        self._log.end(self._partition)

    def read(self) -> list[LogRecord]:
        """The next records, without moving on, except into a new epoch of the log.

        Raises:
            LogUnavailable: the log does not answer, or begins anew while the lake, which may have read it further, is away.
        """
        if not self.caught_up and self._chase.end is None:
            self._chase.end = self._log.end(self._partition)
        try:
            records = self._log.read(self._partition, self.position, max_records=MAX_RECORDS)
        except LogTailLost as lost:
            self._enter(lost.resume)
            records = self._log.read(self._partition, self.position, max_records=MAX_RECORDS)
        if records and unpack_offset(records[0].offset)[0] > unpack_offset(self.position)[0]:
            self._enter(records[0].offset)
        return records

    def _enter(self, epoch_start: int) -> None:
        """Go on in a new epoch: what the archiver had read of the old one, and this reader had not, is only in the lake."""
        try:
            origin = resolve_origin(self._compiled, self._lake)
            if origin.positions[self._source].get(self._partition, self.position) > self.position:
                where = f"_partition = {self._partition} AND _offset >= {self.position} AND _offset < {epoch_start}"
                with self._lake.reading() as cursor:
                    sql = self._lake.events_sql(self._source, snapshot=origin.snapshot, where=where)
                    missed = cursor.execute(sql).to_arrow_table()
                # This reader may have had some from the log, which lost them before the lake got them; they came again.
                self._missed.append(self._intake.unseen(missed, span=(self.position, epoch_start)))
        except (LakeError, duckdb.Error) as error:
            raise LogUnavailable(
                f"log '{self._source}' partition {self._partition} begins anew, and the lake is away: {error}"
            ) from error
        self.position = epoch_start

    def take(self, records: Sequence[LogRecord]) -> list[Reading]:
        """Move past these records: one reading per shard, also for no records, so that positions and hearts go on."""
        missed, self._missed = self._missed, []
        batches = [batch for events in missed for batch in self._split(events)]
        batches += self._idle() if not records else self._batches(records)
        self._chase.move(len(records), self.position)
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
                caught_up=self.caught_up,
            )
            for batch in batches
        ]

    def _batches(self, records: Sequence[LogRecord]) -> list[ShardBatch]:
        accepted = self._intake.accept(self._partition, records, start=self.position)
        self._observer.took(self._source, accepted)
        self.position = accepted.end
        return self._split(accepted.events)

    def _split(self, events: pa.Table) -> list[ShardBatch]:
        return list(self._splitter.split(events, {self._partition: self.position}))

    def _idle(self) -> list[ShardBatch]:
        positions = {self._partition: self.position}
        return [
            ShardBatch(shard=shard, source=self._source, views={}, positions=positions) for shard in range(self._shards)
        ]


class LocalStream:
    """The whole stream in this process: every `step` reads what the logs hold and writes what follows from it."""

    def __init__(
        self, compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock, shards: int = 1
    ) -> None:
        """Begin a run: rebuild from the lake, then catch up with the first step."""
        now_us = clock.now_us()
        self.start = begin_run(compiled, lake, client, env=env, shards=shards, now_us=now_us)
        logs = {name: open_log(client, env, compiled.registry.source(name)) for name in live_sources(compiled.registry)}
        self._readers = [
            PartitionReader(compiled, lake, logs[name], self.start, source=name, partition=p)
            for name, p in self.start.partitions
        ]
        self._drivers = [
            ShardDriver(compiled, self.start, client=client, env=env, clock=clock, logs=logs) for _ in range(shards)
        ]
        for number, driver in enumerate(self._drivers):
            driver.rebuild(lake, number)

    def step(self) -> int:
        """Read everything the logs hold, fold it at the clock's time, write; returns how many records were read.

        Raises:
            FlowSuperseded: a newer run owns the online store.
            StoreUnavailable: the online store does not take writes; the next step goes on.
        """
        total = 0
        readings: list[Reading] = []
        for reader in self._readers:
            reader.look_ahead()
            while records := reader.read():
                readings.extend(reader.take(records))
                total += len(records)
            readings.extend(reader.take([]))
        shares = [[r for r in readings if r.batch.shard == number] for number in range(len(self._drivers))]
        for driver, mine in zip(self._drivers, shares, strict=True):
            driver.drive(mine)
        for driver in self._drivers:
            if not driver.writes:  # it waited for the others
                driver.drive([])
        return total
