"""What an on-demand function is declared to return, and the constants that stand for what is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from feature_store.computed.function import Output, Value
from feature_store.computed.kinds import KINDS_NAMED, Kind, kind_of, of_kind
from feature_store.errors import InputError


def outputs_of(name: str, returns: object, empty: object) -> list[Output]:
    """The outputs of a function: one without a name, or as a mapping of names to types says.

    Raises:
        InputError: a type is none, or an empty value is not of its output's type.
    """
    if not isinstance(returns, Mapping):
        if isinstance(empty, Mapping):
            raise InputError(f"on-demand feature '{name}': `empty` must be one value for one output, got {empty!r}")
        return [_output(name, "", returns, empty)]
    for suffix in returns:
        if not isinstance(suffix, str) or not re.fullmatch(r"\w+", suffix):
            raise InputError(f"on-demand feature '{name}': an output must be letters, digits and _, got {suffix!r}")
    if not returns:
        raise InputError(f"on-demand feature '{name}': `returns` must have at least one output, got none")
    values = empty if isinstance(empty, Mapping) else dict.fromkeys(returns, empty)
    if not set(values) <= set(returns):
        raise InputError(
            f"on-demand feature '{name}': `empty` must be of its outputs {', '.join(returns)}, got {values!r}"
        )
    return [_output(name, suffix, kind, values.get(suffix)) for suffix, kind in returns.items()]


def _output(name: str, suffix: str, kind: object, empty: Any) -> Output:
    found = kind_of(kind, name=f"on-demand feature '{name}': `returns`")
    return Output(suffix=suffix, kind=found, empty=constant(empty, found, f"on-demand feature '{name}': `empty`"))


def constant(value: Value, kind: Kind, told: str) -> Value:
    """A constant of a declaration as one of its kind; times and dates have none."""
    if value is None:
        return None
    if kind in ("timestamp", "date"):
        raise InputError(f"{told} must be None for a time or a date, got {value!r}")
    try:
        return cast("Value", of_kind(value, kind))
    except InputError as error:
        raise InputError(f"{told} {error}") from None


_AS_IT_STANDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
"""The types of constants that every path serves as the same value, though nothing converts them."""


def refuse_other(value: object, kind: str, told: str) -> None:
    """Refuse a constant that is served as it is declared, unless it is a value of the kind; None always is.

    Raises:
        InputError: it is of another type, infinite, NaN or beyond what the kind holds exactly.
    """
    if value is None:
        return
    if kind not in _AS_IT_STANDS:
        raise InputError(f"{told} must be None for {kind}, got {value!r}")
    if type(value) not in _AS_IT_STANDS[kind] or constant(cast("Value", value), cast("Kind", kind), told) != value:
        raise InputError(f"{told} must be {KINDS_NAMED[cast('Kind', kind)]}, got {value!r}")
