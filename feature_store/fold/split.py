"""Accepted events become rows of partials for each view, divided by the shard of their entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.fold.batch_query import BatchQuery
from feature_store.online.keys import shard_of
from feature_store.transforms.catalogue import Array, Ints
from feature_store.transforms.plan import ViewPlan
from feature_store.transforms.project import ID, KEY, TIME, project_batch_sql, to_numpy


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRows:
    """Rows of one view in one shard, one per event: `keys[key[i]]` is the entity of row i."""

    keys: Sequence[str]
    key: Ints
    time: Ints
    event_id: Array
    columns: Mapping[str, tuple[Array, Array]]
    """Partial column -> (values, valid)."""

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBatch:
    """What one shard has to fold: rows per view, and the positions that it will have reached with them."""

    shard: int
    source: str
    views: Mapping[str, ViewRows]
    """By `view@version`."""
    positions: Mapping[int, int]
    """Partition -> offset of the next record."""


class Splitter:
    """Evaluates the SQL of all views of a source in one pass and deals the rows out to the shards."""

    def __init__(self, source: str, plans: Sequence[ViewPlan], *, shards: int) -> None:
        self._source = source
        self._plans = [plan for plan in plans if plan.view.online == "stream"]
        self._shards = shards
        self._query = BatchQuery(project_batch_sql(self._plans, "SELECT * FROM batch"))

    def split(self, events: pa.Table, positions: Mapping[int, int]) -> list[ShardBatch]:
        """One batch per shard, for every shard: positions advance even where no row is."""
        views: list[dict[str, ViewRows]] = [{} for _ in range(self._shards)]
        if self._plans and events.num_rows:
            projected = self._query.run(events)
            for i, plan in enumerate(self._plans):
                for shard, rows in enumerate(self._deal(plan, i, projected)):
                    if rows is not None and len(rows):
                        views[shard][plan.view.id] = rows
        return [
            ShardBatch(shard=shard, source=self._source, views=views[shard], positions=dict(positions))
            for shard in range(self._shards)
        ]

    def _deal(self, plan: ViewPlan, ordinal: int, projected: pa.Table) -> list[ViewRows | None]:
        keys = projected.column(f"{ordinal}.{KEY}").combine_chunks()
        encoded = keys.dictionary_encode()
        chosen = np.flatnonzero(~keys.is_null().to_numpy(zero_copy_only=False))
        if len(chosen) == 0:
            return [None] * self._shards
        rows = _view_rows(
            plan, ordinal, projected if len(chosen) == len(keys) else projected.take(chosen), encoded, chosen
        )
        if self._shards == 1:
            return [rows]
        shard = np.array(
            [shard_of(plan.view.entity.name, key, shards=self._shards) for key in rows.keys], dtype=np.int64
        )
        return [_take(rows, np.flatnonzero(shard[rows.key] == number)) for number in range(self._shards)]


def _view_rows(
    plan: ViewPlan, ordinal: int, projected: pa.Table, encoded: pa.DictionaryArray, chosen: Ints
) -> ViewRows:
    indices = encoded.indices if len(chosen) == len(encoded) else encoded.indices.take(pa.array(chosen))
    return ViewRows(
        keys=encoded.dictionary.to_pylist(),
        key=indices.to_numpy(zero_copy_only=False).astype(np.int64),
        time=projected.column(TIME).to_numpy(),
        event_id=to_numpy(projected.column(ID), "str")[0],
        columns={c.name: to_numpy(projected.column(f"{ordinal}.{c.name}"), c.kind) for c in plan.columns},
    )


def _take(rows: ViewRows, chosen: Ints) -> ViewRows:
    used, key = np.unique(rows.key[chosen], return_inverse=True)
    return ViewRows(
        keys=[rows.keys[i] for i in used.tolist()],
        key=key.astype(np.int64),
        time=rows.time[chosen],
        event_id=rows.event_id[chosen],
        columns={name: (values[chosen], valid[chosen]) for name, (values, valid) in rows.columns.items()},
    )
