"""What every check says of itself: its asset's owner, which days it looked at, and its figures beside their limits.

The convention by which alerts and metrics read evaluations. A check of `MEASURED` has in its metadata

- `figures`: a JSON object, feature or column -> number; a figure above its limit is what makes the check red
- `limits`: the same names -> their limits
- `limit`: the limit of `worst`, the figure that is nearest to its limit, or farthest beyond; `figure` is that figure
- `reference`, `sample_size`, `method`: what was compared with what

Dagster plots the numbers of its evaluations, so `figure` and each `figure: <name>` are there as numbers too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.checks.window import Days

DAYS = "days"
"""Metadata of an evaluation: the days it is about, as `Days.parse` reads them. An alert recovers when they pass."""
OWNER = "owner"

VOLUME = "volume"
MISSING_RATE = "missing_rate"
DEFAULT_VALUE_RATE = "default_value_rate"
RANGE = "range"
CATEGORIES = "categories"
DRIFT = "drift"
DEAD_LETTERS = "dead_letters"
HEALTH = "health"
MEASURED = (VOLUME, MISSING_RATE, DEFAULT_VALUE_RATE, RANGE, CATEGORIES, DRIFT, DEAD_LETTERS, HEALTH)
"""Checks whose evaluations have figures."""

FIGURES, LIMITS, FIGURE, LIMIT, WORST = "figures", "limits", "figure", "limit", "worst"
REFERENCE, SAMPLE_SIZE, METHOD = "reference", "sample_size", "method"
SHOWN = 3
"""How many figures a description names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a check: of a feature, a column, or of the whole."""

    name: str
    value: float
    limit: float
    """A value above it makes the check red."""
    method: str = ""
    """How it was computed, where figures of one check differ in that."""
    said: str = ""
    """What else a reader of the table wants to know."""

    @property
    def is_over(self) -> bool:
        """Whether it makes the check red."""
        return self.value > self.limit

    @property
    def nearness(self) -> float:
        """1: at the limit."""
        return self.value / self.limit if self.limit > 0 else float(self.value > 0) * (1e9 + self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a check has measured, against what."""

    figures: Sequence[Figure]
    reference: str
    """What the figures were compared with, in words: days, a manifest, a declaration."""
    sample_size: int
    """Rows that were looked at."""
    method: str
    days: Days | None = None
    said: str = ""
    """The description when nothing was measured: why not."""
    is_blind: bool = False
    """Nothing can be measured until somebody does what `said` says, which is a warning."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def stated(*, reference: str, sample_size: int, method: str, figure: float, limit: float) -> dict[str, Any]:
    """What an evaluation with one figure says of how it came about."""
    return {
        REFERENCE: reference,
        SAMPLE_SIZE: sample_size,
        METHOD: method,
        FIGURE: float(figure),
        LIMIT: float(limit),
    }


def spec_metadata(owner: str | None) -> dict[str, object]:
    """Metadata of a check; Dagster gives owners to assets alone."""
    return {OWNER: owner or "nobody"}


def outcome(
    *,
    passed: bool,
    description: str,
    owner: str | None,
    days: Days | None = None,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    metadata: Mapping[str, Any] | None = None,
    key: dg.AssetCheckKey | None = None,
) -> dg.AssetCheckResult:
    """The result of a check; `key` where one step has several."""
    told: dict[str, Any] = {OWNER: owner or "nobody", **({DAYS: str(days)} if days else {}), **(metadata or {})}
    return dg.AssetCheckResult(
        passed=passed,
        severity=severity,
        description=description,
        metadata=told,
        asset_key=key.asset_key if key else None,
        check_name=key.name if key else None,
    )


def judged(
    found: Measurement, *, key: dg.AssetCheckKey, owner: str | None, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    """The result of a check of `MEASURED`: red if a figure is over its limit, and a warning if it never can be."""
    figures = sorted(found.figures, key=lambda each: each.nearness, reverse=True)
    over = [each for each in figures if each.is_over]
    return outcome(
        key=key,
        passed=not over and not found.is_blind,
        severity=dg.AssetCheckSeverity.WARN if found.is_blind else severity,
        description="; ".join(map(_said, over[:SHOWN])) or (_at_most(figures) if figures else found.said),
        owner=owner,
        days=found.days,
        metadata={
            REFERENCE: found.reference,
            SAMPLE_SIZE: found.sample_size,
            METHOD: found.method,
            **(_told(figures) if figures else {}),
            **found.metadata,
        },
    )


def told_figures(figures: Sequence[Figure]) -> dict[str, Any]:
    """Figures beside their limits, and the limit of the worst, as an alert tells them."""
    return {
        FIGURES: dg.MetadataValue.json({each.name: each.value for each in figures}),
        LIMITS: dg.MetadataValue.json({each.name: each.limit for each in figures}),
        LIMIT: float(max(figures, key=lambda each: each.nearness).limit),
    }


def missing(name: str, count: int = 1) -> dict[str, Any]:
    """The same for a check that is red because something is not there: how much of what."""
    return told_figures([Figure(name=name, value=count, limit=0)])


def _told(figures: Sequence[Figure]) -> dict[str, Any]:
    worst = figures[0]
    rows = [
        [
            f"`{each.name}`",
            _short(each.value),
            _short(each.limit),
            each.method,
            "over" if each.is_over else "",
            each.said,
        ]
        for each in figures
    ]
    return {
        **told_figures(figures),
        WORST: worst.name,
        FIGURE: float(worst.value),
        "table": dg.MetadataValue.md(table(["name", "figure", "limit", "method", "", "seen"], rows)),
        **{f"{FIGURE}: {each.name}": float(each.value) for each in figures},
    }


def _said(figure: Figure) -> str:
    more = f" ({figure.said})" if figure.said else ""
    return f"{figure.name}: {_short(figure.value)}, allowed are {_short(figure.limit)}{more}"


def _at_most(figures: Sequence[Figure]) -> str:
    return f"nothing is over its limit; nearest is {_said(figures[0])}"


def _short(number: float) -> str:
    return f"{number:,.4g}"
