"""Why values are unequal: every known fault is tried on them, and the first that explains a view's whole row is named.

A fault explains a row only if it gives all features of the view as they were served, also those that were equal: an
event that counts twice shows in a count and in a sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from feature_store.proof.compare import Judged, Recomputed, judge
from feature_store.proof.definitions import Definitions
from feature_store.proof.hypotheses import TRIED, Case, Variant, answers, as_declared, variants
from feature_store.proof.layout import PlannedRead, ServedFeature, ServedLayout
from feature_store.proof.recompute import UNPROVABLE, Entities, Knowledge, ask, by_events
from feature_store.proof.served_log import SERVED, view_column
from feature_store.transforms.catalogue import Values

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

REDEFINITION, STORE_LOSS, LOGIC, UNPROVEN = "redefinition", "store loss", "logic", "unprovable"
EXCUSED = frozenset({REDEFINITION, STORE_LOSS})
CAUSES = (*TRIED, LOGIC, UNPROVEN, REDEFINITION, STORE_LOSS)

EXAMINED = 5_000
"""Rows of a view on which faults are tried; what is wrong beyond them is `logic`, and says so."""
_AT_ONCE = 4_000
"""Variants compared at once."""

Place = tuple[int, str]
"""Row of the record, and feature."""


class Cause(NamedTuple):
    """Why a value is unequal."""

    name: str
    """One of `CAUSES`."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A record with what it was compared with."""

    compiled: Compiled
    lake: Lake
    layout: ServedLayout
    record: pa.Table
    recomputed: Recomputed
    snapshot: int


def causes(examined: Examined, judged: Sequence[Judged]) -> dict[Place, Cause]:
    """The cause of every unequal value."""
    search = _Search(examined, judged)
    search.excuse()
    for read in examined.layout.reads.values():
        search.try_faults(read)
    for read in examined.layout.reads.values():
        search.try_definitions(read)
    return search.finish()


