"""The aggregates that a view can declare; each takes `over=` one window, several, or None for every event so far.

`column` is SQL over the source's columns. `hop=` is the step of the window's tail, by default the largest that keeps
the window within a 24th of its length. `name=` overrides the derived name (`dep_delay_mean_1h`).
"""

from __future__ import annotations

from collections.abc import Sequence

from feature_store.declare.feature import Duration, FeatureSpec

Over = Duration | Sequence[Duration | None] | None


def count(*, over: Over, hop: Duration | None = None, name: str | None = None, description: str = "") -> FeatureSpec:
    """How many events; 0 for none."""
    return _spec("count", None, over, hop, None, name, description)


def sum(  # noqa: A001 - the field's name for it; used as agg.sum
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The exact sum of the non-null values; 0 for none."""
    return _spec("sum", column, over, hop, None, name, description)


def mean(
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """Their mean; of a condition, the share of events for which it holds."""
    return _spec("mean", column, over, hop, None, name, description)


def min(  # noqa: A001
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The smallest value."""
    return _spec("min", column, over, hop, None, name, description)


def max(  # noqa: A001
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The largest value."""
    return _spec("max", column, over, hop, None, name, description)


def variance(
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The sample variance; null below two values."""
    return _spec("variance", column, over, hop, None, name, description)


def stddev(
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The sample standard deviation; null below two values."""
    return _spec("stddev", column, over, hop, None, name, description)


def first(
    column: str, *, over: Over, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The earliest non-null value; ties by event id."""
    return _spec("first", column, over, hop, None, name, description)


def last(
    column: str, *, over: Over = None, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The latest non-null value; ties by event id."""
    return _spec("last", column, over, hop, None, name, description)


def latest(
    column: str, *, over: Over = None, hop: Duration | None = None, name: str | None = None, description: str = ""
) -> FeatureSpec:
    """The value of the latest event, null if it is null there; ties by event id."""
    return _spec("latest", column, over, hop, None, name, description)


def last_n(
    column: str,
    *,
    n: int,
    over: Over = None,
    hop: Duration | None = None,
    name: str | None = None,
    description: str = "",
) -> FeatureSpec:
    """The latest `n` non-null values, oldest first."""
    return _spec("last_n", column, over, hop, n, name, description)


def count_distinct(
    column: str,
    *,
    over: Over,
    cap: int = 1000,
    hop: Duration | None = None,
    name: str | None = None,
    description: str = "",
) -> FeatureSpec:
    """How many different non-null values, counted up to `cap`."""
    return _spec("count_distinct", column, over, hop, cap, name, description)


def _spec(
    aggregate: str,
    column: str | None,
    over: Over,
    hop: Duration | None,
    cap: int | None,
    name: str | None,
    description: str,
) -> FeatureSpec:
    windows = tuple(over) if isinstance(over, list | tuple) else (over,)
    return FeatureSpec(
        aggregate=aggregate, column=column, over=windows, hop=hop, cap=cap, name=name, description=description
    )
