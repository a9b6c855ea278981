"""What is missing, out of range or a value of its own in some rows, against what rows of a reference say is usual: SQL over samples.

Every limit that is learned grows where there are few rows, so that a quiet day is not a broken one: `CHANCE` standard deviations
of a share, as drawing the rows by chance would give it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.checks.declared import Figure

from feature_store.catalog.statistics import CATEGORIES
from feature_store.declare.check import Check
from feature_store.lake.connection import quote

CHANCE = 6.0
SLACK = 0.02
"""A share may move by this much, whatever it rests on."""
STRAYS = 0.01
"""What may lie beyond learned bounds, or have a value that the reference does not know."""
FEWEST = 100
"""A reference of fewer rows teaches nothing."""
SPREAD = 3.0
"""Learned bounds lie this many times the distance of the outermost per cents beyond them."""

DAY = "_day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What a reference says of one column."""

    missing: float
    """The largest share without a value that one of its days had."""
    bounds: tuple[float, float] | None = None
    """Of numbers."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of a category: value -> share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What can be asked of which columns."""

    all: Sequence[str]
    numbers: Collection[str]
    texts: Collection[str]


def usual(cursor: duckdb.DuckDBPyConnection, reference: pa.Table, columns: Columns) -> dict[str, Usual]:
    """What rows of a reference say; nothing if they are few.

    Args:
        cursor: of DuckDB.
        reference: rows with the columns and `_day`.
        columns: those to look at.
    """
    if len(reference) < FEWEST or not columns.all:
        return {}
    asked = [([], "count_all"), *((name, "count") for name in columns.all)]
    days = reference.group_by(DAY).aggregate(asked).to_pydict()
    bounds = _bounds(cursor, reference, [name for name in columns.all if name in columns.numbers])
    return {
        name: Usual(
            missing=max(1 - n / rows for n, rows in zip(days[f"{name}_count"], days["count_all"], strict=True)),
            bounds=bounds.get(name),
            shares=_shares(reference.column(name)) if name in columns.texts else {},
        )
        for name in columns.all
    }


