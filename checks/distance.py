"""How far two samples of some columns are apart: two distances at once, every method of Evidently's where that is not enough."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store_deploy.checks.drawn import NUMBERS, TEXTS, Drawn, by_chance, by_outliers

if TYPE_CHECKING:
    from feature_store_deploy.checks.samples import Sample


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

    A threshold that a day like those of the reference would pass by chance is raised so far that it would not, nor by its outliers.
    """
    found = []
    for each in (each for each in asked if each.is_quick):
        ours, theirs = (Drawn.of(sample, each.column, is_text=each.is_text) for sample in (current, reference))
        distance, limit = ours.distance(theirs), each.threshold
        if distance > limit:
            limit = max(limit, by_chance(theirs, ours)) + by_outliers(theirs, ours)
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
