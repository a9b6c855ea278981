"""The checks of the demo, at a moment of its own time: Dagster evaluates them and keeps what they said in its books."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing import get_context

from feature_store_deploy.checks.evaluate import Verdict, evaluate_checks
from feature_store_deploy.checks.schedules import DRIFT, WATCH
from feature_store_deploy.checks.window import Days
from feature_store_deploy.stack.definitions import build_definitions

from demo.stage import Stage
from feature_store.clock import ManualClock
from feature_store.registry import load_registry
from feature_store.settings import Settings
from feature_store.time_rule import to_us


def say_checks(stage: Stage, verdicts: list[Verdict]) -> None:
    """One line for each kind of check, and one for each that is not green."""
    for name in dict.fromkeys(verdict.check for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.check == name]
        stage.say(f"check {name:<22} {sum(verdict.passed for verdict in mine)} of {len(mine)} green")
    for verdict in verdicts:
        if not verdict.passed:
            stage.say(f"[red]not green[/red] {verdict.asset} {verdict.check}: {verdict.description}")


def watch(at: datetime) -> list[Verdict]:
    """Freshness and online parity of every view, as things stand at a moment."""
    return _evaluate(WATCH, at, None)


@contextmanager
def drift_aside(stage: Stage, at: datetime) -> Iterator[None]:
    """Compare the newest days before a moment with those before them, in a process beside the body; then say what it found.

    Evidently takes a while, and the stepped days leave a processor free.
    """
    days = Days.up_to((at - timedelta(days=1)).date(), stage.settings.drift_days)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(_evaluate, DRIFT, at, days)
        yield
        say_checks(stage, found.result())


def _evaluate(kind: str, at: datetime, days: Days | None) -> list[Verdict]:
    logging.getLogger("dagster").setLevel(logging.ERROR)
    settings = Settings()
    definitions = build_definitions(load_registry(settings.declarations), settings, clock=ManualClock(to_us(at)))
    return evaluate_checks(definitions, settings, jobs=[kind], days=days)
