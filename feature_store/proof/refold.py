"""One entity's packed value once more, by the stream's own path: its known events, split and folded by a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.fold.shard import Shard
from feature_store.fold.split import Splitter
from feature_store.lake.connection import quote
from feature_store.time_rule import from_us
from feature_store.transforms.project import ID, OFFSET, PARTITION, TIME

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.proof.knowledge import Commits
    from feature_store.transforms.plan import ViewPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Refold:
    """A served row of a stream view: whose, for when, and from which commit."""

    plan: ViewPlan
    read_id: str
    """As which the view was read."""
    row: int
    """The vector's place in the record."""
    keys: Mapping[str, object]
    as_of_us: int
    run: int
    n: int
    shard: int


def known_events(lake: Lake, place: Refold, *, commits: Commits, snapshot: int) -> pa.Table | None:
    """The entity's events that the row could know, by time and id; None if its commit is not in the lake."""
    found = commits.run(place.shard, place.run)
    if found is None:
        return None
    view, span = place.plan.view, place.plan.view.longest_window_us
    keys = " AND ".join(f"{quote(name)} = ?" for name in place.keys) or "TRUE"
    where = f"{TIME} < {place.as_of_us}" + ("" if span is None else f" AND {TIME} >= {place.as_of_us - span}")
    days = None if span is None else (from_us(place.as_of_us - span).date(), from_us(place.as_of_us).date())
    events = lake.events_sql(view.source.name, snapshot=snapshot, days=days, where=where)
    with lake.reading() as cursor:
        table = cursor.execute(
            f"SELECT * FROM ({events}) WHERE {keys} ORDER BY {TIME}, {ID}", list(place.keys.values())
        ).to_arrow_table()
    partition, offset = (
        table.column(name).combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in (PARTITION, OFFSET)
    )
    known = found.known_from(view.source.name, partition, offset=offset, event_us=table.column(TIME).to_numpy())
    return table.filter(pa.array(known <= place.n))


def refold(place: Refold, events: pa.Table) -> bytes | None:
    """The packed value of an entity with these events at the row's time; None if the view accepts none of them."""
    splitter = Splitter(place.plan.view.source.name, [place.plan], shards=1)
    shard = Shard([place.plan], env="proof", shard=0, run=place.run)
    writes = shard.fold(splitter.split(events, {}), place.as_of_us)
    return writes.values[0].value if writes.values else None
