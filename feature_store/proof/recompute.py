"""Every served value once more, by the kernel, over the events that its commit could know, at its effective time.

Stream views: the windows at the effective time over the events known to the commit (shard, run, n). Batch views: the
windows at the time of the published row over the events that the lake held when the row was built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from feature_store.errors import SnapshotGone
from feature_store.history.spine import Spine, SpineKeys, spine_keys
from feature_store.proof.knowledge import Commits, RunCommits, Snapshots
from feature_store.proof.layout import PlannedRead, ServedLayout, conform
from feature_store.proof.runs import Runs, at_state
from feature_store.proof.served_log import view_column
from feature_store.status import Status
from feature_store.time_rule import SECOND_US, from_us
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import tails_us, window_values
from feature_store.transforms.families import History, event_rows, index_of
from feature_store.transforms.known import KnownWindows, Visibility
from feature_store.transforms.ordering import order_by
from feature_store.transforms.project import DAY, ID, KEY, OFFSET, PARTITION, TIME, project_sql

if TYPE_CHECKING:
    from feature_store.declare.keyed import KeyedView
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.kernel import RangeIndex
    from feature_store.transforms.plan import FeaturePlan, ViewPlan

UNPROVABLE = np.int8(-1)
"""The status of a value whose knowledge is not on record: equal to nothing that was served."""

_FIRST_DAY = date(1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What is asked of a view: q windows with their knowledge."""

    row: Ints
    """int64[q], positions in the record."""
    code: Ints
    """int64[q], entities."""
    time_us: Ints
    """int64[q], effective times."""
    group: Ints
    """int64[q], which order of knowledge applies (see `Knowledge`)."""
    cutoff: Ints
    """int64[q], what is known: events that became known at or before it, in the group's order."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: Ints) -> Queries:
        """Some of them."""
        return Queries(
            row=self.row[chosen],
            code=self.code[chosen],
            time_us=self.time_us[chosen],
            group=self.group[chosen],
            cutoff=self.cutoff[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The rows of one view that queries may need, with where they came from."""

    history: History
    partition: Ints
    """int64[e]; -1: loaded."""
    offset: Ints
    day: Ints
    """int64[e], days since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of knowledge, to which the cutoffs of a group belong."""

    known_from: Callable[[Events], Ints]
    """Since when each event is known: ALWAYS, an ordinal, or NEVER."""
    run: int | None = None
    """Of the stream; None: of a batch view."""


def recompute(
    compiled: Compiled, lake: Lake, layout: ServedLayout, served: pa.Table, *, snapshot: int
) -> dict[str, dict[str, Values]]:
    """Every stored feature that the record rests on: `KeyedView.id` -> feature -> a value per vector.

    The status is UNKNOWN for a null key, `UNPROVABLE` where the lake does not say what the value could know.
    """
    numbered, known = Entities(compiled, served), Knowledge.of(lake, snapshot=snapshot)
    return {
        each.id: recompute_view(each, lake, served, keys=numbered.of(each.read), known=known)
        for each in layout.reads.values()
    }


def provable(compiled: Compiled, lake: Lake, layout: ServedLayout, served: pa.Table, *, snapshot: int) -> pa.Table:
    """A record as the proof takes it: conformed, its shards those of the runs that wrote the values.

    Raises:
        InputError: a column is missing, or cannot have its type.
    """
    record, runs = conform(layout, served), Runs.of(lake, snapshot=snapshot)
    numbered = Entities(compiled, record)
    for each in layout.reads.values():
        if not each.plan.view.is_batch:
            record = runs.with_shards(each, record, numbered.of(each.read))
    return record


def recompute_view(
    each: PlannedRead, lake: Lake, served: pa.Table, *, keys: SpineKeys, known: Knowledge
) -> dict[str, Values]:
    """The features of one view in its role: a value per vector."""
    plan = each.plan
    asked, orders = ask(each, lake, served, keys=keys, known=known)
    status = np.where(keys.codes < 0, np.int8(Status.UNKNOWN), UNPROVABLE)
    if len(asked) == 0:
        return {f.feature.name: Values(np.zeros(served.num_rows), status.copy()) for f in plan.features}
    parts = []
    for events, mine in by_events(each, lake, keys, asked, orders=orders, known=known):
        for group in np.unique(mine.group).tolist():
            some = mine.take(np.flatnonzero(mine.group == group))
            parts.append((some.row, known_windows(plan, events, orders[group].known_from(events), some)))
    return {f.feature.name: _scatter(parts, f.feature.name, status) for f in plan.features}


