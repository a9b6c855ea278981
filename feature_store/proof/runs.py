"""The runs of the stream on record: what the lake held when each began, in which store it wrote, over how many shards.

A run rebuilds its state from the lake as of one snapshot: the loaded events of that snapshot are known to its values,
and those of no later load. A run that is not on record knows what is loaded now.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.lake.books.stream import STREAM_RUNS
from feature_store.online.keys import shard_of
from feature_store.proof.served_log import view_column

if TYPE_CHECKING:
    from feature_store.history.spine import SpineKeys
    from feature_store.lake import Lake
    from feature_store.proof.layout import PlannedRead


def at_state(lake: Lake, loaded_at: int, *, snapshot: int) -> AbstractContextManager[Lake]:
    """A lake of which the loaded events of one snapshot are read beside what another one, the newest that counts, has.

    Raises:
        SnapshotGone: the first was expired.
    """
    return nullcontext(lake) if loaded_at == snapshot else lake.pinned(loaded_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunRun:
    """What is on record of one run."""

    snapshot: int
    began_us: int
    generation: str
    """Of the store that it wrote to."""
    shards: int


class Runs:
    """All runs that the lake has on record."""

    def __init__(self, runs: Mapping[int, BegunRun]) -> None:
        self._runs = runs

    @classmethod
    def of(cls, lake: Lake, *, snapshot: int) -> Runs:
        """Read them from the lake as of a snapshot."""
        if not lake.exists(STREAM_RUNS):
            return cls({})
        with lake.reading() as cursor:
            rows = cursor.execute(
                "SELECT run, snapshot, began_us, generation, shards FROM "
                f"{lake.table_sql(STREAM_RUNS, snapshot=snapshot)} ORDER BY began_us DESC"
            ).fetchall()
        return cls({run: BegunRun(snapshot=s, began_us=b, generation=g, shards=n) for run, s, b, g, n in rows})

    def store_lost_after(self, run: int) -> bool:
        """Whether a later run found another store than this one wrote to: commits that were only there are gone."""
        mine = self._runs.get(run)
        return mine is not None and any(
            other.began_us > mine.began_us and other.generation != mine.generation for other in self._runs.values()
        )

    def loaded_at(self, lake: Lake, source: str, *, days: tuple[date, date], snapshot: int) -> dict[int, int]:
        """Run -> the snapshot that has the loaded events which it knew, of the runs for which later loads changed some.

        Args:
            lake: whose books say what was loaded when.
            source: the events' source.
            days: first and last day that matter.
            snapshot: the newest that counts.
        """
        if not self._runs:
            return {}
        with lake.reading() as cursor:
            found = cursor.execute(
                f"SELECT DISTINCT snapshot FROM (SELECT snapshot, unnest(days) AS day FROM "
                f"{lake.table_sql('commits', snapshot=snapshot)} WHERE source = ? AND kind = 'loaded') "
                "WHERE day BETWEEN ? AND ? ORDER BY snapshot",
                [source, *days],
            ).fetchall()
        loads = np.array([row[0] for row in found], dtype=np.int64)
        states: dict[int, int] = {}  # runs that knew the same loads share one snapshot
        known: dict[int, int] = {}
        for number, run in self._runs.items():
            before = int(np.searchsorted(loads, run.snapshot, side="right"))
            if before < len(loads):
                known[number] = states.setdefault(before, run.snapshot)
        return known

    def with_shards(self, each: PlannedRead, served: pa.Table, keys: SpineKeys) -> pa.Table:
        """A record whose shards are those of the runs that wrote its values.

        A reader names the shard by the count that it sees; while that changes, the value may be of another.
        """
        if not self._runs:
            return served
        name = view_column(each.id, "shard")
        run, shard = (served.column(view_column(each.id, of)).to_pylist() for of in ("run", "shard"))
        texts, entity = keys.text.to_pylist(), each.plan.view.entity.name
        codes = keys.codes.tolist()
        for i, number in enumerate(run):
            mine = self._runs.get(number)
            if mine is not None and shard[i] is not None and codes[i] >= 0:
                shard[i] = shard_of(entity, texts[codes[i]], shards=mine.shards)
        column = pa.array(shard, type=pa.int64())
        return served.set_column(served.schema.get_field_index(name), served.schema.field(name), column)
