"""Windows at every row of a spine: the events of its entities from the lake, the kernel, bucket by bucket."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from feature_store.history.buckets import divide
from feature_store.history.reading import LakeReading, days_of, time_filter
from feature_store.history.served import RowFacts, known_columns, known_names, no_facts, served_values
from feature_store.history.visibility import Visibility, visibility
from feature_store.status import Status
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.ordering import order_by
from feature_store.transforms.project import ID, KEY, TIME, project_sql
from feature_store.transforms.rowset import Merge

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from feature_store.history.buckets import Bucket
    from feature_store.history.spine import SpineKeys
    from feature_store.history.workers import Workers
    from feature_store.transforms.plan import ViewPlan, WindowPlan

CODE = "_code"

_PICKS = (Merge.FIRST, Merge.LAST, Merge.LAST_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowValues:
    """A view's features at the rows of a spine."""

    values: Mapping[str, Values]
    """Feature -> n values in the spine's order; UNKNOWN where a join key is null."""
    facts: RowFacts | None
    """What each row knew, in the spine's order; None with hindsight."""


def window_values(
    plan: ViewPlan, *, reading: LakeReading, keys: SpineKeys, time_us: Ints, served: bool, workers: Workers
) -> WindowValues:
    """The features of a view at times given by (entity, time).

    Args:
        plan: the view.
        reading: the events.
        keys: the entity of each row.
        time_us: int64[n], the time of each row.
        served: only events that were known by the row's time count.
        workers: who computes, and how much at once. The values do not depend on it.
    """
    order = order_by(keys.codes, time_us)
    order = order[int(np.searchsorted(keys.codes[order], 0)) :]  # null keys stand first
    codes, times = keys.codes[order], time_us[order]
    reading.cursor.register("spine_entities", keys.entities)
    known = Known(visibility=visibility(plan.view, reading, keys, times)) if served else None
    events = _Events(plan, reading, times, entities=keys.entities, known=known)
    count = events.buckets(workers)
    if count == 1:
        parts = [_answer(plan.windows, events.rows(), codes, times, known=known)]
    else:
        order, parts = _by_bucket(events, order, codes, times, count=count, workers=workers)
    facts = [part.facts for part in parts if part.facts is not None]
    return WindowValues(
        values=_scatter([part.values for part in parts], order, len(time_us)),
        facts=_scatter_facts(facts, order, len(time_us)) if served else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """That values are as they were served, and what commit records say about that."""

    visibility: Visibility | None
    """None: nothing."""

    @property
    def is_measured(self) -> bool:
        """Whether there are commit records."""
        return self.visibility is not None


class _Events:
    """The events of the spine's entities, numbered as these are, in the span of time that can matter."""

    def __init__(
        self, plan: ViewPlan, reading: LakeReading, times: Ints, *, entities: pa.Table, known: Known | None
    ) -> None:
        self.plan, self.reading, self.known, self._entities = plan, reading, known, entities
        self._first, self._last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        self._span = plan.view.longest_window_us
        self._days = days_of(self._span, self._first, self._last)

    @property
    def query(self) -> str:
        """SQL for the rows of partials, each with its entity's number as its key."""
        view = self.plan.view
        where = time_filter(self._span, self._first, self._last)
        events = self.reading.events_sql(view.source.name, days=self._days, where=where)
        on = " AND ".join(f'e."{name}" = k."{name}"' for name in view.entity.join_keys) or "TRUE"
        numbered = f"SELECT e.*, k.{CODE} FROM ({events}) AS e JOIN spine_entities AS k ON {on}"
        known = [] if self.known is None else known_columns(measured=self.known.is_measured)
        projected = project_sql(replace(self.plan, key_sql=CODE), numbered, extra=known)
        return f"SELECT {', '.join(self._columns)} FROM ({projected})"

    @property
    def _columns(self) -> list[str]:
        names = [] if self.known is None else known_names(measured=self.known.is_measured)
        return [KEY, TIME, *(column.name for column in self.plan.columns), *names, *self._tie]

    @property
    def order(self) -> str:
        """What sorts the rows by (entity, time, event id)."""
        if self._span is None or self._entities.num_rows * (length := self._last - self._first + self._span) >= 1 << 62:
            return ", ".join([KEY, TIME, *self._tie])
        # One number sorts in two thirds of the time of a pair.
        return ", ".join([f"{KEY} * {length} + ({TIME} - ({self._first - self._span}))", *self._tie])

    @property
    def _tie(self) -> list[str]:
        """The event id, only where a feature depends on the order of ties."""
        return [ID] if any(column.merge in _PICKS for column in self.plan.columns) else []

    def buckets(self, workers: Workers) -> int:
        """How many buckets these events make."""
        source = self.plan.view.source.name
        if self.reading.has_at_most(workers.bucket_events, source, self._days):
            return 1
        return workers.buckets(self.reading.at_most(source, self._days))

    def rows(self) -> pa.Table:
        """All rows, sorted."""
        return self.reading.rows(
            f"{self.query} ORDER BY {self.order}",
            self._entities,
            name=f"{self.plan.view.id} {self._first} {self._last}",
            columns=self._columns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a worker is asked for: windows over the events of one bucket."""

    plan: WindowPlan
    bucket: Bucket
    queries: Path
    """Codes and times, an int64[2, q]."""
    known: Path | None
    """What is known of the events, pickled; None: all."""


def _by_bucket(
    events: _Events, order: Ints, codes: Ints, times: Ints, *, count: int, workers: Workers
) -> tuple[Ints, list[WindowValues]]:
    """The values, bucket after bucket, and the rows of the spine in that order."""
    of_bucket = codes % count
    by_bucket = np.argsort(of_bucket, kind="stable")
    bounds = np.searchsorted(of_bucket[by_bucket], np.arange(count + 1))
    with events.reading.scratch() as folder:
        divided = divide(
            events.reading.cursor, events.query, by=KEY, count=count, order=events.order,
            folder=folder, memory_mb=workers.share_mb,
        )  # fmt: skip
        tasks = []
        known = None if events.known is None else folder / "known.pickle"
        if known is not None:
            known.write_bytes(pickle.dumps(events.known))
        for number, (bucket, (low, high)) in enumerate(zip(divided.buckets, pairwise(bounds.tolist()), strict=True)):
            chosen, queries = by_bucket[low:high], folder / f"queries_{number}.npy"
            np.save(queries, np.stack([codes[chosen], times[chosen]]))
            tasks.append(_Asked(plan=events.plan.windows, bucket=bucket, queries=queries, known=known))
        return order[by_bucket], workers.compute(_answer_bucket, tasks, events=divided.rows)


def _answer_bucket(asked: _Asked) -> WindowValues:
    codes, times = np.load(asked.queries)
    known = None if asked.known is None else pickle.loads(asked.known.read_bytes())  # noqa: S301 - written above
    return _answer(asked.plan, asked.bucket.rows(), codes, times, known=known)


def _answer(plan: WindowPlan, rows: pa.Table, codes: Ints, times: Ints, *, known: Known | None) -> WindowValues:
    """Windows over sorted rows, in the order of the queries, which are sorted by (code, time)."""
    history = History(event_rows(plan, rows, rows.column(KEY).to_numpy(), is_sorted=True))
    rows = rows.select([] if known is None else known_names(measured=known.is_measured))
    values = evaluate(plan, history, codes, time_us=times)
    if known is None:
        return WindowValues(values=values, facts=None)
    values, facts = served_values(plan, history, rows, known.visibility, codes=codes, times=times, values=values)
    return WindowValues(values=values, facts=facts)


def _scatter(parts: Sequence[Mapping[str, Values]], order: Ints, size: int) -> dict[str, Values]:
    """Buckets one after the other, back in the spine's order."""
    scattered = {}
    for name in parts[0]:
        found = [part[name].values for part in parts]
        values = np.zeros(size, dtype=np.result_type(*found))
        values[order] = np.concatenate(found)
        status = np.full(size, np.int8(Status.UNKNOWN))
        status[order] = np.concatenate([part[name].status for part in parts])
        scattered[name] = Values(values, status)
    return scattered


def _scatter_facts(parts: Sequence[RowFacts], order: Ints, size: int) -> RowFacts:
    """The same for what the rows knew."""
    facts = no_facts(size)
    for name in ("kind", "recomputed", "differing"):
        getattr(facts, name)[order] = np.concatenate([getattr(part, name) for part in parts])
    return facts