def _bounds(
    cursor: duckdb.DuckDBPyConnection, reference: pa.Table, names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Of numbers; none where no value is finite."""
    if not names:
        return {}
    asked = []
    for column in (f"CAST({quote(name)} AS DOUBLE)" for name in names):
        of = f"({column}) FILTER (WHERE isfinite({column}))"
        asked += [f"quantile_cont({column}, [0.01, 0.99]) FILTER (WHERE isfinite({column}))", f"min{of}", f"max{of}"]
    cursor.register("looked_back", reference.select(names))
    [found] = cursor.execute(f"SELECT {', '.join(asked)} FROM looked_back").fetchall()
    bounds = {}
    for name, inner, least, most in zip(names, found[::3], found[1::3], found[2::3], strict=True):
        if inner is not None:
            low, high = inner
            bounds[name] = min(low - SPREAD * (high - low), least), max(high + SPREAD * (high - low), most)
    return bounds


def _shares(column: pa.ChunkedArray) -> dict[str, float]:
    """Value -> share, of a category; nothing for a column with more values, which are names."""
    counted = pc.value_counts(column.drop_null().cast(pa.string()))
    if len(counted) > CATEGORIES:
        return {}
    counts = {each["values"]: each["counts"] for each in counted.to_pylist()}
    total = sum(counts.values())
    return {value: counts[value] / total for value in sorted(counts, key=lambda each: (-counts[each], each))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What some columns have on a day."""

    rows: int
    present: Mapping[str, int]
    """Values, of each column."""
    outside: Mapping[str, int]
    """Numbers out of their bounds, of those that have some."""


Bounds = Mapping[str, tuple[object, object]]


def counting(names: Collection[str], bounds: Bounds) -> list[str]:
    """SQL aggregates that count what some columns have.

    Args:
        names: columns of which values are counted.
        bounds: of those of them whose bounds are asked about.
    """
    asked = [f"count({quote(name)})" for name in names]
    return ["count(*)", *asked, *(f"count(*) FILTER ({_outside(name, each)})" for name, each in bounds.items())]


def counted(found: Iterable[tuple[Any, ...]], names: Collection[str], bounds: Bounds) -> dict[object, Counted]:
    """Day -> what it has, of what `counting` says of each day."""
    return {
        day: Counted(
            rows=rows,
            present=dict(zip(names, counts, strict=False)),
            outside=dict(zip(bounds, counts[len(names) :], strict=True)),
        )
        for day, rows, *counts in found
    }


def watched_missing(columns: Columns, known: Mapping[str, Usual], check: Check) -> list[str]:
    """Columns that `missing_figures` says something of."""
    return [
        name
        for name in columns.all
        if _is_watched(name, check) and (name in known or _declared(name, check) is not None)
    ]


def watched_bounds(columns: Columns, known: Mapping[str, Usual], check: Check) -> Bounds:
    """Those that `range_figures` says something of, and their bounds, declared or learned."""
    declared = {name: value for name, value in check.by.items() if isinstance(value, tuple)}
    learned = {name: each.bounds for name, each in known.items() if each.bounds and _is_watched(name, check)}
    return {name: bounds for name, bounds in {**learned, **declared}.items() if name in columns.numbers}


def missing_figures(
    days: Mapping[object, Counted], names: Sequence[str], known: Mapping[str, Usual], check: Check
) -> list[Figure]:
    """The share of rows without a value, of each column on its worst day."""
    found: dict[str, Figure] = {}
    for day, each in days.items():
        for name in names:
            limit, rows, count = _declared(name, check), each.rows, each.present[name]
            if limit is None:
                limit = min(known[name].missing + _chance(known[name].missing, rows), 1.0)
            _keep(
                found, Figure(name=name, value=1 - count / rows, limit=limit, said=f"{day}: {rows - count} of {rows}")
            )
    return list(found.values())


def range_figures(days: Mapping[object, Counted], bounds: Bounds, check: Check) -> list[Figure]:
    """The share of numbers out of their bounds, of each column on its worst day."""
    found: dict[str, Figure] = {}
    for day, each in days.items():
        for name, (low, high) in bounds.items():
            is_declared, present, outside = (
                isinstance(check.by.get(name), tuple),
                each.present[name],
                each.outside[name],
            )
            limit = check.limit if check.limit is not None else 0.0 if is_declared else _strays(present)
            said = f"{day}: {outside} of {present} beyond {low} to {high}"
            _keep(found, Figure(name=name, value=outside / max(present, 1), limit=limit, said=said))
    return list(found.values())


def category_figures(
    cursor: duckdb.DuckDBPyConnection, current: str, columns: Columns, known: Mapping[str, Usual], check: Check
) -> list[Figure]:
    """The share of rows whose value is not known, and of rare or common values the share by which they left their band."""
    declared = {
        name: set(map(str, value))
        for name, value in check.by.items()
        if isinstance(value, Collection) and not isinstance(value, str)
    }
    learned = {name: each.shares for name, each in known.items() if each.shares and _is_watched(name, check)}
    found: dict[str, Figure] = {}
    for name in columns.all:
        if name not in declared and name not in learned:
            continue
        for day, counts in _counted(cursor, current, name).items():
            rows = sum(counts.values())
            allowed = declared.get(name, learned.get(name, {}))
            strange = sum(count for value, count in counts.items() if value not in allowed)
            left = 0.0 if name in declared else _left(learned[name], counts, rows)
            limit = check.limit if check.limit is not None else 0.0 if name in declared else _strays(rows)
            said = f"{day}: {strange} of {rows} unseen before" + (f", {left:.1%} beyond its band" if left else "")
            _keep(found, Figure(name=name, value=strange / rows + left, limit=limit, said=said))
    return list(found.values())


def _counted(cursor: duckdb.DuckDBPyConnection, current: str, name: str) -> dict[object, dict[str, int]]:
    """Day -> value -> how often."""
    days: dict[object, dict[str, int]] = {}
    sql = f"SELECT {DAY}, CAST({quote(name)} AS VARCHAR) AS value, count(*) FROM ({current}) WHERE value IS NOT NULL GROUP BY ALL"
    for day, value, count in cursor.execute(sql).fetchall():
        days.setdefault(day, {})[value] = count
    return days


def _left(shares: Mapping[str, float], counts: Mapping[str, int], rows: int) -> float:
    """By how much values are more or less frequent than their bands allow."""
    moved = (abs(counts.get(value, 0) / rows - share) - _band(share, rows) for value, share in shares.items())
    return sum(each for each in moved if each > 0)


def _band(share: float, rows: int) -> float:
    """Half as much again, or what chance does."""
    return max(share / 2, _chance(share, rows))


def _outside(name: str, bounds: tuple[object, object]) -> str:
    low, high = bounds
    parts = [f"{quote(name)} < {low}"] if low is not None else []
    parts += [f"{quote(name)} > {high}"] if high is not None else []
    return f"WHERE {' OR '.join(parts) or 'FALSE'}"


def _chance(share: float, rows: int) -> float:
    """How far a share may move."""
    spread = max(share * (1 - share), 1 / max(rows, 1)) / max(rows, 1)
    return float(max(SLACK, CHANCE * spread**0.5))


def _strays(rows: int) -> float:
    """What may be strange of a day's rows, where limits are learned."""
    return max(STRAYS, CHANCE / max(rows, 1))


def _declared(name: str, check: Check) -> float | None:
    value = check.by.get(name, check.limit)
    return float(value) if isinstance(value, int | float) else None


def _is_watched(name: str, check: Check) -> bool:
    return not (name in check.by and check.by[name] is None)


def _keep(found: dict[str, Figure], figure: Figure) -> None:
    """Of several days the worst."""
    if figure.name not in found or figure.nearness > found[figure.name].nearness:
        found[figure.name] = figure
