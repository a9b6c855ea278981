"""Windows at every row of a spine: the events of its entities from the lake, the kernel, bucket by bucket."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from feature_store.history.buckets import divide
from feature_store.history.served import RowFacts, known_names, no_facts, served_values
from feature_store.history.visibility import visibility
from feature_store.history.window_rows import EventRows, Known
from feature_store.status import Status
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.ordering import order_by
from feature_store.transforms.project import KEY

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from feature_store.history.buckets import Bucket
    from feature_store.history.reading import LakeReading
    from feature_store.history.spine import SpineKeys
    from feature_store.history.workers import Workers
    from feature_store.transforms.plan import ViewPlan, WindowPlan


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
    known = Known(visibility=visibility(plan.view, reading, keys, times)) if served else None
    events = EventRows(plan, reading, times, keys=keys, known=known)
    if by_hop := events.by_hop():
        parts = [_joined([_answer(rows.plan.windows, rows.rows(), codes, times, known=known) for rows in by_hop])]
    elif (count := events.buckets(workers)) == 1:
        parts = [_answer(plan.windows, events.rows(), codes, times, known=known)]
    else:
        order, parts = _by_bucket(events, order, codes, times, count=count, workers=workers)
    facts = [part.facts for part in parts if part.facts is not None]
    return WindowValues(
        values=_scatter([part.values for part in parts], order, len(time_us)),
        facts=_scatter_facts(facts, order, len(time_us)) if served else None,
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
    events: EventRows, order: Ints, codes: Ints, times: Ints, *, count: int, workers: Workers
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


def _joined(parts: Sequence[WindowValues]) -> WindowValues:
    """Features of several hops at the same rows. A row knows as little as the features of one of them."""
    facts = [part.facts for part in parts if part.facts is not None]
    values = {name: found for part in parts for name, found in part.values.items()}
    if not facts:
        return WindowValues(values=values, facts=None)
    return WindowValues(
        values=values,
        facts=RowFacts(
            kind=np.max([each.kind for each in facts], axis=0),
            recomputed=np.any([each.recomputed for each in facts], axis=0),
            differing=np.sum([each.differing for each in facts], axis=0),
        ),
    )


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
