"""Values by naive loops: each looks at every event again, with Python's integers and fractions only.

It shares with the other computations what is declared: names, windows, hops and caps, the source's schema, which says
what a row must be, and the SQL of expressions and `where`, which DuckDB evaluates event by event, as their language is
its own. What is accepted, known, in a window, first or last, and every sum and rounding is decided here once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from feature_store.schema import check_rows
from feature_store.status import Status
from feature_store.testing.expressions import Operands, evaluate

if TYPE_CHECKING:
    from feature_store.declare.feature import Feature
    from feature_store.declare.view import FeatureView
    from feature_store.testing.events import Given
    from feature_store.testing.mismatch import Found

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STALE_US = 3_600_000_000
"""How long past the SLA a batch row is served as stale."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_FLOAT_UNITS = 2**20
"""Floats are summed in units of 2^-20, each rounded to the nearest one, halves to even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveEvent:
    """An event that counts in a view."""

    time_us: int
    known_us: int
    """When a value could first know it."""
    event_id: str
    row: int
    """Its place among the operands."""


def with_defaults(given: Given) -> Given:
    """The same events, which have the declared default of a column where they say nothing."""
    declared = given.source.schema.to_schema().columns
    columns = []
    for field in given.rows.schema:
        values, default = given.rows.column(field.name), declared[field.name].default
        if default is not None:
            said = [default if value is None else value for value in values.to_pylist()]
            values = pa.chunked_array([pa.array(said, type=field.type)])
        columns.append(values)
    return replace(given, rows=pa.table(columns, schema=given.rows.schema))


def accepted_rows(given: Given) -> list[int]:
    """The events that are events: fit for the schema, not from the future, the first of their id. In order of ids."""
    unfit = {row for row, _ in check_rows(given.source.schema, given.rows, keys=given.keys).rejected}
    ids = _ids(given)
    first: dict[str, int] = {}
    for row in given.in_log_order():
        time_us = given.time_us[row]
        event_id = ids[row]
        if row in unfit or event_id is None or time_us is None:
            continue
        retention = given.source.retention_us
        if retention is not None and given.arrived_us[row] - time_us > retention:
            continue
        if time_us - given.arrived_us[row] <= given.source.future_tolerance_us:
            first.setdefault(event_id, row)
    return [first[event_id] for event_id in sorted(first, key=str.encode)]


def _ids(given: Given) -> list[str | None]:
    """The text of each event's id; None where a part of it is null."""
    columns = [given.rows.column(name).to_pylist() for name in given.source.id_columns]
    rows = list(zip(*columns, strict=True))
    if len(columns) == 1:
        return [None if value is None else str(value) for (value,) in rows]
    return [None if None in row else "|".join(map(_id_part, row)) for row in rows]


