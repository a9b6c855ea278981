"""The checks of the demo, at a moment of its own time: Dagster evaluates them and keeps what they said in its books."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
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


def say_checks(stage: Stage, what: str, verdicts: list[Verdict]) -> None:
    """How many checks of each kind are green, and which are not."""
    said = []
    for name in dict.fromkeys(verdict.check for verdict in verdicts):
        mine = [verdict.passed for verdict in verdicts if verdict.check == name]
        said.append(f"{name} {sum(mine)} of {len(mine)}")
    stage.say(f"checks of {what}, green: {', '.join(said)}")
    red = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in red:
        stage.say(f"not green: {verdict.asset} {verdict.check}: {verdict.description}")
    if red:
        stage.say("what is not green is unusual by its declared limits; docs/runbooks/<check>.md says what to look at")


def watch(at: datetime) -> list[Verdict]:
    """Freshness and online parity of every view, as things stand at a moment."""
    return _evaluate(WATCH, at, None)


@contextmanager
def drift_aside(at: datetime) -> Iterator[Callable[[], list[Verdict]]]:
    """Compare the newest days before a moment with those before them, in a process beside the body, which may ask what it found.

    Evidently takes a while, and models and stepped days leave a processor free.
    """
    days = Days.up_to((at - timedelta(days=1)).date(), Settings().drift_days)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(_evaluate, DRIFT, at, days)

        def verdicts() -> list[Verdict]:
            pool.shutdown()  # whose process is large
            return found.result()

        yield verdicts


def _evaluate(kind: str, at: datetime, days: Days | None) -> list[Verdict]:
    logging.getLogger("dagster").setLevel(logging.ERROR)
    settings = Settings()
    definitions = build_definitions(load_registry(settings.declarations), settings, clock=ManualClock(to_us(at)))
    return evaluate_checks(definitions, settings, jobs=[kind], days=days)
