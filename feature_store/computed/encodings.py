"""The catalogue of encodings: functions of columns that the library brings, the same bits on every machine.

An encoding is data: its name and its options, from which any reader builds it. What each computes is in `_CALLS`; a
change of that would be another encoding, under another name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from feature_store.computed.function import Function, Output, digest
from feature_store.computed.kinds import Kind
from feature_store.errors import InputError

if TYPE_CHECKING:
    from feature_store.computed.kinds import Column

Category = int | str | bool
_CATEGORIES = ("int", "str", "bool")
_NUMBERS = ("int", "float", "bool")
_MOST = 1 << 31


def one_hot(name: str, values: Sequence[Category] | Mapping[str, Category], *, other: bool) -> Function:
    """1 in the output of the value, 0 in the others; `other` is one more output, of every other value.

    Outputs are called after the values, or as the mapping says.

    Raises:
        InputError: no values, values of several types, or several that would have one name.
    """
    named = dict(values) if isinstance(values, Mapping) else {_suffix(value): value for value in values}
    suffixes = [*named, "other"] if other else [*named]
    if (
        not named
        or len(named) != len(values)
        or len(set(named.values())) != len(named)
        or len(set(suffixes)) != len(suffixes)
    ):
        raise InputError(
            f"encoding '{name}': `values` must be several values with names of their own, or a mapping of names to values, "
            f"got {values!r}"
        )
    kinds = {_category(name, value) for value in named.values()}
    if len(kinds) > 1:
        raise InputError(f"encoding '{name}': `values` must be of one type, got {', '.join(sorted(kinds))}")
    for suffix in suffixes:
        if not re.fullmatch(r"\w+", suffix):
            raise InputError(f"encoding '{name}': an output's name must be letters, digits and _, got '{suffix}'")
    return build(name, "one_hot", {"values": named, "other": other})


def hashing(name: str, *, buckets: int, seed: int) -> Function:
    """Which of so many buckets a text, whole number or boolean falls into, by a hash that is the same everywhere.

    Raises:
        InputError: `buckets` is no whole number from 2 to 2^31.
    """
    if type(buckets) is not int or not 2 <= buckets <= _MOST:
        raise InputError(f"encoding '{name}': `buckets` must be a whole number from 2 to 2^31, got {buckets!r}")
    if type(seed) is not int or not 0 <= seed < _MOST:
        raise InputError(f"encoding '{name}': `seed` must be a whole number from 0 to 2^31, got {seed!r}")
    return build(name, "hashing", {"buckets": buckets, "seed": seed})


def bucketing(name: str, *, edges: Sequence[float]) -> Function:
    """How many of the edges are at most the value: bucket i holds `edges[i - 1] <= value < edges[i]`.

    Raises:
        InputError: no edges, or they do not ascend.
    """
    given = list(edges)
    if not given or any(type(edge) not in (int, float) or not math.isfinite(edge) for edge in given):
        raise InputError(f"encoding '{name}': `edges` must be numbers, at least one, got {edges!r}")
    if any(one >= other for one, other in pairwise(given)):
        raise InputError(f"encoding '{name}': `edges` must ascend, got {edges!r}")
    return build(name, "bucketing", {"edges": [float(edge) for edge in given]})


def cyclical(name: str, *, period: float, of_time: bool) -> Function:
    """Sine and cosine of where in its period a value stands: outputs `sin` and `cos`.

    Args:
        name: of the function.
        period: in the value's own unit; of times in microseconds, counted from the epoch.
        of_time: whether the value is a time.

    Raises:
        InputError: the period is not positive.
    """
    if type(period) not in (int, float) or not 0 < period < 2**52:
        raise InputError(f"encoding '{name}': `period` must be a positive number, got {period!r}")
    return build(name, "cyclical", {"period": int(period) if of_time else float(period), "of_time": of_time})


def target_rate(name: str, *, prior: float, weight: float) -> Function:
    """`(positives + prior * weight) / (count + weight)`: a rate drawn towards what is usual where little was seen.

    Raises:
        InputError: the prior is no number, or the weight is negative.
    """
    if type(prior) not in (int, float) or not math.isfinite(prior):
        raise InputError(f"encoding '{name}': `prior` must be a number, got {prior!r}")
    if type(weight) not in (int, float) or not 0 <= weight < math.inf:
        raise InputError(f"encoding '{name}': `weight` must be a number of at least 0, got {weight!r}")
    return build(name, "target_rate", {"prior": float(prior), "weight": float(weight)})


def build(name: str, encoding: str, options: Mapping[str, Any]) -> Function:
    """An encoding from its name and options."""
    text = json.dumps({"encoding": encoding, **options})
    parameters, outputs = _SHAPES[encoding](options)
    return Function(
        name=name,
        parameters=tuple(parameters),
        outputs=tuple(outputs),
        digest=digest(text),
        call=_CALLS[encoding](options),
        encoding=text,
        takes=parameters,
    )


def parse(name: str, text: str) -> Function:
    """An encoding from what `Function.encoding` says.

    Raises:
        InputError: this version of the library does not know it.
    """
    try:
        options = json.loads(text)
        return build(name, options.pop("encoding"), options)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"encoding '{name}' is of another version of this library: {text:.80}") from error


def _suffix(value: object) -> str:
    return re.sub(r"\W+", "_", str(value)).strip("_").lower()


def _category(name: str, value: object) -> str:
    if type(value) not in (int, str, bool):
        raise InputError(f"encoding '{name}': `values` must be whole numbers, texts or booleans, got {value!r}")
    return type(value).__name__


Shape = tuple[Mapping[str, Sequence[str]], Sequence[Output]]
"""Parameter -> kinds that it takes; outputs."""


def _one_hot_shape(options: Mapping[str, Any]) -> Shape:
    [kind, *_] = {type(value).__name__ for value in options["values"].values()}
    suffixes = [*options["values"], *(["other"] if options["other"] else [])]
    return {"value": (kind,)}, [Output(suffix=suffix, kind="int", empty=0) for suffix in suffixes]


def _cyclical_shape(options: Mapping[str, Any]) -> Shape:
    taken = ("timestamp",) if options["of_time"] else ("int", "float")
    return {"value": taken}, [Output(suffix=suffix, kind="float") for suffix in ("sin", "cos")]


def _single(kind: Kind, **takes: Sequence[str]) -> Callable[[Mapping[str, Any]], Shape]:
    return lambda _: (takes, [Output(suffix="", kind=kind)])


_SHAPES: Mapping[str, Callable[[Mapping[str, Any]], Shape]] = {
    "one_hot": _one_hot_shape,
    "hashing": _single("int", value=_CATEGORIES),
    "bucketing": _single("int", value=("int", "float")),
    "cyclical": _cyclical_shape,
    "target_rate": _single("float", positives=_NUMBERS, count=_NUMBERS),
}


def _one_hot(options: Mapping[str, Any]) -> Callable[..., Any]:
    places = {value: place for place, value in enumerate(options["values"].values())}
    width = len(places) + bool(options["other"])

    def call(value: Column) -> tuple[Column, ...]:
        import numpy as np

        codes = np.fromiter(
            (places.get(each, len(places)) for each in value.tolist()), dtype=np.int64, count=len(value)
        )
        return tuple((codes == place).astype(np.int64) for place in range(width))

    return call


def _hashing(options: Mapping[str, Any]) -> Callable[..., Any]:
    buckets, salt = options["buckets"], options["seed"].to_bytes(4, "big")

    def bucket(value: object) -> int:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        content = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
        return int(int.from_bytes(content, "big") % buckets)

    def call(value: Column) -> Column:
        import numpy as np

        values = value.tolist()
        known = {each: bucket(each) for each in dict.fromkeys(values)}
        return np.fromiter((known[each] for each in values), dtype=np.int64, count=len(values))

    return call


def _bucketing(options: Mapping[str, Any]) -> Callable[..., Any]:
    edges = options["edges"]

    def call(value: Column) -> Column:
        import numpy as np

        places: Column = np.searchsorted(np.array(edges), value.astype(np.float64), side="right").astype(np.int64)
        return places

    return call


def _cyclical(options: Mapping[str, Any]) -> Callable[..., Any]:
    period = options["period"]

    def call(value: Column) -> tuple[Column, Column]:
        import numpy as np

        numbers = value.astype(np.int64) if value.dtype.kind == "M" else value.astype(np.float64)
        turned = np.mod(numbers, period) * 4
        quarter = np.minimum(turned // period, 3).astype(np.intp)
        rest = turned - quarter * period
        back = 2 * rest > period
        sine, cosine = _sine_and_cosine(np.where(back, period - rest, rest) / period * (math.pi / 2))
        swapped = back ^ (quarter % 2 == 1)
        signs = _constants()[0][:, quarter]
        # Adding zero makes 0.0 of -0.0.
        return np.where(swapped, cosine, sine) * signs[0] + 0.0, np.where(swapped, sine, cosine) * signs[1] + 0.0

    return call


@cache
def _constants() -> tuple[Column, list[Column]]:
    """Signs of sine and cosine in the quarters of a turn; divisors of the terms of their series, the last term first."""
    import numpy as np

    powers = range(16, 0, -2)
    divisors = [np.array([[(power + 1) * power], [power * (power - 1)]], dtype=np.float64) for power in powers]
    return np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0]]), divisors


def _sine_and_cosine(angle: Column) -> tuple[Column, Column]:
    """Of angles from 0 to pi/4, by their Taylor series.

    Only sums, products and quotients, which IEEE 754 rounds alike everywhere; the sine of a C library differs from
    machine to machine in its last bit.
    """
    import numpy as np

    square, totals = angle * angle, np.zeros((2, len(angle)))
    for divisors in _constants()[1]:
        totals = (1 - totals) * square / divisors
    sine, cosine = 1 - totals
    return sine * angle, cosine


def _target_rate(options: Mapping[str, Any]) -> Callable[..., Any]:
    prior, weight = options["prior"], options["weight"]

    def call(positives: Column, count: Column) -> Column:
        import numpy as np

        rate: Column = (positives.astype(np.float64) + prior * weight) / (count.astype(np.float64) + weight)
        return rate

    return call


_CALLS: Mapping[str, Callable[[Mapping[str, Any]], Callable[..., Any]]] = {
    "one_hot": _one_hot,
    "hashing": _hashing,
    "bucketing": _bucketing,
    "cyclical": _cyclical,
    "target_rate": _target_rate,
}
