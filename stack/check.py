"""`python -m feature_store_deploy.stack.check`: the checks that no load triggers, evaluated now, in Dagster's books like any other."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence

from feature_store_deploy.checks.evaluate import Verdict, evaluate_checks
from feature_store_deploy.checks.schedules import KINDS
from feature_store_deploy.checks.window import Days
from feature_store_deploy.stack.definitions import build_definitions
from rich.console import Console

from feature_store.errors import FeatureStoreError, InputError
from feature_store.registry import load_registry
from feature_store.settings import Settings


def check(settings: Settings, kinds: Sequence[str], *, days: Days | None) -> int:
    """Evaluate checks and say what came of them; returns the exit code: 1 if one failed that is more than a warning.

    Raises:
        UnknownNameError: no such kind.
        FeatureStoreError: a check could not be evaluated.
    """
    logging.getLogger("dagster").setLevel(logging.ERROR)
    registry = load_registry(settings.declarations)
    verdicts = evaluate_checks(build_definitions(registry, settings), settings, jobs=kinds or KINDS, days=days)
    console = Console(highlight=False, soft_wrap=True)
    for verdict in verdicts:
        if not verdict.passed:
            console.print(
                f"[red]{verdict.severity.lower()}[/red]  {verdict.asset} {verdict.check}: {verdict.description}"
            )
    console.print(summary(verdicts))
    return int(any(not verdict.passed and verdict.severity == "ERROR" for verdict in verdicts))


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many checks of each name passed.

    >>> summary([Verdict(asset="a", check="drift", passed=True, severity="WARN", description="")])
    'drift 1 of 1 passed'
    """
    passed = Counter(verdict.check for verdict in verdicts if verdict.passed)
    return ", ".join(
        f"{name} {passed[name]} of {count} passed" for name, count in Counter(each.check for each in verdicts).items()
    )


def main() -> int:
    """Run what the command line names; exit code 2 with one clear line if it cannot."""
    parser = argparse.ArgumentParser(prog="feature-store check")
    parser.add_argument("--days")
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    try:
        return check(Settings(), options.kinds, days=_days(options.days))
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _days(text: str | None) -> Days | None:
    try:
        return None if text is None else Days.parse(text)
    except ValueError as error:
        raise InputError(f"`--days` must be days such as '2013-03-01/2013-03-31', got {text!r}") from error


if __name__ == "__main__":
    sys.exit(main())
