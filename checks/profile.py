"""What is missing, out of range or a value of its own in some rows, against what rows of a reference say is usual: SQL over samples.

Every limit that is learned grows where there are few rows, so that a quiet day is not a broken one: `CHANCE` standard deviations
of a share, as drawing the rows by chance would give it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
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


def usual(cursor: duckdb.DuckDBPyConnection, reference: str, columns: Columns) -> dict[str, Usual]:
    """What rows of a reference say; nothing if they are few.

    Args:
        cursor: of DuckDB.
        reference: SQL of rows with the columns and `_day`.
        columns: those to look at.
    """
    asked = [f"count({quote(name)})" for name in columns.all]
    days = cursor.execute(f"SELECT count(*), {', '.join(asked)} FROM ({reference}) GROUP BY {DAY}").fetchall()
    if sum(day[0] for day in days) < FEWEST or not columns.all:
        return {}
    missing = {name: max(1 - day[n] / day[0] for day in days) for n, name in enumerate(columns.all, 1)}
    bounds = {name: _bounds(cursor, reference, name) for name in columns.all if name in columns.numbers}
    shares = {name: _shares(cursor, reference, name) for name in columns.all if name in columns.texts}
    return {
        name: Usual(missing=missing[name], bounds=bounds.get(name), shares=shares.get(name, {})) for name in columns.all
    }


def _bounds(cursor: duckdb.DuckDBPyConnection, reference: str, name: str) -> tuple[float, float] | None:
    column = f"CAST({quote(name)} AS DOUBLE)"
    [found] = cursor.execute(
        f"SELECT quantile_cont({column}, [0.01, 0.99]), min({column}), max({column}) FROM ({reference}) "
        f"WHERE isfinite({column})"
    ).fetchall()
    if found[0] is None:
        return None
    (low, high), least, most = found
    return min(low - SPREAD * (high - low), least), max(high + SPREAD * (high - low), most)


def _shares(cursor: duckdb.DuckDBPyConnection, reference: str, name: str) -> dict[str, float]:
    """Value -> share, of a category; nothing for a column with more values, which are names."""
    rows = cursor.execute(
        f"SELECT CAST({quote(name)} AS VARCHAR) AS value, count(*) FROM ({reference}) WHERE value IS NOT NULL "
        f"GROUP BY value ORDER BY 2 DESC, 1 LIMIT {CATEGORIES + 1}"
    ).fetchall()
    total = sum(count for _, count in rows)
    return {} if len(rows) > CATEGORIES else {value: count / total for value, count in rows}


def missing_figures(
    cursor: duckdb.DuckDBPyConnection, current: str, columns: Columns, known: Mapping[str, Usual], check: Check
) -> list[Figure]:
    """The share of rows without a value, of each column on its worst day."""
    names = [
        name
        for name in columns.all
        if _is_watched(name, check) and (name in known or _declared(name, check) is not None)
    ]
    if not names:
        return []
    asked = ", ".join(f"count({quote(name)})" for name in names)
    found: dict[str, Figure] = {}
    for day, rows, *counts in cursor.execute(f"SELECT {DAY}, count(*), {asked} FROM ({current}) GROUP BY 1").fetchall():
        for name, count in zip(names, counts, strict=True):
            limit = _declared(name, check)
            if limit is None:
                limit = min(known[name].missing + _chance(known[name].missing, rows), 1.0)
            _keep(
                found, Figure(name=name, value=1 - count / rows, limit=limit, said=f"{day}: {rows - count} of {rows}")
            )
    return list(found.values())


def range_figures(
    cursor: duckdb.DuckDBPyConnection, current: str, columns: Columns, known: Mapping[str, Usual], check: Check
) -> list[Figure]:
    """The share of numbers out of their bounds, declared or learned, of each column on its worst day."""
    declared = {name: value for name, value in check.by.items() if isinstance(value, tuple)}
    learned = {name: each.bounds for name, each in known.items() if each.bounds and _is_watched(name, check)}
    bounds = {name: bounds for name, bounds in {**learned, **declared}.items() if name in columns.numbers}
    if not bounds:
        return []
    asked = ", ".join(
        f"count({quote(name)}), count(*) FILTER ({_outside(name, each)})" for name, each in bounds.items()
    )
    found: dict[str, Figure] = {}
    for day, *counts in cursor.execute(f"SELECT {DAY}, {asked} FROM ({current}) GROUP BY 1").fetchall():
        for n, (name, each) in enumerate(bounds.items()):
            present, outside = counts[2 * n], counts[2 * n + 1]
            limit = check.limit if check.limit is not None else 0.0 if name in declared else _strays(present)
            said = f"{day}: {outside} of {present} beyond {each[0]} to {each[1]}"
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
