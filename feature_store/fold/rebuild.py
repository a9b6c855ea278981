"""State from the lake: first start, recovery, rescaling and a new version of a view are this one thing.

Tiles of past days are read where a build of them still holds; the other days are aggregated from events. Both are the
same SQL, so it does not matter which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import LakeError
from feature_store.fold.id_hashes import IdHashes, held_hashes
from feature_store.fold.intake import Intake, digest_sql
from feature_store.fold.known_ids import KnownIds, LookUp
from feature_store.fold.own_events import newest_events
from feature_store.fold.shard import Shard
from feature_store.fold.split import ShardBatch, Splitter
from feature_store.fold.state import ViewState, horizon_us, tile_columns, value_columns
from feature_store.lake.connection import quote
from feature_store.lake.tables import arrow_columns
from feature_store.lake.view_tables import tiles_table
from feature_store.online.keys import shard_of
from feature_store.time_rule import BEGINNING_US, DAY_US, EARLIEST_US, from_us
from feature_store.transforms.catalogue import Array, Ints
from feature_store.transforms.families import LIFETIME, state_hop_us
from feature_store.transforms.plan import FeaturePlan, PartialColumn, ViewPlan
from feature_store.transforms.project import (
    DAY,
    EVENTS,
    HOP,
    ID,
    KEY,
    NEWEST,
    NO_TIME,
    TILE,
    TIME,
    tile_types,
    tiles_sql,
    to_numpy,
    unbuilt_sql,
)
from feature_store.transforms.rowset import Merge, RowSet

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.online.ready import Positions
    from feature_store.transforms.compiled import Compiled

_FIRST_DAY = date(1, 1, 1)
_LAST_DAY = date(9999, 12, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a rebuilt state knows: the lake at a snapshot, which is the log up to these positions."""

    snapshot: int
    positions: Mapping[str, Mapping[int, int]]


def resolve_origin(compiled: Compiled, lake: Lake) -> Origin:
    """The newest state of the lake and the positions that belong to it."""
    snapshot = lake.snapshot()
    positions = {
        name: lake.positions(name, snapshot=snapshot) if lake.has_source(name) else {}
        for name in compiled.registry.sources
    }
    return Origin(snapshot=snapshot, positions=positions)


def rebuild_shards(
    compiled: Compiled, lake: Lake, origin: Origin, *, shards: Sequence[Shard], count: int, now_us: int
) -> None:
    """Fill fresh shards (some of `count`) with what the lake knows at `origin`."""
    by_number = {shard.shard: shard for shard in shards}
    for source in compiled.registry.sources:
        plans = [plan for plan in compiled.plans_of(source) if plan.view.online == "stream"]
        if not plans or not lake.has_source(source):
            continue
        for plan in plans:
            _rebuild_view(lake, plan, origin, by_number, count=count, now_us=now_us)
        _hold_future(compiled, lake, source, origin, by_number, count=count, now_us=now_us)
    for shard in shards:
        shard.start_at(origin.positions)


def rows_since(
    compiled: Compiled, lake: Lake, origin: Origin, before: Positions, *, shard: int, count: int
) -> Iterator[ShardBatch]:
    """The rows of one of `count` shards that the lake got over the log after some positions: those of the run before."""
    for source, positions in before.items():
        passed = {p: at for p, at in positions.items() if origin.positions.get(source, {}).get(p, at) > at}
        if not passed:
            continue
        after = " OR ".join(f"(_partition = {partition} AND _offset >= {at})" for partition, at in passed.items())
        with lake.reading() as cursor:
            sql = lake.events_sql(source, snapshot=origin.snapshot, where=after)
            events = cursor.execute(sql).to_arrow_table()
        batches = Splitter(source, compiled.plans_of(source), shards=count).split(events, {})
        yield from (batch for batch in batches if batch.shard == shard)


def open_intake(
    compiled: Compiled, lake: Lake, source: str, *, origin: Origin, partition: int, partitions: int
) -> Intake:
    """An intake for one of the log's `partitions` that knows every event id which the lake held at `origin`."""
    declared, schema = compiled.registry.source(source), compiled.schemas[source]
    by_id = declared.log is None or declared.log.partitioned_by == "event_id"
    known = KnownIds()
    if lake.has_source(source):
        known = KnownIds(
            held=IdHashes(held_hashes(lake, source, origin.snapshot)),
            look_up=_look_up(lake, source, schema, partition=partition, by_id=by_id),
            archived=lambda: _archived(lake, source, partition),
        )
    count, lateness_us = partitions if by_id else 1, compiled.lateness_us(source)
    return Intake(declared, schema, known=known, partitions=count, lateness_us=lateness_us)


def _archived(lake: Lake, source: str, partition: int) -> int:
    """The offset up to which the lake has a partition; while it is away, none: ids wait in memory, and the stream goes on."""
    try:
        return lake.positions(source).get(partition, -1)
    except (LakeError, duckdb.Error):
        return -1


