"""Rows of partial aggregates, sorted by (entity, time), and how equal rows merge into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from feature_store.transforms.ordering import (
    INT64_MAX,
    INT64_MIN,
    Column,
    Ints,
    group_equal,
    is_sorted,
    order_by,
    run_starts,
    text_ranks,
)


class Merge(StrEnum):
    """How two partials of one kind become one. Every operation is associative and commutative."""

    ADD = "add"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    DISTINCT = "distinct"
    LAST_N = "last_n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """Rows of partial aggregates: one per event (history) or per tile (stream).

    Sorted by (entity, time), except between a `concat` and the merge that follows it.
    """

    entity: Ints
    """The entity's number, any int64."""
    time: Ints
    """Microseconds since the epoch, of the event or of the start of the tile."""
    columns: Mapping[str, Column]
    """1-D arrays as long as `entity`; text and decimals as objects."""

    @classmethod
    def empty(cls, dtypes: Mapping[str, np.dtype[np.generic] | type]) -> "RowSet":
        """Return no rows, with columns of these types."""
        none = np.zeros(0, dtype=np.int64)
        return cls(entity=none, time=none, columns={name: np.zeros(0, dtype=dtype) for name, dtype in dtypes.items()})

    @classmethod
    def sorted_from(
        cls, entity: Ints, time: Ints, *, columns: Mapping[str, Column], tie: Column | None = None
    ) -> "RowSet":
        """Return the rows sorted by (entity, time), then by `tie` (the event ids); a stable sort."""
        rows = cls(entity=entity, time=time, columns=columns)
        if tie is None and is_sorted(entity, time):
            return rows
        return rows.take(order_by(entity, time, tie=tie))

    def __len__(self) -> int:
        return len(self.entity)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; of an object column only the references."""
        return self.entity.nbytes + self.time.nbytes + sum(column.nbytes for column in self.columns.values())

    def take(self, index: Ints | slice) -> "RowSet":
        """Return the rows at these positions, in this order."""
        return RowSet(
            entity=self.entity[index],
            time=self.time[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )


def concat(parts: Sequence[RowSet]) -> RowSet:
    """Return the rows of all parts one after the other, not sorted. All parts have the same columns."""
    if len(parts) == 1:
        return parts[0]
    return RowSet(
        entity=np.concatenate([part.entity for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )


def merge_tiles(rows: RowSet, ops: Mapping[str, Merge]) -> RowSet:
    """Return one row per (entity, time), sorted, each column merged by its operation.

    Args:
        rows: in any order. A column `c` merged by FIRST or LAST has two companions, which move with it: `c__t`, the
            event time in microseconds (no value: INT64_MAX for FIRST, INT64_MIN for LAST), and `c__id`, the event id.
        ops: the operation of every column that is not a companion. ADD is on int64 and wraps.

    Raises:
        ValueError: for an operation that does not merge within tiles (DISTINCT, LAST_N).
    """
    rows = RowSet.sorted_from(rows.entity, rows.time, columns=rows.columns)
    starts = run_starts(rows.entity, rows.time)
    if len(starts) == len(rows):
        return rows
    merged: dict[str, Column] = {}
    for name, op in ops.items():
        merged |= _merge_column(rows.columns, name, op=op, starts=starts)
    return RowSet(
        entity=rows.entity[starts], time=rows.time[starts], columns={name: merged[name] for name in rows.columns}
    )


def _merge_column(columns: Mapping[str, Column], name: str, *, op: Merge, starts: Ints) -> dict[str, Column]:
    column = columns[name]
    match op:
        case Merge.ADD:
            return {name: np.add.reduceat(column, starts, dtype=np.int64)}
        case Merge.MIN:
            return {name: np.minimum.reduceat(column, starts)}
        case Merge.MAX:
            return {name: np.maximum.reduceat(column, starts)}
        case Merge.FIRST | Merge.LAST:
            time = columns[f"{name}__t"].astype(np.int64, copy=False)
            chosen = _pick(time, columns[f"{name}__id"], starts=starts, last=op is Merge.LAST)
            return {key: columns[key][chosen] for key in (name, f"{name}__t", f"{name}__id")}
        case _:
            raise ValueError(f"`ops[{name!r}]` must merge within a tile, got {op.value!r}")


def _pick(time: Ints, ids: Column, *, starts: Ints, last: bool) -> Ints:
    """Return per run the position of the value with the largest (`last`) or smallest (time, id)."""
    best = (np.maximum if last else np.minimum).reduceat(time, starts)
    run = np.repeat(np.arange(len(starts), dtype=np.int64), np.diff(starts, append=len(time)))
    candidates = np.flatnonzero(time == best[run])
    owner = run[candidates]
    ends = np.searchsorted(owner, np.arange(len(starts)), side="right")
    chosen = candidates[ends - 1]
    several = np.diff(ends, prepend=0) > 1
    several &= best != (INT64_MIN if last else INT64_MAX)
    if several.any():
        tied = np.flatnonzero(several[owner])
        order = tied[np.lexsort((text_ranks(ids[candidates[tied]]), owner[tied]))]
        heads = run_starts(owner[order])
        at = np.append(heads[1:], len(order)) - 1 if last else heads
        chosen[owner[order[at]]] = candidates[order[at]]
    return chosen


def merge_distinct(rows: RowSet) -> RowSet:
    """Return one row per (entity, value of column `value`) with its latest time, sorted by (entity, time)."""
    rows = RowSet.sorted_from(rows.entity, rows.time, columns=rows.columns)
    order, same = group_equal(rows.entity, rows.columns["value"])
    if not same.any():
        return rows
    latest = order[np.append(~same, True)]  # rows ascend in time, and the order is stable
    return rows.take(np.sort(latest))


def merge_last_n(rows: RowSet, n: int) -> RowSet:
    """Return per entity the n rows with the largest (time, column `id`), sorted by (entity, time, id)."""
    rows = RowSet.sorted_from(rows.entity, rows.time, columns=rows.columns, tie=rows.columns["id"])
    bounds = np.append(run_starts(rows.entity), len(rows))
    to_end = np.repeat(bounds[1:], np.diff(bounds)) - np.arange(len(rows))
    return rows if (to_end <= n).all() else rows.take(np.flatnonzero(to_end <= n))
