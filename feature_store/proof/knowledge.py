"""Which events a served value could know: those before the positions of its commit, and what had been loaded.

A commit (shard, run, n) says up to which offset of each partition its shard had read, and at which time it folded.
An event is known from the first commit of the run that had read it and whose time had passed the event's own: an
event stamped ahead of the flow's clock is read, but waits. Batch rows know what the lake held at a snapshot.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.lake.books.stream import STREAM_COMMITS
from feature_store.lake.view_tables import rows_table
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake

ALWAYS, NEVER = -(2**63), 2**63 - 1

Run = tuple[int, int]
"""(shard, run)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommits:
    """The commits of one run of one shard, in order."""

    n: Ints
    """int64[c], ascending."""
    now_us: Ints
    """int64[c], the time of each fold."""
    positions: Mapping[tuple[str, int], Ints]
    """(source, partition) -> int64[c], the next offset to read after each commit."""

    def known_from(self, source: str, partition: Ints, *, offset: Ints, event_us: Ints) -> Ints:
        """Since which commit each event of a source is known: its n, or NEVER.

        Args:
            source: the events' source.
            partition: int64[e], where each came from; -1: loaded, so known always.
            offset: int64[e], its place there.
            event_us: int64[e], its time.
        """
        first = np.full(len(partition), len(self.n))
        for number in np.unique(partition).tolist():
            rows = np.flatnonzero(partition == number)
            positions = self.positions.get((source, number))
            if number < 0:
                first[rows] = -1
            elif positions is not None:
                first[rows] = np.searchsorted(positions, offset[rows], side="right")
        self._wait(first, event_us)
        known: Ints = np.concatenate(([ALWAYS], self.n, [NEVER]))[first + 1]
        return known

    def _wait(self, first: Ints, event_us: Ints) -> None:
        """Move events that were read before their time to the first fold after it."""
        read = np.flatnonzero((first >= 0) & (first < len(self.n)))
        for i in read[self.now_us[first[read]] <= event_us[read]].tolist():
            later = np.flatnonzero(self.now_us[first[i] :] > event_us[i])
            first[i] = first[i] + later[0] if len(later) else len(self.n)


class Commits:
    """The commits of all runs that the lake holds."""

    def __init__(self, runs: Mapping[Run, RunCommits]) -> None:
        self._runs = runs

    @classmethod
    def of(cls, lake: Lake, *, snapshot: int) -> Commits:
        """Read them from the lake as of a snapshot."""
        if not lake.exists(STREAM_COMMITS):
            return cls({})
        with lake.reading() as cursor:
            table = cursor.execute(
                # A commit whose acknowledgement was lost is written again, equal but for when it became visible.
                f'SELECT shard, run, n, source, "partition", max(position) AS position, min(now_us) AS now_us '
                f"FROM {lake.table_sql(STREAM_COMMITS, snapshot=snapshot)} GROUP BY ALL ORDER BY shard, run, n"
            ).to_arrow_table()
        return cls(_by_run(table))

    def run(self, shard: int, run: int) -> RunCommits | None:
        """The commits of one run of a shard; None if the lake has none."""
        return self._runs.get((shard, run))


def _by_run(table: pa.Table) -> dict[Run, RunCommits]:
    shard, run, n, now_us = (table.column(name).to_numpy() for name in ("shard", "run", "n", "now_us"))
    heads = np.flatnonzero(np.append(True, (np.diff(shard) != 0) | (np.diff(run) != 0))[: len(shard)])
    bounds = [*heads.tolist(), len(shard)]
    return {
        (int(shard[start]), int(run[start])): _one_run(table.slice(start, end - start), n[start:end], now_us[start:end])
        for start, end in itertools.pairwise(bounds)
    }


def _one_run(table: pa.Table, n: Ints, now_us: Ints) -> RunCommits:
    ordinals, head, commit = np.unique(n, return_index=True, return_inverse=True)
    source = table.column("source").to_numpy().astype(object)
    partition, position = table.column("partition").to_numpy(), table.column("position").to_numpy()
    positions = {}
    for name in set(source.tolist()):
        for number in np.unique(partition[source == name]).tolist():
            rows = np.flatnonzero((source == name) & (partition == number))
            reached = np.full(len(ordinals), ALWAYS)
            reached[commit[rows]] = position[rows]
            positions[(name, number)] = np.maximum.accumulate(reached)
    return RunCommits(n=ordinals, now_us=now_us[head], positions=positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """When the lake got which events of one source."""

    live: Mapping[int, tuple[Ints, Ints]]
    """Partition -> positions and the snapshots that reached them, both ascending."""
    loaded: tuple[Ints, Ints]
    """Days since the epoch, ascending, and the snapshot with which each was loaded first."""

    @classmethod
    def of(cls, lake: Lake, source: str, *, snapshot: int) -> Snapshots:
        """Read the lake's books."""
        commits = f"{lake.table_sql('commits', snapshot=snapshot)} WHERE source = ?"
        with lake.reading() as cursor:
            live = cursor.execute(
                f'SELECT p.key AS "partition", p.value AS position, min(snapshot) AS snapshot FROM '
                f"(SELECT snapshot, unnest(map_entries(positions)) AS p FROM {commits} AND kind = 'live') "
                f"GROUP BY ALL ORDER BY ALL",
                [source],
            ).fetchnumpy()
            loaded = cursor.execute(
                f"SELECT (day - DATE '1970-01-01')::BIGINT AS day, min(snapshot) AS snapshot FROM "
                f"(SELECT snapshot, unnest(days) AS day FROM {commits} AND kind = 'loaded') GROUP BY ALL ORDER BY ALL",
                [source],
            ).fetchnumpy()
        partition = np.asarray(live["partition"], dtype=np.int64)
        return cls(
            live={
                number: (_int64(live["position"][partition == number]), _int64(live["snapshot"][partition == number]))
                for number in np.unique(partition).tolist()
            },
            loaded=(_int64(loaded["day"]), _int64(loaded["snapshot"])),
        )

    def known_from(self, partition: Ints, *, offset: Ints, day: Ints) -> Ints:
        """The snapshot with which each event came to the lake.

        Args:
            partition: int64[e], -1: loaded.
            offset: int64[e], the event's place in its partition.
            day: int64[e], its day since the epoch.
        """
        known = np.full(len(partition), NEVER)
        for number, (positions, snapshots) in self.live.items():
            rows = np.flatnonzero(partition == number)
            known[rows] = np.append(snapshots, NEVER)[np.searchsorted(positions, offset[rows], side="right")]
        days, snapshots = self.loaded
        rows = np.flatnonzero(partition < 0)
        if len(rows) and len(days):
            known[rows] = snapshots[np.searchsorted(days, day[rows]).clip(max=len(days) - 1)]
        return known

    def built_from(self, lake: Lake, view: FeatureView, *, versions: Ints, snapshot: int) -> Ints:
        """The snapshot of the events from which row versions were built.

        A version that built nothing (all rows of the view had left their windows) knows the lake at its own time.
        """
        with lake.reading() as cursor:
            found = cursor.execute(
                f"SELECT snapshot, max(built_from) FROM {lake.table_sql('builds', snapshot=snapshot)} "
                "WHERE table_name = ? GROUP BY snapshot",
                [rows_table(view)],
            ).fetchall()
        known = dict(found)
        return np.array([known.get(version, version) for version in versions.tolist()], dtype=np.int64)


def _int64(values: object) -> Ints:
    return np.asarray(values).astype(np.int64)
