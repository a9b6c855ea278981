"""How far two samples of some columns are apart: two distances at once, every method of Evidently's where that is not enough."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from feature_store_deploy.checks.samples import Sample

NUMBERS = "wasserstein"
"""The area between two distributions in standard deviations of the reference."""
TEXTS = "jensenshannon"
"""0: the same shares, 0.83: nothing in common."""
DRAWS, CHANCE = 20, 6.0
"""How often a sample is drawn from the reference itself, and how many standard deviations beyond their mean distance chance may reach."""
_SMALLEST_SPREAD = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a column has moved."""

    column: str
    distance: float
    threshold: float
    method: str

    @property
    def drifted(self) -> bool:
        """Whether that is too far."""
        return self.distance > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a column is compared."""

    column: str
    threshold: float
    method: str
    is_text: bool

    @property
    def is_quick(self) -> bool:
        """Whether the distance is computed here."""
        return self.method == (TEXTS if self.is_text else NUMBERS)


def quick_distances(current: "Sample", reference: "Sample", asked: Sequence[Asked]) -> list[Distance]:
    """The distances that need no Evidently, as Evidently defines them.

    A threshold that a sample of this size, drawn from the reference, would pass by chance is raised so far that it would not.
    """
    found = []
    for each in (each for each in asked if each.is_quick):
        ours, theirs = (_values(sample.table.column(each.column), each.is_text) for sample in (current, reference))
        distance = _apart(ours, theirs, is_text=each.is_text)
        limit = each.threshold
        if distance > limit:
            limit = max(limit, _by_chance(theirs, len(ours), is_text=each.is_text))
        found.append(Distance(column=each.column, distance=distance, threshold=limit, method=each.method))
    return found


def evidently_distances(
    current: "Sample", reference: "Sample", asked: Sequence[Asked], *, report: Path | None
) -> dict[str, float]:
    """The distance of every column by Evidently, which takes seconds to import; its page is written to `report`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Evidently's own: escapes in its docstrings, divisions in its statistics
        return _evidently(current, reference, asked, report)


def _evidently(current: "Sample", reference: "Sample", asked: Sequence[Asked], report: Path | None) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = [each.column for each in asked]
    definition = DataDefinition(
        numerical_columns=[each.column for each in asked if not each.is_text],
        categorical_columns=[each.column for each in asked if each.is_text],
    )
    preset = DataDriftPreset(
        columns=columns,
        per_column_method={each.column: each.method for each in asked},
        per_column_threshold={each.column: each.threshold for each in asked},
    )
    samples = [Dataset.from_pandas(each.frame(columns), data_definition=definition) for each in (current, reference)]
    result = Report([preset]).run(*samples)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        result.save_html(str(report))
    return _found(result.dict())


def _found(report: Mapping[str, Sequence[Mapping[str, object]]]) -> dict[str, float]:
    """Column -> distance, from Evidently's own words for its result."""
    found = {}
    for metric in report["metrics"]:
        config = metric.get("config")
        if isinstance(config, dict) and str(config.get("type", "")).endswith("ValueDrift"):
            found[str(config["column"])] = float(str(metric["value"]))
    return found


def with_distances(found: Sequence[Distance], distances: Mapping[str, float], asked: Sequence[Asked]) -> list[Distance]:
    """What was found at once, with Evidently's distances in their places and beside them."""
    quick = {each.column: replace(each, distance=distances.get(each.column, each.distance)) for each in found}
    others = [
        Distance(column=each.column, distance=distances[each.column], threshold=each.threshold, method=each.method)
        for each in asked
        if each.column in distances and each.column not in quick
    ]
    return [*quick.values(), *others]


def _values(column: pa.ChunkedArray, is_text: bool) -> NDArray[Any]:
    """Values that are there; of texts their numbers are of no meaning but equality."""
    present = column.drop_null()
    if is_text:
        return np.asarray(present.cast(pa.string()).to_pylist(), dtype=str)
    numbers = pc.cast(present, pa.float64(), safe=False).to_numpy()
    return np.sort(numbers[np.isfinite(numbers)])


def _apart(current: NDArray[Any], reference: NDArray[Any], *, is_text: bool) -> float:
    return _of_shares(current, reference) if is_text else _of_numbers(current, reference)


def _of_numbers(current: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The first Wasserstein distance of two sorted samples, over the standard deviation of the reference."""
    both = np.sort(np.concatenate([current, reference]))
    ours, theirs = (np.searchsorted(each, both[:-1], side="right") / len(each) for each in (current, reference))
    area = float(np.sum(np.abs(ours - theirs) * np.diff(both)))
    return area / max(float(reference.std()), _SMALLEST_SPREAD)


def _of_shares(current: NDArray[Any], reference: NDArray[Any]) -> float:
    """The Jensen-Shannon distance of two samples of categories, in nats."""
    _, codes = np.unique(np.concatenate([current, reference]), return_inverse=True)
    size = int(codes.max()) + 1
    ours = np.bincount(codes[: len(current)], minlength=size) / len(current)
    theirs = np.bincount(codes[len(current) :], minlength=size) / len(reference)
    middle = (ours + theirs) / 2
    halves = [float(np.sum(each[each > 0] * np.log(each[each > 0] / middle[each > 0]))) for each in (ours, theirs)]
    return float(np.sqrt(max(sum(halves) / 2, 0.0)))


def _by_chance(reference: NDArray[Any], size: int, *, is_text: bool) -> float:
    """How far a sample of the reference may be from it."""
    draw = np.random.default_rng(0)
    drawn = [_apart(np.sort(draw.choice(reference, size)), reference, is_text=is_text) for _ in range(DRAWS)]
    return float(np.mean(drawn) + CHANCE * np.std(drawn))
