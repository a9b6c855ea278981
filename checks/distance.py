"""How far two samples of some columns are apart, by Evidently: pure but for the report that it may write."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = "wasserstein"
"""The area between two distributions in standard deviations of the reference."""
TEXTS = "jensenshannon"
"""0: the same shares, 1: nothing in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a column has moved."""

    column: str
    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Whether that is too far."""
        return self.distance >= self.threshold


def distances(
    current: "pd.DataFrame",
    reference: "pd.DataFrame",
    *,
    numbers: Sequence[str],
    texts: Sequence[str],
    thresholds: Mapping[str, float],
    report: Path | None = None,
) -> list[Distance]:
    """The distance of every column, the farthest first.

    Args:
        current: the sample in question.
        reference: what it should look like.
        numbers: columns compared as numbers.
        texts: columns compared as categories.
        thresholds: column -> distance from which on it counts as drifted; of every column.
        report: where Evidently's page is written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Evidently's own: escapes in its docstrings, divisions in its statistics
        return _distances(current, reference, numbers, texts, thresholds, report)


def _distances(
    current: "pd.DataFrame",
    reference: "pd.DataFrame",
    numbers: Sequence[str],
    texts: Sequence[str],
    thresholds: Mapping[str, float],
    report: Path | None,
) -> list[Distance]:
    from evidently import DataDefinition, Dataset, Report  # takes six seconds
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(numbers), categorical_columns=list(texts))
    columns = [*numbers, *texts]
    preset = DataDriftPreset(
        columns=columns, num_method=NUMBERS, cat_method=TEXTS, per_column_threshold={c: thresholds[c] for c in columns}
    )
    samples = [Dataset.from_pandas(frame[columns], data_definition=definition) for frame in (current, reference)]
    result = Report([preset]).run(*samples)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        result.save_html(str(report))
    found = _values(result.dict())
    moved = [Distance(column=c, distance=found[c], threshold=thresholds[c]) for c in columns if c in found]
    return sorted(moved, key=lambda each: each.distance / each.threshold, reverse=True)


def _values(report: Mapping[str, Sequence[Mapping[str, object]]]) -> dict[str, float]:
    """Column -> distance, from Evidently's own words for its result."""
    found = {}
    for metric in report["metrics"]:
        config = metric.get("config")
        if isinstance(config, dict) and str(config.get("type", "")).endswith("ValueDrift"):
            found[str(config["column"])] = float(str(metric["value"]))
    return found
