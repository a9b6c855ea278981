"""Faults planted on purpose: a proof that would not find them proves nothing.

    changed byte    a packed value with one byte changed, decoded as the reader decodes it
    shifted tail    the windows of one feature, their tails moved by one hop
    event twice     an entity's events folded by the stream's own shard, one of them twice

Each is planted in a copy and compared as everything else is. It counts as found only if the proof reports exactly the
places where it was planted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.declare.feature import FeatureRef
from feature_store.online.packed import PackedRow, decode_row, item_at, seconds_since
from feature_store.proof.compare import ProofReport, Recomputed, compare
from feature_store.proof.layout import PlannedRead, ServedFeature, ServedLayout
from feature_store.proof.recompute import recompute
from feature_store.proof.refold import Refold, known_events, refold
from feature_store.proof.served_log import VECTOR, view_column
from feature_store.status import Status
from feature_store.transforms.catalogue import Values

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.proof.knowledge import Commits
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

_ADDITIVE = ("count", "sum", "mean", "variance", "stddev")
"""Aggregates that an event more changes, in the order in which they are tried."""
_TRIES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One planted fault."""

    fault: str
    found: bool
    """The proof reported it, where it was planted and nowhere else."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What faults are planted on: a record, and what it was compared with."""

    compiled: Compiled
    lake: Lake
    layout: ServedLayout
    record: pa.Table
    recomputed: Recomputed
    commits: Commits
    snapshot: int

    def compare(self, record: pa.Table, recomputed: Recomputed | None = None) -> ProofReport:
        """The proof of an altered copy."""
        return compare(self.layout, record, recomputed or self.recomputed)


def plant(bench: Bench) -> tuple[Control, Control, Control]:
    """Plant each fault once and see whether the proof finds it."""
    return _changed_byte(bench), _shifted_tail(bench), _event_twice(bench)


# --- a changed byte --------------------------------------------------------------------------------------------------


def _changed_byte(bench: Bench) -> Control:
    fault = "changed byte"
    for place in _places(bench):
        packed = _packed(bench, place)
        if packed is None:
            continue
        for changed in changed_bytes(packed):
            cells = _cells(bench, place, decode_row(changed))
            if len(cells) == 1 and all(_fits(bench, feature, value) for feature, value in cells.items()):
                return _judge(bench, fault, place, cells)
    return Control(fault=fault, found=False, detail="no value of the record could be packed again")


def changed_bytes(packed: bytes) -> Iterator[bytes]:
    """The packed value with one bit of one byte changed, from its end on, wherever it still decodes to a row of the
    same commit and time.
    """
    whole = decode_row(packed)
    for i in range(len(packed) - 1, 0, -1):
        changed = packed[:i] + bytes([packed[i] ^ 1]) + packed[i + 1 :]
        try:
            row = decode_row(changed)
        except ValueError:
            continue
        if row[:-1] == whole[:-1] and len(row.items) == len(whole.items):
            yield changed


# --- a shifted tail --------------------------------------------------------------------------------------------------


def _shifted_tail(bench: Bench) -> Control:
    fault, tried, before = "shifted tail", [], bench.compare(bench.record)
    for each, name in _windowed(bench.layout)[:_TRIES]:
        layout = replace(bench.layout, reads={each.id: replace(each, plan=shift_tail(each.plan, name))})
        shifted = recompute(bench.compiled, bench.lake, layout, bench.record, snapshot=bench.snapshot)
        report = bench.compare(bench.record, {**bench.recomputed, **shifted})
        tried.append(name)
        moved = {feature for feature, count in report.by_feature.items() if count != before.by_feature.get(feature, 0)}
        if moved:
            found = moved <= {feature.name for feature in _made_of(bench.layout, each, name)}
            return Control(fault=fault, found=found, detail=f"{name}: {report.unequal} unequal, in {sorted(moved)}")
    return Control(fault=fault, found=False, detail=f"no difference in {', '.join(tried) or 'any window'}")


def shift_tail(plan: ViewPlan, name: str) -> ViewPlan:
    """The view with the tail of one feature's window a hop later than declared."""
    features = [
        replace(each, feature=replace(each.feature, window_us=each.feature.window_us - each.feature.hop_us))
        if each.feature.name == name and each.feature.window_us is not None
        else each
        for each in plan.features
    ]
    return replace(plan, features=tuple(features))


def _windowed(layout: ServedLayout) -> list[tuple[PlannedRead, str]]:
    """The features of stream views that have a window, those first that show most."""
    found = [
        (read, feature.feature)
        for read in layout.reads.values()
        for feature in read.plan.features
        if not read.plan.view.is_batch and feature.feature.window_us is not None
    ]
    served = {(f.item.read_id, f.item.feature) for f in layout.features if isinstance(f.item, FeatureRef)}
    mine = [(read, feature) for read, feature in found if (read.id, feature.name) in served]
    mine.sort(key=lambda each: _ADDITIVE.index(each[1].aggregate) if each[1].aggregate in _ADDITIVE else 99)
    return [(read, feature.name) for read, feature in mine]


