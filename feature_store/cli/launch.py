"""`init`, `demo`, `up`, `backfill`, `check` and `stream`: commands that start programs of the layers above this one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from feature_store.cli.days import Day, day
from feature_store.cli.outcome import NAME, outcome
from feature_store.errors import InputError

_BROUGHT = {"embedded": "honcho", "stream": "bytewax", "dagster": "dagster", "serve": "uvicorn"}
"""Extra -> a module that comes with it."""


def init(name: Annotated[str, typer.Argument(help="The project, and the folder that is made for it")]) -> None:
    """Write a small project of your own: declarations, tests, Dagster's definitions, what `up` runs."""
    _deploy("stack.init", name)


def demo() -> None:
    """Run the whole pipeline on the flights of 2013, from loading to proof."""
    if importlib.util.find_spec("demo") is None:
        raise InputError(f"the demo is a program of the feature-store repository, which '{Path.cwd()}' is not")
    _become("demo")


def up(
    *,
    procfile: Annotated[Path, typer.Option(help="What to run")] = Path("Procfile"),
    verbose: Annotated[bool, typer.Option(help="Show also what the processes say in passing")] = False,
) -> None:
    """Run the long-lived stack until Ctrl-C: Valkey, Dagster, stream, archiver, live replay."""
    _deploy("stack", f"--procfile={procfile}", *(["--verbose"] if verbose else []), extra="embedded")


def stream(
    *, archive: Annotated[bool, typer.Option(help="Run the archiver, which brings the log to the lake")] = False
) -> None:
    """Run the stream: keep the online values fresh until stopped."""
    _deploy("streams", "archive" if archive else "flow", extra="stream")


def backfill(
    assets: Annotated[
        list[str] | None, typer.Argument(help="events/<source>, tiles/<view>, rows/<view>; all by default")
    ] = None,
    *,
    start: Annotated[str | None, typer.Option(help="First day, UTC", metavar="YYYY-MM-DD")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last one, UTC", metavar="YYYY-MM-DD")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with a backfill that was stopped: its id, or `last`", metavar="ID")
    ] = None,
) -> None:
    """Load and build daily partitions through Dagster, as the web UI does, or go on with what was stopped."""
    if resume is not None:
        if assets or start or end:
            raise InputError(
                "`--resume` goes on with what a backfill was asked for, without assets, `--start` or `--end`"
            )
        _deploy("stack.backfill", f"--resume={resume}", extra="dagster")
    if start is None or end is None:
        raise InputError("`--start` and `--end` must be given, or `--resume` to go on with a backfill")
    days: tuple[Day, Day] = (day(start, name="--start"), day(end, name="--end"))
    _deploy(
        "stack.backfill",
        f"--start={days[0]:%Y-%m-%d}",
        f"--end={days[1]:%Y-%m-%d}",
        "--",
        *(assets or ()),
        extra="dagster",
    )


def check(
    kinds: Annotated[
        list[str] | None, typer.Argument(help="watch (freshness and parity), skew, drift, upkeep; all by default")
    ] = None,
    *,
    days: Annotated[
        str | None, typer.Option(help="What drift looks at; by default the newest days", metavar="DAY/DAY")
    ] = None,
) -> None:
    """Evaluate the checks that schedules run, now. Exit code 1 if one fails that is more than a warning."""
    _deploy("stack.check", *(["--days", days] if days else []), "--", *(kinds or ()), extra="dagster")


def _deploy(module: str, *arguments: str, extra: str | None = None) -> NoReturn:
    """Become a program of a deployment, which may need what an extra brings.

    Raises:
        InputError: the extra is not installed.
    """
    if extra is not None:
        needs(extra)
    _become(f"feature_store_deploy.{module}", *arguments)


def needs(extra: str) -> None:
    """Refuse a command whose extra is not installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(_BROUGHT[extra]) is None:
        raise InputError(f"this command needs the extra `{extra}`: install feature-store[cli,{extra}]")


def _become(module: str, *arguments: str) -> NoReturn:
    """Become a program: its exit code is ours, and so are the signals that we get. It finds the working folder's modules."""
    path = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606 - no shell is wanted


def starts(given: list[str]) -> bool:
    """Whether the command that is given only starts a program, which loads for itself what it needs."""
    return bool(given) and given[0] in {command.__name__ for command in _COMMANDS}


def run(given: list[str]) -> int:
    """Run such a command; returns the exit code, if it comes back."""
    app = typer.Typer(name=NAME, pretty_exceptions_enable=False, add_completion=False)
    for command in _COMMANDS:
        app.command()(command)
    return outcome(app, given)


_COMMANDS: tuple[Callable[..., None], ...] = (init, demo, up, backfill, check, stream)
