"""What a declaration makes of a check: how severe it is, and whether anything waits for it."""

from collections.abc import Mapping

import dagster as dg
from feature_store_deploy.checks.declared import spec_metadata

from feature_store.declare import EventSource, FeatureService, FeatureView
from feature_store.declare.check import Check, declared_check

Declared = EventSource | FeatureView | FeatureService

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
_WARNINGS = ("range", "categories", "drift")
"""Seasons move what these look at, so by default they are no reason to stop."""
_BLOCKING = ("schema",)


def check_of(declared: Declared, name: str) -> Check | None:
    """What is declared of a check; None: there is none."""
    return declared_check(declared.checks, name, {} if isinstance(declared, FeatureService) else declared.drift)


def checks_of(declared: Declared, names: tuple[str, ...]) -> Mapping[str, Check]:
    """Those of some checks that there are."""
    found = {name: check_of(declared, name) for name in names}
    return {name: check for name, check in found.items() if check is not None}


def severity_of(name: str, check: Check) -> dg.AssetCheckSeverity:
    """How severe it is if the check is red."""
    if check.severity is None:
        return WARN if name in _WARNINGS and not check.blocking else ERROR
    return ERROR if check.severity == "error" else WARN


def is_blocking(name: str, check: Check) -> bool:
    """Whether what is built in the same run waits for it."""
    return name in _BLOCKING and check.severity != "warn" if check.blocking is None else check.blocking


def spec_of(key: dg.AssetKey, name: str, check: Check, *, description: str, owner: str | None) -> dg.AssetCheckSpec:
    """A check of an asset, as declared."""
    return dg.AssetCheckSpec(
        name, asset=key, description=description, metadata=spec_metadata(owner), blocking=is_blocking(name, check)
    )


def as_declared(result: dg.AssetCheckResult, name: str, check: Check) -> dg.AssetCheckResult:
    """A result with the severity that is declared."""
    return result._replace(severity=severity_of(name, check))
