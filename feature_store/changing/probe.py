"""What building a view will take, from measured facts: rows a day in the lake, a day's work tried, a sample of values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, cast

from feature_store.fold.shard import Shard
from feature_store.fold.split import Splitter
from feature_store.history.tiles import BATCH_DAYS, batches
from feature_store.online.packed import decode_row, item_at, seconds_since
from feature_store.online.packing import encode_rows
from feature_store.registry import Registry
from feature_store.time_rule import BEGINNING_US, DAY_US, SECOND_US, from_us, to_us
from feature_store.transforms.compiled import compile_registry
from feature_store.transforms.project import DAY, KEY, TIME, project_sql, tiles_sql

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.online.writer import Write
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

SAMPLED_EVENTS = 50_000
"""About how many events are folded to see how large the values are."""
HASH_BYTES, FIELD_BYTES = 175, 65
"""What Redis needs for a hash and for a field of it, beside names and values; measured with Valkey 9.1."""
COMMIT_S, ROWS_PER_S, WRITES_PER_S = 0.3, 500_000, 50_000
"""For a batch of days to be committed; batch rows that are computed, and values that are written, in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What it takes to build a view from the events that the lake has."""

    days: int
    """Partitions to build."""
    rows: int
    """Events that are read for them."""
    entities: int
    """Whose values will stand in Redis."""
    redis_bytes: int
    """That they will take beside what is there."""
    seconds: float
    """On this machine, one partition after another."""


def cost_of(
    compiled: Compiled,
    lake: Lake,
    client: Redis,
    view: FeatureView,
    *,
    env: str,
    now_us: int,
    share: float = 1.0,
    hashes: bool = True,
) -> Cost:
    """What it takes to build all partitions of a view and to fill Redis with its values. Nothing is written.

    Args:
        compiled: the declarations.
        lake: whose events are looked at.
        client: of the online store.
        view: that is built.
        env: the environment.
        now_us: the time at which its values are wanted.
        share: the share of its features that is new; the others stand there already.
        hashes: False if the entities' hashes are counted with another view.
    """
    source = view.source.name
    if not lake.has_source(source):
        return Cost(days=0, rows=0, entities=0, redis_bytes=0, seconds=0.0)
    plan, counts = compiled.plan(view), _events_of_days(lake, source)
    rows = _rows_read(view, counts)
    entities = _entities(plan, lake, now_us)
    online = entities if view.online is not None else 0
    size = _bytes_of_each(_sampled(plan, lake, env, now_us), client, share, hashes=hashes) if online else 0.0
    seconds = rows / _rate(plan, lake, counts) + COMMIT_S * sum(1 for _ in batches(list(counts), BATCH_DAYS))
    if view.is_batch:
        seconds += entities * len(counts) * (DAY_US // view.every_us) / ROWS_PER_S
    return Cost(
        days=len(counts),
        rows=rows,
        entities=online,
        redis_bytes=round(online * size),
        seconds=seconds + online / WRITES_PER_S,
    )


def _events_of_days(lake: Lake, source: str) -> Mapping[date, int]:
    """Day -> events, of every day that the lake was given."""
    known = dict.fromkeys(lake.days(source).known, 0)
    with lake.reading() as cursor:
        rows = cursor.execute(f"SELECT {DAY}, count(*) FROM ({lake.events_sql(source)}) GROUP BY ALL").fetchall()
    return {**known, **dict(rows)}


def _rows_read(view: FeatureView, counts: Mapping[date, int]) -> int:
    """Events that building reads: each once for tiles; for batch rows what the windows of each run of days reach back to."""
    if not view.is_batch:
        return sum(counts.values())
    total, span = 0, view.longest_window_us
    for run in batches(list(counts), BATCH_DAYS):
        first = date.min if span is None else from_us(_start_us(run[0]) - span).date()
        total += sum(count for day, count in counts.items() if first <= day <= run[-1])
    return total


def _rate(plan: ViewPlan, lake: Lake, counts: Mapping[date, int]) -> float:
    """Events a second: the newest day's tiles are computed and thrown away."""
    day = max((day for day, count in counts.items() if count), default=None)
    if day is None:
        return 1.0
    events = lake.events_sql(plan.view.source.name, days=(day, day))
    begun = time.perf_counter()
    with lake.reading() as cursor:
        cursor.execute(f"SELECT * FROM ({tiles_sql(plan, events)})").to_arrow_table()
    return counts[day] / max(time.perf_counter() - begun, 1e-6)