def ask(
    each: PlannedRead, lake: Lake, served: pa.Table, *, keys: SpineKeys, known: Knowledge
) -> tuple[Queries, list[Order]]:
    """What the record asks of a view, by entity and time, and the orders of knowledge that its groups name."""
    if each.plan.view.is_batch:
        asked, orders = _batch_queries(each.read, lake, served, keys, known.snapshot)
    else:
        asked, orders = _stream_queries(each.read, served, keys, known.commits)
    return asked.take(order_by(asked.code, asked.time_us)), orders


def by_events(
    each: PlannedRead,
    lake: Lake,
    keys: SpineKeys,
    asked: Queries,
    *,
    orders: Sequence[Order],
    known: Knowledge,
    reach: int = 1,
) -> Iterator[tuple[Events, Queries]]:
    """The queries with their events: all the same, unless loads have changed some since a run began.

    What a run knew cannot be read any more if its snapshot was forgotten; its queries are left out. `reach` is how many
    times the longest window events are read back.
    """
    plan, days = each.plan, _days(each.plan, asked, reach)
    changed = known.runs.loaded_at(lake, plan.view.source.name, days=days, snapshot=known.snapshot)
    state = np.array([changed.get(order.run or 0, known.snapshot) for order in orders], dtype=np.int64)[asked.group]
    for loaded_at in np.unique(state).tolist():
        mine = asked.take(np.flatnonzero(state == loaded_at))
        with suppress(SnapshotGone):
            with at_state(lake, loaded_at, snapshot=known.snapshot) as read:
                events = _read_events(plan, read, keys, mine, known.snapshot, loaded_at, reach)
            yield events, mine


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the lake's books say of what values could know."""

    snapshot: int
    """The snapshot of the proof."""
    commits: Commits
    runs: Runs

    @classmethod
    def of(cls, lake: Lake, *, snapshot: int) -> Knowledge:
        """Read them as of a snapshot."""
        return cls(
            snapshot=snapshot,
            commits=Commits.of(lake, snapshot=snapshot),
            runs=Runs.of(lake, snapshot=snapshot),
        )


class Entities:
    """Numbers the entities of a record, once per entity."""

    def __init__(self, compiled: Compiled, served: pa.Table) -> None:
        self._compiled = compiled
        self._spine = Spine(table=served, time_column="", time_us=np.zeros(0, dtype=np.int64))
        self._known: dict[object, SpineKeys] = {}

    def of(self, read: KeyedView) -> SpineKeys:
        schema = self._compiled.schemas[read.view.source.name]
        known = tuple((key, column, schema.field(key).type) for key, column in read.columns.items())
        if known not in self._known:
            self._known[known] = spine_keys(self._spine, read, schema)
        return self._known[known]


def _stream_queries(
    read: KeyedView, served: pa.Table, keys: SpineKeys, commits: Commits
) -> tuple[Queries, list[Order]]:
    """A group per (shard, run); the commits' numbers are its order."""
    time_us, run, n, shard = (_ints(served, read, name) for name in ("as_of_us", "run", "n", "shard"))
    group = np.full(served.num_rows, -1)
    known: list[Order] = []
    for number, of_run in set(zip(shard.tolist(), run.tolist(), strict=True)):
        found = commits.run(number, of_run)
        rows = np.flatnonzero((shard == number) & (run == of_run) & (keys.codes >= 0))
        if found is not None:
            group[rows[np.isin(n[rows], found.n)]] = len(known)
            known.append(Order(known_from=partial(_known_to, found, read.view.source.name), run=of_run))
    row = np.flatnonzero(group >= 0)
    return Queries(row=row, code=keys.codes[row], time_us=time_us[row], group=group[row], cutoff=n[row]), known


def _batch_queries(
    read: KeyedView, lake: Lake, served: pa.Table, keys: SpineKeys, snapshot: int
) -> tuple[Queries, list[Order]]:
    """One group; the lake's snapshots are its order. A row names its version as `run` and its step's second as `n`."""
    run, n = _ints(served, read, "run"), _ints(served, read, "n")
    snapshots = Snapshots.of(lake, read.view.source.name, snapshot=snapshot)
    row = np.flatnonzero((keys.codes >= 0) & (run > 0))
    asked = Queries(
        row=row,
        code=keys.codes[row],
        time_us=n[row] * SECOND_US,
        group=np.zeros(len(row), dtype=np.int64),
        cutoff=snapshots.built_from(lake, read.view, versions=run[row], snapshot=snapshot),
    )
    return asked, [
        Order(known_from=lambda events: snapshots.known_from(events.partition, offset=events.offset, day=events.day))
    ]


def _known_to(commits: RunCommits, source: str, events: Events) -> Ints:
    return commits.known_from(source, events.partition, offset=events.offset, event_us=events.history.rows.time)