def _id_part(value: object) -> str:
    if isinstance(value, datetime):
        return str((value - _EPOCH) // timedelta(microseconds=1))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    escapes = {"%": "%25", "|": "%7C", "{": "%7B", "}": "%7D"}
    return "".join(escapes.get(char, char) for char in str(value))


class NaiveView:
    """One view's values."""

    def __init__(self, view: FeatureView, given: Given, accepted: Sequence[int]) -> None:
        self._view = view
        holds, self._operands = evaluate(view, given.rows)
        ids = _ids(given)
        keys = [given.rows.column(name).to_pylist() for name in view.entity.join_keys]
        self._of: dict[tuple[object, ...], list[NaiveEvent]] = {}
        for row in accepted:
            time_us, arrived_us = cast("int", given.time_us[row]), given.arrived_us[row]
            if holds[row] is True and not _is_too_late(view, arrived_us - time_us):
                event = NaiveEvent(time_us=time_us, known_us=max(time_us, arrived_us), event_id=ids[row] or "", row=row)
                self._of.setdefault(tuple(column[row] for column in keys), []).append(event)

    def value(self, feature: Feature, key: tuple[object, ...], time_us: int) -> Found:
        """A feature of an entity at a time."""
        if None in key:
            return None, Status.UNKNOWN
        known = [event for event in self._of.get(key, []) if event.known_us <= time_us]
        if not self._view.is_batch:
            return self._finish(feature, _inside(known, feature, time_us))
        row_us = time_us - time_us % self._view.every_us
        over_us = time_us - row_us - self._view.freshness_sla_us
        if over_us > _STALE_US:
            return None, Status.UNKNOWN
        value, status = self._finish(feature, _inside(known, feature, row_us))
        return value, Status.STALE if over_us > 0 and status is not Status.ERROR else status

    def _finish(self, feature: Feature, events: Sequence[NaiveEvent]) -> Found:
        if feature.column is None:
            return len(events), Status.PRESENT if events else Status.EMPTY
        ordered = sorted(events, key=lambda event: (event.time_us, event.event_id.encode()))
        operands, rows = self._operands[feature.column], [event.row for event in ordered]
        return _AGGREGATES[feature.aggregate](feature, operands, rows)


def _is_too_late(view: FeatureView, late_us: int) -> bool:
    if view.late_events != "ignore" or view.lateness is None:
        return False
    return late_us > _duration_us(view.lateness)


def _duration_us(duration: str | timedelta) -> int:
    if isinstance(duration, str):
        number = duration.rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
        duration = timedelta(**{unit[duration[len(number) :].strip()]: int(number)})
    return duration // timedelta(microseconds=1)


def _inside(events: Sequence[NaiveEvent], feature: Feature, time_us: int) -> list[NaiveEvent]:
    """The events of the window [start of the hop that holds t - W, t)."""
    before = [event for event in events if event.time_us < time_us]
    if feature.window_us is None:
        return before
    since_us = time_us - feature.window_us
    since_us -= since_us % feature.hop_us  # never negative in Python, so this rounds down before 1970 too
    return [event for event in before if event.time_us >= since_us]


# --- aggregates: each of the rows of one window, by time and id -------------------------------------------------------


def _sum(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    integers, scale = _integers(operands, rows), _scale(operands)
    total = sum(integers)
    if not _SMALLEST <= total <= _LARGEST:
        return None, Status.ERROR
    return total if scale == 1 else float(total) / scale, Status.PRESENT if integers else Status.EMPTY


def _mean(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    integers = _integers(operands, rows)
    total = sum(integers)
    if not _SMALLEST <= total <= _LARGEST:
        return None, Status.ERROR
    if not integers:
        return None, Status.EMPTY
    return float(total) / float(len(integers)) / _scale(operands), Status.PRESENT


def _variance(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    integers, scale = _integers(operands, rows), float(_scale(operands))
    total, n = sum(integers), len(integers)
    if not _SMALLEST <= total <= _LARGEST:
        return None, Status.ERROR
    if n < 2:
        return None, Status.EMPTY
    spread = n * sum(integer * integer for integer in integers) - total * total
    return float(spread) / (float(n) * float(n - 1)) / (scale * scale), Status.PRESENT


def _stddev(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    value, status = _variance(feature, operands, rows)
    return (math.sqrt(value) if isinstance(value, float) else None), status


def _min(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    return _extreme(operands, rows, min)


def _max(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    return _extreme(operands, rows, max)


def _extreme(operands: Operands, rows: Sequence[int], best: Callable[[list[float]], float]) -> Found:
    if operands.kind == "float":
        values = [cast("float", value) for value in _shown(operands, rows)]
        return (best(values), Status.PRESENT) if values else (None, Status.EMPTY)
    integers, scale = _integers(operands, rows), _scale(operands)
    if not integers:
        return None, Status.EMPTY
    chosen = int(best(list(integers)))
    return chosen if scale == 1 else float(chosen) / scale, Status.PRESENT


def _first(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    del feature
    values = _shown(operands, rows)
    return (_as_served(operands, values[0]), Status.PRESENT) if values else (None, Status.EMPTY)


def _last(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    return _first(feature, operands, rows[::-1])


def _latest(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    return _first(feature, operands, rows[-1:])


def _last_n(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    newest = _shown(operands, rows)[-(feature.cap or 1) :]
    return [_as_served(operands, value) for value in newest], Status.PRESENT if newest else Status.EMPTY


def _count_distinct(feature: Feature, operands: Operands, rows: Sequence[int]) -> Found:
    different = set(_shown(operands, rows))
    return min(len(different), feature.cap or len(different)), Status.PRESENT if different else Status.EMPTY


_AGGREGATES: Mapping[str, Callable[[Feature, Operands, Sequence[int]], Found]] = {
    "sum": _sum,
    "mean": _mean,
    "variance": _variance,
    "stddev": _stddev,
    "min": _min,
    "max": _max,
    "first": _first,
    "last": _last,
    "latest": _latest,
    "last_n": _last_n,
    "count_distinct": _count_distinct,
}


# --- numbers ----------------------------------------------------------------------------------------------------------


def _scale(operands: Operands) -> int:
    """How many of the units that are summed make one."""
    return _FLOAT_UNITS if operands.kind == "float" else 10**operands.scale


def _integers(operands: Operands, rows: Sequence[int]) -> list[int]:
    """What is summed: the values that are not null, are finite and fit 64 bits, in units."""
    found = []
    for row in rows:
        value = cast("int | float | Decimal | None", operands.values[row])
        if value is None or not math.isfinite(value):
            continue
        integer = round(Fraction(value) * _scale(operands))  # halves to even
        if _SMALLEST <= integer <= _LARGEST:
            found.append(integer)
    return found


def _shown(operands: Operands, rows: Sequence[int]) -> list[object]:
    """What is picked and told apart: the values that are not null, floats finite and without a negative zero."""
    found = []
    for row in rows:
        value = operands.shown[row]
        if isinstance(value, float):
            value = value + 0.0 if math.isfinite(value) else None
        elif operands.kind == "int" and value is not None:
            value = value if _SMALLEST <= cast("int", value) <= _LARGEST else None
        if value is not None:
            found.append(value)
    return found


def _as_served(operands: Operands, value: object) -> object:
    if operands.kind == "timestamp":
        return _EPOCH + timedelta(microseconds=cast("int", value))
    if operands.kind == "date":
        return date(1970, 1, 1) + timedelta(days=cast("int", value))
    return value
