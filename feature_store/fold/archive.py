"""The archiver: the second consumer of the log, which brings accepted events and commit records to the lake."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.errors import LogTailLost, UnknownNameError
from feature_store.fold.intake import Accepted, Intake, Rejected
from feature_store.fold.observed import UNOBSERVED
from feature_store.fold.rebuild import open_intake, resolve_origin
from feature_store.lake.books.stream import STREAM_COMMITS
from feature_store.online.commits import read_commits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis import Redis

    from feature_store.fold.observed import Observer
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog
    from feature_store.transforms.compiled import Compiled

CONSUMER = "lake"
"""The archiver's name among the consumers of a log: nothing is trimmed that the lake does not hold."""


_REJECTED = pa.schema(
    [
        ("source", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("arrived_us", pa.int64()),
        ("reason", pa.string()),
        ("payload", pa.binary()),
        ("kind", pa.string()),
    ]
)

_COMMITS = pa.schema(
    [
        ("entry", pa.string()),
        ("shard", pa.int64()),
        ("run", pa.int64()),
        ("n", pa.int64()),
        ("source", pa.string()),
        ("partition", pa.int64()),
        ("position", pa.int64()),
        ("now_us", pa.int64()),
        ("visible_at_us", pa.int64()),
    ]
)


class Archiver:
    """Appends one source's accepted events to the lake, together with the positions they came from."""

    def __init__(
        self,
        compiled: Compiled,
        lake: Lake,
        log: EventLog,
        *,
        source: str,
        owner: str = CONSUMER,
        observer: Observer = UNOBSERVED,
    ) -> None:
        lake.ensure_source(source, compiled.schemas[source])
        self._compiled, self._lake, self._log, self._source = compiled, lake, log, source
        self._owner, self._observer = owner, observer
        self._intakes: Mapping[int, Intake] = {}
        self._positions: dict[int, int] = {}

    def step(self, *, max_records: int = 50_000) -> int:
        """Commit what the log holds beyond the lake, at most `max_records` a partition; returns how many records.

        Raises:
            PositionConflict: another archiver committed meanwhile; nothing was written, and the next step goes on
                from where the lake stands.
            LogGap: the log no longer has what the lake does not have yet.
            LakeError: the lake could not be written; nothing was, and the next step tries again.
        """
        if not self._intakes:
            self._start()
        intakes, self._intakes = self._intakes, {}  # on any failure what they have seen is not what the lake holds
        accepted = [self._accept(intake, partition, max_records) for partition, intake in intakes.items()]
        end = {part.partition: part.end for part in accepted}
        if end == self._positions:
            self._intakes = intakes
            return 0
        began_s = time.perf_counter()
        self._lake.append_live(
            self._source,
            pa.concat_tables([part.events for part in accepted]),
            owner=self._owner,
            start=dict(self._positions),
            end=end,
            rejected=rejected_table(self._source, [row for part in accepted for row in part.rejected]),
        )
        try:
            self._log.acknowledge(CONSUMER, end)
        except UnknownNameError:
            self._log.rejoin(CONSUMER, end)
        records = sum(int(part.events.num_rows) + len(part.rejected) for part in accepted)
        self._observer.committed(records, time.perf_counter() - began_s)
        for part in accepted:
            self._observer.took(self._source, part)
        self._positions, self._intakes = end, intakes
        return records

    @property
    def positions(self) -> dict[int, int]:
        """Partition -> the next offset to archive."""
        return dict(self._positions)

    def _start(self) -> None:
        origin = resolve_origin(self._compiled, self._lake)
        committed = origin.positions[self._source]
        registered = self._log.rejoin(CONSUMER, committed)
        self._positions = {p: committed.get(p, registered[p]) for p in range(self._log.partitions)}
        partitions = self._log.partitions
        self._intakes = {
            p: open_intake(self._compiled, self._lake, self._source, origin=origin, partition=p, partitions=partitions)
            for p in range(partitions)
        }

    def _accept(self, intake: Intake, partition: int, max_records: int) -> Accepted:
        start = self._positions[partition]
        self._log.end(partition)  # so that all that it holds now is read
        try:
            records = self._log.read(partition, start, max_records=max_records)
        except LogTailLost as lost:
            # The lake keeps what the log lost; what was published since stands in the new epoch.
            records = self._log.read(partition, lost.resume, max_records=max_records)
            accepted = intake.accept(partition, records, start=lost.resume)
            return Accepted(
                partition=partition, start=start, end=accepted.end, events=accepted.events, rejected=accepted.rejected
            )
        return intake.accept(partition, records, start=start)


class CommitArchiver:
    """Brings the stream's commit records from Redis to the lake: when each event became visible, and to which value."""

    def __init__(self, lake: Lake, client: Redis, env: str) -> None:
        self._lake, self._client, self._env = lake, client, env
        self._after: str | None = None

    def step(self, *, max_records: int = 10_000) -> int:
        """Append the commits that the lake does not hold yet; returns how many."""
        after = self._after or self._newest()
        commits = read_commits(self._client, self._env, after=after, count=max_records)
        if commits:
            rows = [
                (entry, c.shard, c.run, c.n, source, partition, position, c.now_us, c.visible_at_us)
                for entry, c in commits
                for source, positions in c.positions.items()
                for partition, position in positions.items()
            ]
            columns = list(zip(*rows, strict=True)) if rows else [()] * len(_COMMITS)
            self._lake.append(STREAM_COMMITS, pa.table([list(c) for c in columns], schema=_COMMITS))
            after = commits[-1][0]
        self._after = after
        return len(commits)

    def _newest(self) -> str:
        if not self._lake.exists(STREAM_COMMITS):
            return "0-0"
        with self._lake.reading() as cursor:
            order = "split_part(entry, '-', 1)::BIGINT, split_part(entry, '-', 2)::BIGINT"
            table = self._lake.table_sql(STREAM_COMMITS)
            row = cursor.execute(f"SELECT arg_max(entry, ({order})) FROM {table}").fetchone()
        return str(row[0]) if row and row[0] else "0-0"


def rejected_table(source: str, rejected: Sequence[Rejected]) -> pa.Table:
    """Dead letters as the lake keeps them."""
    rows = [
        {
            "source": source,
            "partition": row.partition,
            "offset": row.offset,
            "arrived_us": row.arrived_us,
            "reason": row.reason,
            "payload": row.payload,
            "kind": row.kind,
        }
        for row in rejected
    ]
    return pa.Table.from_pylist(rows, schema=_REJECTED)
