"""The shipped encodings as on-demand features: `encode.one_hot("channel", request(str), values=["web", "app"])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from feature_store.computed import encodings
from feature_store.computed.encodings import Category
from feature_store.computed.function import Function
from feature_store.declare.computed import AskedTime, Given, OnDemand, RequestInput, as_input, demanded
from feature_store.declare.feature import Duration
from feature_store.errors import InputError
from feature_store.time_rule import parse_duration


def one_hot(
    name: str,
    of: Given,
    *,
    values: Sequence[Category] | Mapping[str, Category],
    other: bool = False,
    description: str = "",
) -> OnDemand:
    """A feature for each value, `<name>_<value>`: 1 where it is that value, else 0; all 0 where there is none.

    Args:
        name: what the features' names begin with.
        of: a feature, or a column of the request, called `name` unless it has a name.
        values: texts, whole numbers or booleans; a mapping gives them names of their own.
        other: add `<name>_other`, which is 1 for every other value.
        description: of the features.
    """
    return _encoded(name, encodings.one_hot(name, values, other=other), of, description)


def hashing(name: str, of: Given, *, buckets: int, seed: int = 0, description: str = "") -> OnDemand:
    """Into which of so many buckets a text, whole number or boolean falls: the same in every process, on every machine."""
    return _encoded(name, encodings.hashing(name, buckets=buckets, seed=seed), of, description)


def bucketing(name: str, of: Given, *, edges: Sequence[float], description: str = "") -> OnDemand:
    """How many of the ascending edges are at most the value; an edge begins its bucket."""
    return _encoded(name, encodings.bucketing(name, edges=edges), of, description)


def cyclical(name: str, of: Given, *, period: Duration | float, description: str = "") -> OnDemand:
    """Where in its period a time or a number stands: `<name>_sin` and `<name>_cos`, the same bits on every machine.

    Args:
        name: what the features' names begin with.
        of: a time (`asked_time`, `request(datetime)`, a feature) with a duration such as "24h" or "7d", counted from
            1970-01-01 UTC; or a number with a number.
        period: after which it begins again.
        description: of the features.

    Raises:
        InputError: the period is no duration or no positive number.
    """
    if isinstance(period, str | timedelta):
        try:
            micros = parse_duration(period, name="period")
        except ValueError as error:
            raise InputError(f"encoding '{name}': {error}") from None
        made = encodings.cyclical(name, period=micros, of_time=True)
        return _encoded(name, made, of, description, hint="; the `period` of a number is a number")
    made = encodings.cyclical(name, period=period, of_time=False)
    return _encoded(name, made, of, description, hint="; the `period` of a time is a duration such as '24h'")


def target_rate(
    name: str, *, positives: Given, count: Given, prior: float, weight: float = 1.0, description: str = ""
) -> OnDemand:
    """Target encoding: the rate `positives / count` of two features, drawn to `prior` as if it had been seen `weight` times."""
    function = encodings.target_rate(name, prior=prior, weight=weight)
    return demanded(name, function, {"positives": positives, "count": count}, description=description)


def _encoded(name: str, function: Function, of: Given, description: str, *, hint: str = "") -> OnDemand:
    value = as_input(of, f"encoding '{name}'", column=name)
    kind = {RequestInput: getattr(value.source, "kind", None), AskedTime: "timestamp"}.get(type(value.source))
    if kind is not None and kind not in function.takes["value"]:
        raise InputError(f"encoding '{name}' takes {' or '.join(function.takes['value'])}, got {kind}{hint}")
    return OnDemand(name=name, function=function, inputs=(value,), description=description)