def _span(plan: ViewPlan, asked: Queries, reach: int) -> tuple[int | None, int]:
    """The times between which events can matter; None: ever since."""
    span, first, last = plan.view.longest_window_us, int(asked.time_us.min()), int(asked.time_us.max())
    return None if span is None else first - reach * span, last


def _days(plan: ViewPlan, asked: Queries, reach: int) -> tuple[date, date]:
    first, last = _span(plan, asked, reach)
    return _FIRST_DAY if first is None else from_us(first).date(), from_us(last).date()


def _read_events(
    plan: ViewPlan, lake: Lake, keys: SpineKeys, asked: Queries, snapshot: int, loaded_at: int, reach: int
) -> Events:
    """The events of the asked entities in the span of time that can matter, sorted by (entity, time, id)."""
    first, last = _span(plan, asked, reach)
    where = f"{TIME} <= {last}" + ("" if first is None else f" AND {TIME} >= {first}")
    events = lake.events_sql(
        plan.view.source.name,
        snapshot=snapshot,
        loaded_at=None if loaded_at == snapshot else loaded_at,
        days=_days(plan, asked, reach),
        where=where,
    )
    projected = project_sql(plan, events, extra=[PARTITION, OFFSET, DAY])
    entities = pa.table({KEY: keys.text, "_code": np.arange(len(keys), dtype=np.int64)})
    with lake.reading() as cursor:
        cursor.register("served_entities", entities)
        table = cursor.execute(
            f"SELECT p.* EXCLUDE ({KEY}), k._code, coalesce({PARTITION}, -1)::BIGINT AS _p, coalesce({OFFSET}, -1) AS _o, "
            f"({DAY} - DATE '1970-01-01')::BIGINT AS _d "
            f"FROM ({projected}) AS p JOIN served_entities AS k USING ({KEY}) ORDER BY k._code, {TIME}, {ID}"
        ).to_arrow_table()
    rows = event_rows(plan, table, table.column("_code").to_numpy(), is_sorted=True)
    partition, offset, day = (table.column(name).to_numpy() for name in ("_p", "_o", "_d"))
    return Events(history=History(rows), partition=partition, offset=offset, day=day)


def known_windows(plan: ViewPlan, events: Events, known_from: Ints, asked: Queries) -> dict[str, Values]:
    """The features of a view over the events that each query could know."""
    windows = _Windows(events.history, known_from, asked)
    found = {}
    for feature in plan.features:
        known = windows.of(feature)
        # Known windows are asked as a range index is.
        asked_of = cast("RangeIndex", known)
        found[feature.feature.name] = window_values(feature, asked_of, lo=known.lo, hi=known.hi, unique=False)
    return found


class _Windows:
    """The known windows of some queries; those of equal length over the same rows are found once."""

    def __init__(self, history: History, known_from: Ints, asked: Queries) -> None:
        self._history, self._known_from, self._asked = history, known_from, asked
        self._visible: dict[int, Visibility] = {}
        self._found: dict[tuple[int, int | None, int], KnownWindows] = {}

    def of(self, feature: FeaturePlan) -> KnownWindows:
        """A feature's windows."""
        index = index_of(feature, self._history)
        window, hop = feature.feature.window_us, feature.feature.hop_us
        key = (id(index), window, hop)
        if key not in self._found:
            if id(index) not in self._visible:
                self._visible[id(index)] = Visibility(index, self._aligned(feature))
            code, time_us = self._asked.code, self._asked.time_us
            lo = index.locate(code, tails_us(time_us, window_us=window, hop_us=hop))
            hi = index.locate(code, time_us)
            self._found[key] = self._visible[id(index)].known(lo, hi, cutoff=self._asked.cutoff)
        return self._found[key]

    def _aligned(self, feature: FeaturePlan) -> Ints:
        """Since when each row is known: of a set or list column only the events with a value are rows."""
        for column in feature.columns.values():
            if not column.in_tiles:
                return self._known_from[np.flatnonzero(self._history.rows.columns[f"{column.name}__valid"])]
        return self._known_from


def _scatter(parts: Sequence[tuple[Ints, Mapping[str, Values]]], name: str, status: np.ndarray) -> Values:
    """The groups' values at their vectors' places."""
    if not parts:
        return Values(np.zeros(len(status)), status.copy())
    found = [part[name] for _, part in parts]
    values = np.zeros(len(status), dtype=np.result_type(*[each.values for each in found]))
    statuses = status.copy()
    for (rows, _), each in zip(parts, found, strict=True):
        values[rows], statuses[rows] = each.values, each.status
    return Values(values, statuses)


def _ints(served: pa.Table, read: KeyedView, name: str) -> Ints:
    """A column of a read's provenance; nulls are -1."""
    column = served.column(view_column(read.id, name))
    filled: Ints = column.combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return filled
