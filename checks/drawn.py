"""The values of one column in a sample, and how far two of them are apart: by their distributions, and by chance."""

from dataclasses import dataclass
from itertools import count
from math import ceil, comb, hypot, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_store.lake.days import DAY

if TYPE_CHECKING:
    from feature_store_deploy.checks.samples import Sample

NUMBERS = "wasserstein"
"""The area between two distributions in standard deviations of the reference."""
TEXTS = "jensenshannon"
"""0: the same shares, 0.83: nothing in common."""
DRAWS = 20
"""How often a sample is drawn from the reference itself."""
CHANCE, UNLIKE = 6.0, 4.0
"""How many standard deviations of drawing, and how many of the days' own unlikeness, are taken for chance."""
SELDOM = 1e-6
"""In what share of samples more values lie beyond those of the reference than are taken for chance."""
FEWEST_DAYS, FEWEST_ROWS = 4, 20
"""Fewer days, of which each has so many rows, do not say how unlike days are."""
_SMALLEST_SPREAD = 0.001

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Values that are there, finite ones of numbers, and the day of each; without days all are of one."""

    values: Array
    days: Array
    is_text: bool

    @classmethod
    def of(cls, sample: "Sample", column: str, *, is_text: bool) -> "Drawn":
        """Those of a column."""
        chosen, values = sample.table.column(column), None
        if is_text:
            kept = pc.is_valid(chosen).to_numpy()
            values = np.asarray(chosen.drop_null().cast(pa.string()).to_pylist(), dtype=str)
        else:
            numbers = pc.cast(chosen, pa.float64(), safe=False).to_numpy()
            kept = np.isfinite(numbers)
            values = numbers[kept]
        has_days = DAY in sample.table.schema.names
        days = sample.table.column(DAY).cast(pa.int32()).to_numpy() if has_days else np.zeros(len(kept), np.int32)
        return cls(values, days[kept], is_text)

    def distance(self, reference: "Drawn") -> float:
        """How far they are from a reference."""
        return _apart(self.values, reference.values, is_text=self.is_text)


def by_chance(reference: Drawn, current: Drawn) -> float:
    """How far a sample of that size, of so many days, may be from the reference although nothing has happened.

    Drawing alone does something, of either. Days do more where values of a day hang together, such as windows of a few entities:
    what the days of the reference are farther from all of it than drawing explains; of several days less, as of any mean.
    """
    size, days = len(current.values), len(np.unique(current.days))
    drawn = np.asarray(_drawn(reference, size))
    drawing = (drawn.mean() + CHANCE * drawn.std()) * sqrt(1 + size / len(reference.values))
    return hypot(drawing, UNLIKE * _unlikeness(reference) / sqrt(days))


def by_outliers(reference: Drawn, current: Drawn) -> float:
    """How much of their distance is made by the outermost values of numbers, if these are no more than chance may put there.

    Where tails are heavy one value in a hundred can move a mean by half a standard deviation, and no sample of the reference
    tells how far out the next one lies. So at each end the distance beyond the value that one of the current sample is
    expected to pass is left out, unless more have passed it than of any `SELDOM` sample.
    """
    if reference.is_text:
        return 0.0
    size, known = len(current.values), np.sort(reference.values)
    rank = ceil(len(known) / size)
    remarkable = _remarkable(size, len(known), rank)
    low, high = known[rank - 1], known[-rank]
    low = low if np.count_nonzero(current.values < low) < remarkable else -np.inf
    high = high if np.count_nonzero(current.values > high) < remarkable else np.inf
    beyond = _area(current.values, known) - _area(*(np.clip(each, low, high) for each in (current.values, known)))
    return beyond / _spread(known)


def _remarkable(size: int, others: int, rank: int) -> int:
    """How many of `size` values are too many beyond the `rank`-th outermost of `others` that were drawn as they were."""
    for beyond in count(1):
        outermost = beyond + rank - 1  # of all values, of which fewer than `rank` are others
        ways = sum(comb(others, other) * comb(size, outermost - other) for other in range(rank))
        if ways / comb(size + others, outermost) < SELDOM:
            return beyond
    raise AssertionError


def _unlikeness(reference: Drawn) -> float:
    """The root mean square of the distance that days have beyond that of drawing so many values."""
    days, counts = np.unique(reference.days, return_counts=True)
    days, counts = days[counts >= FEWEST_ROWS], counts[counts >= FEWEST_ROWS]
    if len(days) < FEWEST_DAYS:
        return 0.0
    apart = [
        _apart(reference.values[reference.days == day], reference.values, is_text=reference.is_text) for day in days
    ]
    drawing = _drawn(reference, int(np.median(counts)))
    return float(max(_mean_square(apart) - _mean_square(drawing), 0.0) ** 0.5)


def _mean_square(distances: list[float]) -> float:
    return float(np.mean(np.asarray(distances) ** 2))


def _drawn(reference: Drawn, size: int) -> list[float]:
    """The distances of samples of the reference from it; the same ones whenever it is asked."""
    draw = np.random.default_rng(0)
    values, is_text = reference.values, reference.is_text
    return [_apart(draw.choice(values, size), values, is_text=is_text) for _ in range(DRAWS)]


def _apart(current: Array, reference: Array, *, is_text: bool) -> float:
    return _of_shares(current, reference) if is_text else _of_numbers(current, reference)


def _of_numbers(current: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The first Wasserstein distance of two samples, over the standard deviation of the reference."""
    return _area(current, reference) / _spread(reference)


def _area(current: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Between two distribution functions."""
    both = np.sort(np.concatenate([current, reference]))
    ours, theirs = (
        np.searchsorted(np.sort(each), both[:-1], side="right") / len(each) for each in (current, reference)
    )
    return float(np.sum(np.abs(ours - theirs) * np.diff(both)))


def _spread(reference: NDArray[np.float64]) -> float:
    return max(float(reference.std()), _SMALLEST_SPREAD)


def _of_shares(current: Array, reference: Array) -> float:
    """The Jensen-Shannon distance of two samples of categories, in nats."""
    _, codes = np.unique(np.concatenate([current, reference]), return_inverse=True)
    size = int(codes.max()) + 1
    ours = np.bincount(codes[: len(current)], minlength=size) / len(current)
    theirs = np.bincount(codes[len(current) :], minlength=size) / len(reference)
    middle = (ours + theirs) / 2
    halves = [float(np.sum(each[each > 0] * np.log(each[each > 0] / middle[each > 0]))) for each in (ours, theirs)]
    return float(np.sqrt(max(sum(halves) / 2, 0.0)))
