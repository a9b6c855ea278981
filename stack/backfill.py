"""`python -m feature_store_deploy.stack.backfill`: daily partitions of some assets, by a Dagster backfill that the web UI shows too."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
from feature_store_deploy.assets.backfill import Asked, Span, run_backfill
from feature_store_deploy.assets.keys import events_key, history_key
from feature_store_deploy.assets.partitions import first_day
from feature_store_deploy.assets.resume import Unfinished
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feature_store.cli.looks import counted
from feature_store.errors import FeatureStoreError, InputError, UnknownNameError
from feature_store.registry import Registry, load_registry
from feature_store.settings import PREFIX, Settings
from feature_store.time_rule import from_us


def asset_names(registry: Registry, env: str) -> dict[str, dg.AssetKey]:
    """What can be backfilled: `events/<source>`, and `tiles/<view>` or `rows/<view>`."""
    keys = [events_key(env, source) for source in registry.sources.values() if source.load is not None]
    keys += [history_key(env, view) for view in registry.views]
    return {"/".join(key.path[1:]): key for key in keys}


def backfill(settings: Settings, names: Sequence[str], *, start: date, end: date) -> int:
    """Run a backfill of the days in [start, end) and say what came of it; returns the exit code.

    Raises:
        UnknownNameError: no such asset.
        InputError: there is no day between start and end, or not all of them can have data.
    """
    registry = load_registry(settings.declarations)
    known = asset_names(registry, settings.environment)
    for name in names:
        if name not in known:
            raise UnknownNameError("asset", name, known)
    _check_days(start, end, first=first_day(registry.sources.values()), today=_today(settings))
    assets = [known[name] for name in names] or None
    asked = Span(start=start, end=end, assets=assets, title="feature-store backfill")
    return _follow(settings, asked, f"{start} to {end - timedelta(days=1)}")


def resumed(settings: Settings, name: str) -> int:
    """Go on with a backfill, by its id or `last`, and say what came of it; returns the exit code.

    Raises:
        InputError: there is no such backfill, or nothing is left of it.
    """
    return _follow(settings, Unfinished(name), "resumed")


def _follow(settings: Settings, asked: Asked, what: str) -> int:
    # The processes of the runs read their settings from the environment.
    os.environ[f"{PREFIX}HOME"] = str(settings.home.absolute())
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("partitions", total=None)
        done = run_backfill(
            settings, asked, on_progress=lambda now: progress.update(task, total=now.total, completed=now.done)
        )
    if not done.ok:
        raise FeatureStoreError(
            f"backfill {done.backfill_id} ({what}): {done.total - done.done} of {done.total} partitions were not built; "
            f"the web UI of `feature-store up` shows why; `feature-store backfill --resume {done.backfill_id}` goes on"
        )
    console.print(
        f"{what}: {counted(done.done, 'partition')} in {counted(done.runs_done, 'run')}, {done.seconds:.0f} s"
    )
    return 0


def _check_days(start: date, end: date, *, first: date, today: date) -> None:
    if start >= end:
        raise InputError(f"`--start` must lie before `--end`, got {start} and {end}")
    if start < first:
        raise InputError(f"`--start` must not lie before {first}, where the history of the sources begins, got {start}")
    if end > today + timedelta(days=1):
        raise InputError(
            f"`--end` must not lie after {today + timedelta(days=1)}, because today is the last day, got {end}"
        )


def _today(settings: Settings) -> date:
    return from_us(settings.clock.now_us()).date()


def main() -> int:
    """Run what the command line names; exit code 2 with one clear line if it cannot."""
    parser = argparse.ArgumentParser(prog="feature-store backfill")
    parser.add_argument("--resume")
    parser.add_argument("--start", type=date.fromisoformat)
    parser.add_argument("--end", type=date.fromisoformat)
    parser.add_argument("assets", nargs="*")
    options = parser.parse_args()
    try:
        if options.resume is not None:
            return resumed(Settings(), options.resume)
        return backfill(Settings(), options.assets, start=options.start, end=options.end)
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
