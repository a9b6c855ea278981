"""On-demand features one value at a time: the encodings once more by plain Python, the statuses by a chain of questions.

A function of one's own is its own reference; it is called with columns of a single value.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.status import Status

if TYPE_CHECKING:
    from feature_store.declare.computed import Computed
    from feature_store.testing.mismatch import Found

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def on_demand(item: Computed, inputs: Sequence[Found]) -> Found:
    """One output of a function, of inputs that have been filled."""
    statuses = {status for _, status in inputs}
    for lost in (Status.ERROR, Status.UNKNOWN):
        if lost in statuses:
            return None, lost
    values = [value for value, _ in inputs]
    value = None if None in values else _call(item, values)
    doubt = next((status for status in (Status.AHEAD, Status.STALE) if status in statuses), None)
    if value is None:
        return item.output.empty, doubt or Status.EMPTY
    return value, doubt or Status.PRESENT


def _call(item: Computed, values: Sequence[Any]) -> object:
    function = item.of.function
    if function.encoding:
        options = json.loads(function.encoding)
        return globals()[f"_{options['encoding']}"](options, item.output.suffix, *values)
    with np.errstate(all="ignore"):
        found = function.call(*(_single(value) for value in values))
    if item.output.suffix:
        found = found[item.output.suffix] if isinstance(found, dict) else found[item.place]
    return _plain(found, item.output.kind)


def _single(value: object) -> Any:
    column = np.empty(1, dtype=object)
    column[0] = value
    if isinstance(value, datetime):
        return np.array([value.astimezone(UTC).replace(tzinfo=None)], dtype="datetime64[us]")
    if isinstance(value, str | list):
        return column
    return np.array([value], dtype="datetime64[D]" if isinstance(value, date) else type(value))


def _plain(found: Any, kind: str) -> object:
    [value] = found.tolist()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "timestamp":
        return value.replace(tzinfo=UTC)
    return {"int": int, "float": float, "bool": bool}.get(kind, lambda same: same)(value)


def _one_hot(options: dict[str, Any], suffix: str, value: object) -> int:
    wanted = options["values"].get(suffix)
    return int(value not in options["values"].values() if suffix == "other" and wanted is None else value == wanted)


def _hashing(options: dict[str, Any], _: str, value: object) -> int:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    salt = options["seed"].to_bytes(4, "big")
    return int(hashlib.blake2b(text.encode(), digest_size=8, salt=salt).hexdigest(), 16) % int(options["buckets"])


def _bucketing(options: dict[str, Any], _: str, value: float) -> int:
    return sum(edge <= float(value) for edge in options["edges"])


def _cyclical(options: dict[str, Any], suffix: str, value: Any) -> float:
    period = options["period"]
    number = (value - _EPOCH) // datetime.resolution if isinstance(value, datetime) else float(value)
    turned = number % period * 4
    quarter = min(int(turned // period), 3)
    rest = turned - quarter * period
    back = 2 * rest > period
    angle = (period - rest if back else rest) / period * (math.pi / 2)
    pair = [_series(angle, 1), _series(angle, 0)]
    sine, cosine = reversed(pair) if back else pair
    turn = {0: (sine, cosine), 1: (cosine, -sine), 2: (-sine, -cosine), 3: (-cosine, sine)}[quarter]
    return turn[suffix == "cos"] + 0.0


def _series(angle: float, first: int) -> float:
    square, total = angle * angle, 0.0
    for power in range(first + 16, first, -2):
        total = (1 - total) * square / (power * (power - 1))
    return (1 - total) * (angle if first else 1.0)


def _target_rate(options: dict[str, Any], _: str, positives: float, count: float) -> float | None:
    top, bottom = float(positives) + options["prior"] * options["weight"], float(count) + options["weight"]
    return top / bottom if bottom and math.isfinite(top) else None