def _look_up(lake: Lake, source: str, schema: pa.Schema, *, partition: int, by_id: bool) -> LookUp:
    """Asks the lake as it is now. The archiver may be ahead of whoever asks: what lies after `before` in the log counts as
    not seen, so that an event is no duplicate of itself. An event of another partition is another one where
    producers place events as they like.
    """
    elsewhere = "_partition <> {p}" if by_id else "FALSE"
    seen = f"(_partition IS NULL OR (_partition = {{p}} AND _offset < {{before}}) OR {elsewhere})"

    def look_up(event_ids: Sequence[str], days: tuple[int, int] | None, before: int) -> Mapping[str, int]:
        span = None if days is None else (_date(days[0] * DAY_US), _date(days[1] * DAY_US))
        where = f"{ID} IN (SELECT id FROM wanted) AND {seen.format(p=partition, before=before)}"
        with lake.reading() as cursor:
            cursor.register("wanted", pa.table({"id": pa.array(event_ids, type=pa.string())}))
            kinds = arrow_columns(schema)  # of the log's rows; the lake's may have been widened since
            listed = ", ".join(
                [ID, *(f"TRY_CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in kinds.items())]
            )
            events = f"SELECT {listed} FROM ({lake.events_sql(source, days=span, where=where)})"
            return dict(cursor.execute(f"SELECT {ID}, {digest_sql(schema)} FROM ({events})").fetchall())

    return look_up


def _rebuild_view(
    lake: Lake, plan: ViewPlan, origin: Origin, shards: Mapping[int, Shard], *, count: int, now_us: int
) -> None:
    hops = sorted({state_hop_us(feature) for feature in plan.features})
    features = {hop: [f for f in plan.features if state_hop_us(f) == hop] for hop in hops}
    cutoffs = {hop: horizon_us(features[hop], now_us) for hop in hops}
    since = _since(lake, plan, origin, cutoffs, now_us)
    with lake.reading() as cursor:
        own = newest_events(cursor, plan, since.events) if plan.view.score_own_event else None
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE rebuilt AS {_tiles_sql(lake, plan, origin, since)}")
        for hop in hops:
            sql = f"SELECT * FROM rebuilt WHERE {HOP} = {features[hop][0].feature.hop_us} AND {TILE} >= {cutoffs[hop]}"
            table = cursor.execute(sql).to_arrow_table()
            for number, rows in _by_shard(table, plan, shards, count):
                _seed(shards[number].views[plan.view.id], hop, features[hop], rows)
        cursor.execute("DROP TABLE rebuilt")
    if own is not None:
        for batch in Splitter(plan.view.source.name, [plan], shards=count).split(own, {}):
            if batch.shard in shards and plan.view.id in batch.views:
                shards[batch.shard].views[plan.view.id].add(batch.views[plan.view.id])
    for shard in shards.values():
        for hop in hops:
            if cutoffs[hop] > BEGINNING_US:
                shard.views[plan.view.id].mark_forgotten(hop, cutoffs[hop])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Since:
    """From where a view's tiles come: some days from their builds, all else from events."""

    built: Sequence[date]
    events: str
    """SQL: the events before `now` of the other days, from the earliest cutoff on."""


def _since(lake: Lake, plan: ViewPlan, origin: Origin, cutoffs: Mapping[int, int], now_us: int) -> _Since:
    earliest, source = min(cutoffs.values()), plan.view.source.name
    first = _FIRST_DAY if earliest == BEGINNING_US else _date(earliest)
    table = tiles_table(plan.view)
    built: list[date] = []
    if _has_columns(lake, table, plan):
        today = _date(now_us)
        fresh = lake.builds.fresh_days(table, source=source, snapshot=origin.snapshot)
        partly = _partly_built(lake, table, plan, origin)
        built = [day for day in fresh if first <= day < today and day not in partly]
    unbuilt = f"{TIME} < {now_us}" + (f" AND {DAY} NOT IN ({_listed(built)})" if built else "")
    start = _first_unbuilt(first, built)
    events = lake.events_sql(source, snapshot=origin.snapshot, days=(start, _date(now_us)), where=unbuilt)
    return _Since(built=built, events=events)


def _tiles_sql(lake: Lake, plan: ViewPlan, origin: Origin, since: _Since) -> str:
    """Tiles of all events before `now` but those that the table `own` names, if the view keeps some apart."""
    columns, events = ", ".join(tile_types(plan)), since.events
    if plan.view.score_own_event:
        events = f"SELECT * FROM ({events}) WHERE {ID} NOT IN (SELECT {ID} FROM own)"
    sql = f"SELECT {columns} FROM ({tiles_sql(plan, events)})"
    if since.built:
        from_table = lake.table_sql(tiles_table(plan.view), snapshot=origin.snapshot)
        sql = f"{sql} UNION ALL SELECT {columns} FROM {from_table} WHERE {DAY} IN ({_listed(since.built)})"
    return sql


def _listed(days: Sequence[date]) -> str:
    return ", ".join(f"DATE '{day}'" for day in days)


def _has_columns(lake: Lake, table: str, plan: ViewPlan) -> bool:
    return lake.exists(table) and set(tile_types(plan)) <= set(lake.columns(table))


def _partly_built(lake: Lake, table: str, plan: ViewPlan, origin: Origin) -> set[date]:
    """Days whose tiles lack partials of features that the view was given later."""
    with lake.reading() as cursor:
        from_table = lake.table_sql(table, snapshot=origin.snapshot)
        rows = cursor.execute(f"SELECT DISTINCT {DAY} FROM {from_table} WHERE {unbuilt_sql(plan)}").fetchall()
    return {row[0] for row in rows}


def _first_unbuilt(first: date, built: Sequence[date]) -> date:
    """The first day that has no build; reading events from there on prunes the files of the days before."""
    day, done = first, set(built)
    if first == _FIRST_DAY:
        return first
    while day in done:
        day += timedelta(days=1)
    return day


def _by_shard(
    table: pa.Table, plan: ViewPlan, shards: Mapping[int, Shard], count: int
) -> list[tuple[int, tuple[list[str], Ints, pa.Table]]]:
    """The rows of each shard: its keys, the number of the key of each row, and the rows."""
    encoded = table.column(KEY).combine_chunks().dictionary_encode()
    keys, index = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if count == 1:
        return [(0, (keys, index, table))]
    shard = np.array([shard_of(plan.view.entity.name, key, shards=count) for key in keys], dtype=np.int64)
    parts = []
    for number in shards:
        chosen = np.flatnonzero(shard[index] == number) if len(keys) else index
        used, local = np.unique(index[chosen], return_inverse=True)
        parts.append((number, ([keys[i] for i in used.tolist()], local.astype(np.int64), table.take(pa.array(chosen)))))
    return parts


def _seed(state: ViewState, hop: int, features: Sequence[FeaturePlan], rows: tuple[list[str], Ints, pa.Table]) -> None:
    keys, index, table = rows
    if not table.num_rows:
        return
    entity = state.number(keys)[index]
    time = np.zeros(table.num_rows, dtype=np.int64) if hop == LIFETIME else table.column(TILE).to_numpy()
    columns: dict[str, Array] = {name: table.column(name).to_numpy() for name in (EVENTS, NEWEST)}
    for column in tile_columns(features):
        columns[column.name] = to_numpy(table.column(column.name), column.kind)[0]
        if column.merge in NO_TIME:
            columns[f"{column.name}__t"] = to_numpy(table.column(f"{column.name}__t"), "int")[0]
            columns[f"{column.name}__id"] = to_numpy(table.column(f"{column.name}__id"), "str")[0]
    state.add_tiles(hop, RowSet(entity=entity, time=time, columns=columns))
    for column in value_columns(features):
        state.add_values(column, hop, _values(column, table.column(column.name), entity, time))


def _values(column: PartialColumn, lists: pa.ChunkedArray, entity: Ints, time: Ints) -> RowSet:
    """The elements of a set or list column, each a row of its tile (of its own time for `last_n`)."""
    array = lists.combine_chunks()
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    items = array.flatten()
    if column.merge is Merge.LAST_N:
        fields = {name: items.field(name) for name in ("t", "id", "v")}
        columns = {"value": to_numpy(fields["v"], column.kind)[0], "id": to_numpy(fields["id"], "str")[0]}
        return RowSet(entity=entity[parents], time=to_numpy(fields["t"], "int")[0].astype(np.int64), columns=columns)
    values = to_numpy(items, column.kind)[0]
    ids = np.full(len(values), "", dtype=object)
    return RowSet(entity=entity[parents], time=time[parents], columns={"value": values, "id": ids})


def _hold_future(
    compiled: Compiled, lake: Lake, source: str, origin: Origin, shards: Mapping[int, Shard], *, count: int, now_us: int
) -> None:
    """Events that were accepted although stamped slightly ahead wait in the shards, as they would have."""
    sql = lake.events_sql(
        source, snapshot=origin.snapshot, days=(_date(now_us), _LAST_DAY), where=f"{TIME} >= {now_us}"
    )
    with lake.reading() as cursor:
        events = cursor.execute(sql).to_arrow_table()
    if events.num_rows:
        splitter = Splitter(source, compiled.plans_of(source), shards=count)
        for batch in splitter.split(events, {}):
            if batch.shard in shards:
                shards[batch.shard].hold(batch)


def _date(time_us: int) -> date:
    return from_us(max(time_us, EARLIEST_US)).date()
