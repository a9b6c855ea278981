"""When events became visible online, by the commit records of the stream.

An event over the log was visible to an entity's shard with the first commit that had read past its offset and whose time
had passed the event's own. A loaded event was with the first run that began when the lake had it. Before the first commit of
a shard nothing was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.lake.books.stream import STREAM_COMMITS, STREAM_RUNS
from feature_store.online.keys import shard_of
from feature_store.time_rule import DAY_US
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    import duckdb

    from feature_store.declare.view import FeatureView
    from feature_store.history.reading import LakeReading
    from feature_store.history.spine import SpineKeys

NEVER, ALWAYS = 2**62, -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far one shard had read one partition, commit by commit."""

    position: Ints
    """int64[c], the next offset to read, ascending."""
    now_us: Ints
    """int64[c], the time of each fold: what is stamped at or after it waits."""
    visible_us: Ints
    """int64[c], since when readers saw it, ascending."""

    def seen_us(self, offset: Ints, event_us: Ints) -> Ints:
        """When each event became visible, or NEVER."""
        passed = np.searchsorted(np.maximum.accumulate(self.now_us), event_us, side="right")
        first = np.maximum(np.searchsorted(self.position, offset, side="right"), passed)
        # The clock may have been set back between two folds: then the first that had read and passed comes later.
        read = np.flatnonzero(first < len(self.now_us))
        for event in read[self.now_us[first[read]] <= event_us[read]].tolist():
            later = np.flatnonzero(self.now_us[first[event] :] > event_us[event])
            first[event] = first[event] + later[0] if len(later) else len(self.now_us)
        seen: Ints = np.append(self.visible_us, NEVER)[first]
        return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The runs of the stream that divided the entities into the same number of shards."""

    shard: Ints
    """int64[entities], where each entity was kept."""
    reaches: Mapping[tuple[int, int], Reach]
    """(shard, partition) -> its commits."""
    first_us: Ints
    """int64[shards], the first commit of each, or NEVER."""
    last_us: Ints
    """int64[shards], the last one, or ALWAYS."""
    runs: Mapping[int, tuple[Ints, Ints]]
    """Shard -> the first commit of each run, and the snapshot whose loaded events it knew; both ascending."""

    def seen_us(self, events: Events, shard: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Positions of events, and when those became visible."""
        group = shard * (int(events.partition.max(initial=-1)) + 2) + events.partition + 1
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(order)]):
            rows = order[start:end]
            of_shard, partition = int(shard[rows[0]]), int(events.partition[rows[0]])
            if partition < 0:
                since_us, snapshots = self.runs.get(of_shard, (_EMPTY, _EMPTY))
                yield rows, np.append(since_us, NEVER)[np.searchsorted(snapshots, events.snapshot[rows])]
            elif (of_shard, partition) in self.reaches:
                yield rows, self.reaches[of_shard, partition].seen_us(events.offset[rows], events.time_us[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events of a source, as far as their visibility depends on it."""

    entity: Ints
    time_us: Ints
    partition: Ints
    """-1: loaded."""
    offset: Ints
    snapshot: Ints
    """With which the lake got a loaded one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """What the commit records say about one view and the entities of a spine."""

    layouts: Sequence[Layout]
    until_us: int
    """The last time that is asked about."""
    loads: tuple[Ints, Ints]
    """Days since the epoch, ascending, and the snapshot with which each was loaded first."""

    def since_us(self) -> Ints:
        """int64[entities]: since when a vector of each could be served; NEVER: not yet."""
        since: Ints = np.min([layout.first_us[layout.shard] for layout in self.layouts], axis=0)
        return since

    def seen_us(
        self, entity: Ints, time_us: Ints, *, partition: Ints, offset: Ints, known_us: Ints
    ) -> tuple[Ints, Ints]:
        """When each event became visible.

        Args:
            entity: int64[e], numbered as the spine's.
            time_us: int64[e], when it happened.
            partition: int64[e], where it came from; -1: loaded.
            offset: int64[e], its place there.
            known_us: int64[e], its arrival, which counts from the last commit on that the lake has.

        Returns:
            The times, and the positions of events that no commit had seen although time went on after the last one.
        """
        days, snapshots = self.loads
        loaded = (
            snapshots[np.searchsorted(days, time_us // DAY_US).clip(max=len(days) - 1)] if len(days) else 0 * entity
        )
        events = Events(entity=entity, time_us=time_us, partition=partition, offset=offset, snapshot=loaded)
        seen, last = np.full(len(entity), NEVER), np.full(len(entity), ALWAYS)
        for layout in self.layouts:
            shard = layout.shard[entity]
            for rows, found in layout.seen_us(events, shard):
                seen[rows] = np.minimum(seen[rows], found)
            last = np.maximum(last, layout.last_us[shard])
        guessed = np.flatnonzero((seen == NEVER) & (last < self.until_us))
        seen[guessed] = np.maximum(known_us[guessed], last[guessed] + 1)
        return seen, guessed


_EMPTY: Ints = np.empty(0, dtype=np.int64)


def visibility(view: FeatureView, reading: LakeReading, keys: SpineKeys, time_us: Ints) -> Visibility | None:
    """What commit records say about a view at some times; None if it was not served by then.

    Args:
        view: a view; only streamed ones have commits.
        reading: the snapshot at which they are read.
        keys: the entities.
        time_us: int64[n], the times asked about.
    """
    if view.online != "stream" or not len(time_us) or not reading.exists(STREAM_COMMITS):
        return None
    cursor, source = reading.cursor, view.source.name
    first_us, last_us = int(time_us.min()), int(time_us.max())
    # A commit whose acknowledgement was lost is written again: visible since the first. Of one whose writer died, nobody
    # knows since when: its events are visible since a later one.
    cursor.execute(
        f'CREATE OR REPLACE TEMP TABLE told AS SELECT run, shard, n, "partition", max(position) AS position, '
        f"min(now_us) AS now_us, min(nullif(visible_at_us, 0)) AS visible_us FROM {reading.table_sql(STREAM_COMMITS)} "
        "WHERE source = ? GROUP BY ALL HAVING visible_us IS NOT NULL",
        [source],
    )
    runs = _runs(reading)
    if not (runs["first_us"].to_numpy() <= last_us).any():
        return None
    cursor.register("known_runs", runs)
    reaches = _reaches(cursor, first_us, last_us)
    names = keys.text.to_pylist()
    layouts = [
        _layout(view.entity.name, names, shards, runs.filter(pa.array(runs["shards"].to_numpy() == shards)), reaches)
        for shards in runs["shards"].unique().to_pylist()
    ]
    return Visibility(layouts=layouts, until_us=last_us, loads=_loads(reading, source))


def _runs(reading: LakeReading) -> pa.Table:
    """Per run and shard its first and last commit, its number of shards, and the snapshot whose loaded events it knew."""
    recorded = reading.exists(STREAM_RUNS)
    runs = reading.table_sql(STREAM_RUNS) if recorded else "(SELECT 0 AS run, 0 AS snapshot, 0 AS shards WHERE FALSE)"
    return reading.cursor.execute(
        f"""SELECT * FROM (
            SELECT t.run, t.shard, min(visible_us) AS first_us, max(visible_us) AS last_us,
                coalesce(max(r.shards), max(max(t.shard)) OVER (PARTITION BY t.run) + 1)::BIGINT AS shards,
                coalesce(max(r.snapshot), {NEVER})::BIGINT AS snapshot
            FROM told AS t LEFT JOIN {runs} AS r USING (run) GROUP BY t.run, t.shard
        ) ORDER BY first_us"""
    ).to_arrow_table()


def _reaches(cursor: duckdb.DuckDBPyConnection, first_us: int, last_us: int) -> dict[tuple[int, int, int], Reach]:
    """(shards, shard, partition) -> its commits; those before the first time asked about as one."""
    table = cursor.execute(
        f"""WITH one AS (
            SELECT r.shards, t.* FROM told AS t JOIN (SELECT DISTINCT run, shards FROM known_runs) AS r USING (run)
        )
        SELECT shards, shard, "partition", position, now_us, visible_us FROM one
        WHERE visible_us BETWEEN {first_us} AND {last_us}
        UNION ALL SELECT shards, shard, "partition", max(position), max(now_us), max(visible_us) FROM one
        WHERE visible_us < {first_us} GROUP BY ALL ORDER BY shards, shard, "partition", visible_us, position"""
    ).fetchnumpy()
    columns = {name: np.asarray(values).astype(np.int64) for name, values in table.items()}
    place = np.stack([columns[name] for name in ("shards", "shard", "partition")])
    starts = np.flatnonzero(np.append(True, (np.diff(place) != 0).any(axis=0))[: place.shape[1]])
    reaches = {}
    for start, end in pairwise([*starts.tolist(), place.shape[1]]):
        shards, shard, partition = place[:, start].tolist()
        reaches[shards, shard, partition] = Reach(
            position=np.maximum.accumulate(columns["position"][start:end]),
            now_us=columns["now_us"][start:end],
            visible_us=columns["visible_us"][start:end],
        )
    return reaches


def _layout(
    entity: str, keys: Sequence[str], shards: int, runs: pa.Table, reaches: Mapping[tuple[int, int, int], Reach]
) -> Layout:
    first, last = np.full(shards, NEVER), np.full(shards, ALWAYS)
    shard, first_us, last_us = (runs[name].to_numpy() for name in ("shard", "first_us", "last_us"))
    np.minimum.at(first, shard, first_us)
    np.maximum.at(last, shard, last_us)
    snapshots = runs["snapshot"].to_numpy()
    of_shard = {number: np.flatnonzero(shard == number) for number in range(shards)}
    return Layout(
        shard=np.fromiter((shard_of(entity, key, shards=shards) for key in keys), dtype=np.int64, count=len(keys)),
        reaches={place[1:]: reach for place, reach in reaches.items() if place[0] == shards},
        first_us=first,
        last_us=last,
        runs={n: (first_us[rows], np.maximum.accumulate(snapshots[rows])) for n, rows in of_shard.items() if len(rows)},
    )


def _loads(reading: LakeReading, source: str) -> tuple[Ints, Ints]:
    found = reading.cursor.execute(
        "SELECT (day - DATE '1970-01-01')::BIGINT AS day, min(snapshot) AS snapshot FROM "
        f"(SELECT snapshot, unnest(days) AS day FROM {reading.table_sql('commits')} WHERE source = ? AND kind = 'loaded') "
        "GROUP BY ALL ORDER BY ALL",
        [source],
    ).fetchnumpy()
    return np.asarray(found["day"]).astype(np.int64), np.asarray(found["snapshot"]).astype(np.int64)