def _entities(plan: ViewPlan, lake: Lake, now_us: int) -> int:
    """About how many entities have an event in a window now."""
    rows = project_sql(plan, _recent_sql(plan, lake, now_us))
    with lake.reading() as cursor:
        found = cursor.execute(f"SELECT approx_count_distinct({KEY}) FROM ({rows})").fetchone()
    return int(found[0]) if found else 0


def _recent_sql(plan: ViewPlan, lake: Lake, now_us: int, where: str = "TRUE") -> str:
    """SQL for the events that a window can hold now."""
    longest = plan.view.longest_window_us
    first_us = BEGINNING_US if longest is None else now_us - longest
    first = date.min if longest is None else from_us(first_us).date()
    return lake.events_sql(
        plan.view.source.name,
        days=(first, from_us(now_us).date()),
        where=f"{TIME} >= {first_us} AND {TIME} < {now_us} AND ({where})",
    )


def _bytes_of_each(writes: Sequence[Write], client: Redis, share: float, *, hashes: bool) -> float:
    """Bytes that the value of an entity takes in Redis, on average over a sample; without what stands there already."""
    if not writes:
        return 0.0
    total = sum(len(write.value) for write in writes) * share
    if share == 1:
        total += sum(FIELD_BYTES + len(write.field) for write in writes)
        total += sum(HASH_BYTES + len(write.key) for write in _unknown(writes, client)) if hashes else 0
    return total / len(writes)


def _unknown(writes: Sequence[Write], client: Redis) -> list[Write]:
    """Those of entities that have no hash yet."""
    pipeline = client.pipeline(transaction=False)
    for write in writes:
        pipeline.exists(write.key)
    return [write for write, there in zip(writes, cast("list[int]", pipeline.execute()), strict=True) if not there]


def _sampled(plan: ViewPlan, lake: Lake, env: str, now_us: int) -> list[Write]:
    """The values of some entities, as the stream writes them; of a batch view as they are published."""
    view = replace(plan.view, online="stream")
    folded = compile_registry(Registry(views=[view])).plan(view)
    with lake.reading() as cursor:
        recent = _recent_sql(folded, lake, now_us)
        row = cursor.execute(f"SELECT count(*) FROM ({recent})").fetchone()
        parts = max(1, int(row[0] if row else 0) // SAMPLED_EVENTS)
        chosen = f"SELECT * FROM ({recent}) WHERE hash({folded.key_sql}) % {parts} = 0"
        events = cursor.execute(chosen).to_arrow_table()
        if not events.num_rows:  # few entities, and none of them was chosen
            events = cursor.execute(f"SELECT * FROM ({recent}) LIMIT {SAMPLED_EVENTS}").to_arrow_table()
    shard = Shard([folded], env=env, shard=0, run=1)
    [batch] = Splitter(view.source.name, [folded], shards=1).split(events, {})
    writes = list(shard.fold([batch], now_us).values)
    return [_published(write, now_us) for write in writes] if plan.view.is_batch else writes


def _published(write: Write, now_us: int) -> Write:
    """A value as it is at one moment, without the steps that follow."""
    row = decode_row(write.value)
    at_s = seconds_since(row.from_us, now_us)
    items = [[item_at(item, at_s)] for item in row.items]
    [value] = encode_rows(row.layout_id, row.run, now_us // SECOND_US, [now_us], [row.age_us], [0], items)
    return write._replace(value=value)


def _start_us(day: date) -> int:
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))