def _made_of(layout: ServedLayout, read: PlannedRead, name: str) -> list[ServedFeature]:
    """The served features that depend on a stored one."""
    return [f for f in layout.features if any(r.read_id == read.id and r.feature == name for r in f.refs)]


# --- an event twice --------------------------------------------------------------------------------------------------


def _event_twice(bench: Bench) -> Control:
    fault = "event twice"
    for place in _places(bench):
        events = known_events(bench.lake, place, commits=bench.commits, snapshot=bench.snapshot)
        if events is None or events.num_rows == 0 or _packed(bench, place) is None:
            continue
        doubled = pa.concat_tables([events, events.slice(events.num_rows - 1)])
        packed = refold(place, doubled)
        cells = {} if packed is None else _cells(bench, place, decode_row(packed))
        if cells:
            return _judge(bench, fault, place, cells)
    return Control(fault=fault, found=False, detail="no event of the record changes a value when it is applied twice")


# --- what they share -------------------------------------------------------------------------------------------------


def _places(bench: Bench) -> list[Refold]:
    """Vectors whose values of a stream view are PRESENT, where an event more would show."""
    places: list[Refold] = []
    for read in bench.layout.reads.values():
        features = [
            feature
            for feature in bench.layout.features
            if isinstance(feature.item, FeatureRef)
            and feature.item.read_id == read.id
            and read.plan.view.feature(feature.item.feature).aggregate in _ADDITIVE
        ]
        if read.plan.view.is_batch or not features:
            continue
        statuses = np.array([bench.record.column(feature.status).to_numpy() for feature in features])
        rows = np.flatnonzero((statuses == Status.PRESENT).all(axis=0))[: _TRIES // 4].tolist()
        places += [_place(bench.record, read, row) for row in rows]
    return places[:_TRIES]


def _place(record: pa.Table, read: PlannedRead, row: int) -> Refold:
    provenance = {
        name: record.column(view_column(read.id, name))[row].as_py() for name in ("as_of_us", "run", "n", "shard")
    }
    keys = {key: record.column(column)[row].as_py() for key, column in read.read.columns.items()}
    return Refold(plan=read.plan, read_id=read.id, row=row, keys=keys, **provenance)


def _packed(bench: Bench, place: Refold) -> bytes | None:
    """The packed value that the stream writes for what was known; None unless it says what was served."""
    events = known_events(bench.lake, place, commits=bench.commits, snapshot=bench.snapshot)
    packed = None if events is None else refold(place, events)
    if packed is None or _cells(bench, place, decode_row(packed)):
        return None
    return packed


def _cells(bench: Bench, place: Refold, row: PackedRow) -> dict[ServedFeature, object]:
    """The numbers that a reader would have served from a packed row, where they differ from those it served."""
    names = [feature.feature.name for feature in place.plan.features]
    seconds = seconds_since(row.from_us, place.as_of_us)
    cells: dict[ServedFeature, object] = {}
    for feature in bench.layout.features:
        if not isinstance(feature.item, FeatureRef) or feature.item.read_id != place.read_id:
            continue
        plan = place.plan.features[names.index(feature.item.feature)]
        if plan.is_list or plan.kind not in ("int", "float"):
            continue
        value = item_at(row.items[names.index(feature.item.feature)], seconds)
        served = bench.record.column(feature.column)[place.row].as_py()
        if bench.record.column(feature.status)[place.row].as_py() == Status.PRESENT and value != served:
            cells[feature] = value
    return cells


def _fits(bench: Bench, feature: ServedFeature, value: object) -> bool:
    """Whether a value has the type that its feature is served with."""
    return type(value) is (float if pa.types.is_floating(bench.record.schema.field(feature.column).type) else int)


def _judge(bench: Bench, fault: str, place: Refold, cells: Mapping[ServedFeature, object]) -> Control:
    """Put the values into a copy of the record, and see whether the proof names these places and no others."""
    report = bench.compare(_altered(bench.record, place.row, cells))
    vector = str(bench.record.column(VECTOR)[place.row].as_py())
    before = bench.compare(bench.record)
    planted = {(vector, feature.name) for feature in cells}
    added = _named(report) - _named(before)
    found = report.unequal == before.unequal + len(cells) and added <= planted and (bool(added) or before.unequal > 0)
    return Control(fault=fault, found=found, detail=f"vector {vector}: {', '.join(f.name for f in cells)}")


def _named(report: ProofReport) -> set[tuple[str, str]]:
    """The places that a report lists: all of them, unless there are very many."""
    return {(difference.vector, difference.feature) for difference in report.differences}


def _altered(record: pa.Table, row: int, cells: Mapping[ServedFeature, object]) -> pa.Table:
    for feature, value in cells.items():
        column = record.column(feature.column).combine_chunks()
        one = pa.array([value], type=column.type)
        changed = pa.concat_arrays([column.slice(0, row), one, column.slice(row + 1)])
        record = record.set_column(record.schema.get_field_index(feature.column), feature.column, changed)
    return record


def take(recomputed: Recomputed, rows: np.ndarray) -> dict[str, dict[str, Values]]:
    """The recomputed values of some vectors."""
    return {
        view: {name: Values(each.values[rows], each.status[rows]) for name, each in features.items()}
        for view, features in recomputed.items()
    }
