"""Vectors that cannot be proved yet: the lake follows the stream by some seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.lake.books.stream import STREAM_COMMITS
from feature_store.log.protocol import pack_offset
from feature_store.proof.knowledge import NEVER, Commits, RunCommits
from feature_store.proof.served_log import SERVED, view_column
from feature_store.time_rule import MINUTE_US
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.proof.compare import Bools
    from feature_store.proof.layout import PlannedRead, ServedLayout

_NUMBER = pack_offset(1, 0) - 1
"""The bits of a position that count the records of its epoch."""

SLACK_US = MINUTE_US
"""A commit that is missing may still come if the vector was served within this time before the newest that is there."""


def pending(lake: Lake, layout: ServedLayout, record: pa.Table, *, snapshot: int) -> Bools:
    """Which vectors rest on a commit, or on events of the log, that are still on their way to the lake."""
    waits = np.zeros(record.num_rows, dtype=bool)
    commits, newest_us = Commits.of(lake, snapshot=snapshot), _newest_us(lake, snapshot)
    recent = _ints(record, SERVED) > newest_us - SLACK_US
    for each in layout.reads.values():
        if not each.plan.view.is_batch:
            waits |= _waits(lake, each, record, commits, recent=recent, snapshot=snapshot)
    return waits


def _waits(lake: Lake, each: PlannedRead, record: pa.Table, commits: Commits, *, recent: Bools, snapshot: int) -> Bools:
    run, n, shard = (_ints(record, view_column(each.id, name)) for name in ("run", "n", "shard"))
    source, waits = each.plan.view.source.name, np.zeros(record.num_rows, dtype=bool)
    archived = lake.positions(source, snapshot=snapshot)
    for number, of_run in set(zip(shard.tolist(), run.tolist(), strict=True)):
        rows = np.flatnonzero((shard == number) & (run == of_run) & (run > 0))
        found = commits.run(number, of_run)
        if found is None:
            waits[rows] = recent[rows]
            continue
        waits[rows] = np.where(
            np.isin(n[rows], found.n), n[rows] >= _first_ahead(found, source, archived), recent[rows]
        )
    return waits


def _first_ahead(commits: RunCommits, source: str, archived: dict[int, int]) -> int:
    """The first commit of a run that had read further than the lake has; where an epoch begins nothing was read of it."""
    ahead = np.zeros(len(commits.n), dtype=bool)
    for (name, partition), positions in commits.positions.items():
        if name == source:
            ahead |= (positions > archived.get(partition, -1)) & (positions & _NUMBER > 0)
    return int(commits.n[np.argmax(ahead)]) if ahead.any() else NEVER


def _newest_us(lake: Lake, snapshot: int) -> int:
    """When the newest commit that the lake has became visible."""
    if not lake.exists(STREAM_COMMITS):
        return 0
    with lake.reading() as cursor:
        row = cursor.execute(
            f"SELECT max(visible_at_us) FROM {lake.table_sql(STREAM_COMMITS, snapshot=snapshot)}"
        ).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _ints(record: pa.Table, name: str) -> Ints:
    found: Ints = record.column(name).combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
