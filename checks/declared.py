"""What every check says of itself: its asset's owner, and which days it looked at."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from feature_store_deploy.checks.window import Days

DAYS = "days"
"""Metadata of an evaluation: the days it is about, as `Days.parse` reads them. An alert recovers when they pass."""
OWNER = "owner"


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
) -> dg.AssetCheckResult:
    """The result of a check."""
    told: dict[str, Any] = {OWNER: owner or "nobody", **({DAYS: str(days)} if days else {}), **(metadata or {})}
    return dg.AssetCheckResult(passed=passed, severity=severity, description=description, metadata=told)