class _Search:
    def __init__(self, examined: Examined, judged: Sequence[Judged]) -> None:
        self._examined, self._judged = examined, judged
        self._known = Knowledge.of(examined.lake, snapshot=examined.snapshot)
        self._definitions = Definitions.of(examined.lake, snapshot=examined.snapshot)
        self._entities = Entities(examined.compiled, examined.record)
        self._found: dict[Place, Cause] = {}
        self._wrong: dict[int, list[ServedFeature]] = defaultdict(list)
        for each in judged:
            for row in np.flatnonzero(each.unequal).tolist():
                self._wrong[row].append(each.feature)

    def excuse(self) -> None:
        """Find what cannot be recomputed at all: no commit on record, or another definition at that time."""
        for each in self._judged:
            for row in np.flatnonzero(each.unequal).tolist():
                if each.found.status[row] == UNPROVABLE:
                    self._found[row, each.feature.name] = self._unprovable(each.feature, row)
                elif told := self._redefined(each.feature, row):
                    self._found[row, each.feature.name] = Cause(REDEFINITION, told)

    def _unprovable(self, feature: ServedFeature, row: int) -> Cause:
        runs = [self._cell(view_column(ref.read_id, "run"), row) or 0 for ref in feature.refs]
        if any(self._known.runs.store_lost_after(run) for run in runs):
            return Cause(STORE_LOSS, "its commit was lost with the store that a later run found to be another")
        return Cause(UNPROVEN, "the lake has no record of what its commit knew")

    def _redefined(self, feature: ServedFeature, row: int) -> str | None:
        served_us = self._cell(SERVED, row)
        views = {ref: self._examined.layout.reads[ref.read_id].plan.view for ref in feature.refs}
        told = (self._definitions.other_at(view, ref.feature, served_us) for ref, view in views.items())
        return next((each for each in told if each), None)

    def _cell(self, column: str, row: int) -> int | None:
        value: int | None = self._examined.record.column(column)[row].as_py()
        return value

    def try_faults(self, read: PlannedRead) -> None:
        """Try every fault on the rows of a view that are wrong."""
        if not (rows := self._suspected(read)):
            return
        for group in self._cases(read, read.plan, rows):
            left = dict(group)
            for fault in TRIED:
                tried = ((row, case, variant) for row, case in left.items() for variant in variants(case, fault))
                for row in self._try(read, tried):
                    left.pop(row, None)

    def try_definitions(self, read: PlannedRead) -> None:
        """Try the other versions of a view that were applied."""
        for plan in self._definitions.versions(self._examined.compiled, read.plan.view):
            if rows := self._suspected(read):
                told = f"the value of {plan.view.id}"
                for group in self._cases(read, plan, rows):
                    self._try(
                        read,
                        (
                            (row, case, as_declared(case)._replace(cause=REDEFINITION, detail=told))
                            for row, case in group.items()
                        ),
                    )

    def finish(self) -> dict[Place, Cause]:
        """What nothing explains is wrong logic."""
        detail = "no known fault gives the view's values as they were served"
        for row, features in self._wrong.items():
            for feature in features:
                self._found.setdefault((row, feature.name), Cause(LOGIC, detail))
        return self._found

    def _left(self, row: int) -> list[ServedFeature]:
        return [feature for feature in self._wrong[row] if (row, feature.name) not in self._found]

    def _suspected(self, read: PlannedRead) -> list[int]:
        """The rows in which a view may be wrong: a feature of it alone is, or a ratio whose other part is not."""
        found = []
        for row in self._wrong:
            left = self._left(row)
            alone = {feature.refs[0].read_id for feature in left if _is_alone(feature)}
            if read.id in alone or any(
                read.id in _reads(feature) and not alone & _reads(feature) for feature in left if not _is_alone(feature)
            ):
                found.append(row)
        return found[:EXAMINED]

    def _cases(self, read: PlannedRead, plan: ViewPlan, rows: Sequence[int]) -> Iterator[dict[int, Case]]:
        """Row -> its case, with the events as a definition of the view projects them."""
        lake, some = self._examined.lake, self._examined.record.take(pa.array(rows))
        keys = Entities(self._examined.compiled, some).of(read.read)
        asked, orders = ask(read, lake, some, keys=keys, known=self._known)
        if len(asked) == 0:
            return
        of_plan = replace(read, plan=plan)
        for events, mine in by_events(of_plan, lake, keys, asked, orders=orders, known=self._known, reach=2):
            rowset = events.history.rows
            known = {group: orders[group].known_from(events) for group in np.unique(mine.group).tolist()}
            bounds = np.searchsorted(rowset.entity, [mine.code, mine.code + 1])
            yield {
                rows[mine.row[i]]: Case(
                    plan=plan,
                    rows=rowset,
                    first=int(bounds[0, i]),
                    time=rowset.time[bounds[0, i] : bounds[1, i]],
                    known_from=known[int(mine.group[i])][bounds[0, i] : bounds[1, i]],
                    cutoff=int(mine.cutoff[i]),
                    head_us=int(mine.time_us[i]),
                )
                for i in range(len(mine))
            }

    def _try(self, read: PlannedRead, tried: Iterator[tuple[int, Case, Variant]]) -> list[int]:
        """Compare variants with what was served; notes the first that explains a row, and returns such rows."""
        explained: dict[int, Variant] = {}
        for some in _batched(tried):
            for (row, _, variant), holds in zip(some, self._explain(read, some), strict=True):
                if holds:
                    explained.setdefault(row, variant)
        for row, variant in explained.items():
            for feature in self._left(row):
                if read.id in _reads(feature):
                    self._found[row, feature.name] = Cause(variant.cause, variant.detail)
        return list(explained)

    def _explain(self, read: PlannedRead, some: Sequence[tuple[int, Case, Variant]]) -> np.ndarray:
        """Which variants give all features of the view as they were served."""
        rows = np.array([row for row, _, _ in some])
        examined, plan = self._examined, some[0][1].plan
        given = {view: _take(features, rows) for view, features in examined.recomputed.items()}
        given[read.id] = {**given[read.id], **_alike(read.plan, plan, answers(plan, [(c, v) for _, c, v in some]))}
        holds = np.ones(len(some), dtype=bool)
        others = {
            row: {name for feature in self._left(row) if _is_alone(feature) for name in _reads(feature)} - {read.id}
            for row in set(rows.tolist())
        }
        for judged in judge(examined.layout, examined.record.take(pa.array(rows)), given):
            if read.id not in (reads := _reads(judged.feature)):
                continue
            counts = np.array([not others[row] & reads for row in rows.tolist()])
            holds &= ~(judged.unequal & counts)
        return holds


def _alike(plan: ViewPlan, other: ViewPlan, found: Mapping[str, Values]) -> dict[str, Values]:
    """The values of features that both definitions have, of one type."""
    kinds = {feature.feature.name: (feature.kind, feature.is_list) for feature in plan.features}
    return {
        feature.feature.name: found[feature.feature.name]
        for feature in other.features
        if kinds.get(feature.feature.name) == (feature.kind, feature.is_list)
    }


def _take(features: Mapping[str, Values], rows: np.ndarray) -> dict[str, Values]:
    return {name: Values(each.values[rows], each.status[rows]) for name, each in features.items()}


def _reads(feature: ServedFeature) -> set[str]:
    return {ref.read_id for ref in feature.refs}


def _is_alone(feature: ServedFeature) -> bool:
    return len(_reads(feature)) == 1


def _batched(tried: Iterator[tuple[int, Case, Variant]]) -> Iterator[list[tuple[int, Case, Variant]]]:
    """Variants by as many as are compared at once, in number and in events."""
    some: list[tuple[int, Case, Variant]] = []
    events = 0
    for each in tried:
        some.append(each)
        events += len(each[2].events)
        if len(some) >= _AT_ONCE or events > 2_000_000:
            yield some
            some, events = [], 0
    if some:
        yield some
