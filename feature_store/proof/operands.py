"""What the oracle sums, compares and picks: each aggregate in SQL and plain Python, once more and by itself.

This repeats on purpose what `transforms.catalogue` says, by other means: if the two ever differ, the proof says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from feature_store.errors import InputError
from feature_store.status import Status

if TYPE_CHECKING:
    from feature_store.declare.feature import Feature

Parts = Sequence[object]
Answer = tuple[object, Status]

_LIMIT = 2**63
_WIDE = 2**64
_UNIT = 1 << 20
"""Floats are summed in units of 2^-20, each rounded to the nearest, halves to even."""

_EMPTY: Answer = (None, Status.EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """How one feature is asked of SQL, and what its answer means."""

    value: str
    """SQL over an event: what enters the aggregate."""
    counts: str
    """SQL: whether an event counts; `{x}` is the value."""
    parts: Sequence[str]
    """SQL aggregates over `{x}` and the event's `e.us` and `e.id`."""
    finish: Callable[[Parts], Answer]
    """The parts (all null where there is no event) -> value and status."""


def operand(feature: Feature, duckdb_type: str) -> Operand:
    """How to ask for a feature whose expression has a type.

    Raises:
        InputError: for an aggregate that the oracle does not know.
    """
    # Behind a condition, because DuckDB takes what two expressions have in common out of their TRY.
    name, x = feature.aggregate, f"CASE WHEN _event_us IS NOT NULL THEN TRY({feature.column}) END"
    if name == "count":
        return Operand(value="1", counts="TRUE", parts=["count(*)"], finish=_count)
    if name in ("sum", "mean", "variance", "stddev"):
        return _summed(name, x, duckdb_type)
    if name in ("min", "max"):
        return _extreme(name, x, duckdb_type)
    value = _plain_sql(x, duckdb_type)
    if name in ("first", "last"):
        part = f"{'arg_min' if name == 'first' else 'arg_max'}({{x}}, {{{{'t': e.us, 'i': e.id}}}})"
        return Operand(value=value, counts="{x} IS NOT NULL", parts=[part], finish=_picked)
    if name == "latest":
        part = "arg_max_null({x}, {{'t': e.us, 'i': e.id}})"
        return Operand(value=value, counts="TRUE", parts=[part], finish=_picked)
    if name == "count_distinct":
        cap = feature.cap or _LIMIT
        return Operand(
            value=value,
            counts="{x} IS NOT NULL",
            parts=["count(DISTINCT {x})"],
            finish=lambda parts: _count([min(_whole(parts[0]), cap)]),
        )
    if name == "last_n":
        part, cap = "list({x} ORDER BY e.us, e.id)", feature.cap or 1
        return Operand(value=value, counts="{x} IS NOT NULL", parts=[part], finish=lambda parts: _listed(parts[0], cap))
    raise InputError(f"the oracle does not know the aggregate '{name}' of feature '{feature.name}'")


def _summed(name: str, x: str, duckdb_type: str) -> Operand:
    value, scale = _units_sql(x, duckdb_type)
    square = "({x}::HUGEINT * {x}::HUGEINT)"
    parts = ["count({x})", "sum({x}::HUGEINT)"]
    if name in ("variance", "stddev"):
        parts += [f"sum({square} // {_WIDE})", f"sum({square} % {_WIDE})"]

    def finish(found: Parts) -> Answer:
        count, total = _whole(found[0]), _whole(found[1])
        if not -_LIMIT <= total < _LIMIT:
            return None, Status.ERROR
        if name == "sum":
            return (total if scale == 1 else float(total) / scale), (Status.PRESENT if count else Status.EMPTY)
        if name == "mean":
            return (float(total) / float(count) / scale, Status.PRESENT) if count else _EMPTY
        if count < 2:
            return _EMPTY
        spread = count * (_whole(found[2]) * _WIDE + _whole(found[3])) - total * total
        variance = float(spread) / (float(count) * (float(count) - 1.0)) / (float(scale) * float(scale))
        return (variance if name == "variance" else math.sqrt(variance)), Status.PRESENT

    return Operand(value=value, counts="{x} IS NOT NULL", parts=parts, finish=finish)


def _extreme(name: str, x: str, duckdb_type: str) -> Operand:
    units, scale = _units_sql(x, duckdb_type)
    floating = duckdb_type in ("FLOAT", "DOUBLE")

    def finish(found: Parts) -> Answer:
        if found[0] is None:
            return _EMPTY
        exact = floating or scale == 1
        return (found[0] if exact else float(_whole(found[0])) / scale), Status.PRESENT

    return Operand(
        value=_plain_sql(x, duckdb_type) if floating else units,
        counts="{x} IS NOT NULL",
        parts=[f"{name}({{x}})"],
        finish=finish,
    )


def _units_sql(x: str, duckdb_type: str) -> tuple[str, int]:
    """A number as a whole number of units, and how many units make one; null where that does not fit 64 bits."""
    if duckdb_type in ("FLOAT", "DOUBLE"):
        y = f"({_plain_sql(x, duckdb_type)}) * {_UNIT}"
        rest = f"({y}) - floor({y})"
        up = f"({rest}) > 0.5 OR (({rest}) = 0.5 AND floor({y}) % 2 <> 0)"
        return f"TRY_CAST(CASE WHEN {up} THEN floor({y}) + 1 ELSE floor({y}) END AS BIGINT)", _UNIT
    decimal = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", duckdb_type)
    if decimal:
        # The digits without the point are the number in units of its last digit.
        return f"TRY_CAST(replace(({x})::VARCHAR, '.', '') AS BIGINT)", 10 ** int(decimal[1])
    return f"TRY_CAST({x} AS BIGINT)", 1


def _plain_sql(x: str, duckdb_type: str) -> str:
    """A value as it is shown: finite floats, times in microseconds, dates in days, the rest as it is."""
    if duckdb_type in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isfinite(({x})::DOUBLE) THEN CASE WHEN {x} = 0 THEN 0.0::DOUBLE ELSE ({x})::DOUBLE END END"
    if duckdb_type.startswith("DECIMAL"):
        return f"({x})::DOUBLE"
    if duckdb_type.startswith("TIMESTAMP"):
        return f"epoch_us({x})"
    if duckdb_type == "DATE":
        return f"datediff('day', DATE '1970-01-01', {x})"
    if duckdb_type in ("BOOLEAN", "VARCHAR", "UUID"):
        return f"({x})::VARCHAR" if duckdb_type == "UUID" else x
    return f"TRY_CAST({x} AS BIGINT)"


def _whole(value: object) -> int:
    return 0 if value is None else int(cast("int", value))


def _count(parts: Parts) -> Answer:
    count = _whole(parts[0])
    return count, Status.PRESENT if count else Status.EMPTY


def _picked(parts: Parts) -> Answer:
    return _EMPTY if parts[0] is None else (parts[0], Status.PRESENT)


def _listed(values: object, cap: int) -> Answer:
    found = list(cast("list[object]", values or []))[-cap:]
    return found, Status.PRESENT if found else Status.EMPTY
