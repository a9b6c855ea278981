"""`demo`, `up`, `backfill` and `stream`: commands that start programs of the layers above this one."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from typing import Annotated

import typer

Start = Annotated[datetime, typer.Option(help="First day, UTC", formats=["%Y-%m-%d"])]
End = Annotated[datetime, typer.Option(help="Day after the last one, UTC", formats=["%Y-%m-%d"])]


def demo() -> None:
    """Run the whole pipeline on the flights of 2013, from loading to proof."""
    _become("demo")


def up() -> None:
    """Run the long-lived stack until Ctrl-C: Valkey, Dagster, stream, archiver, live replay."""
    _become("stack")


def stream(
    *, archive: Annotated[bool, typer.Option(help="Run the archiver, which brings the log to the lake")] = False
) -> None:
    """Run the stream: keep the online values fresh until stopped."""
    _become("streams", "archive" if archive else "flow")


def backfill(
    assets: Annotated[list[str] | None, typer.Argument(help="Assets such as events/departures; all by default")] = None,
    *,
    start: Start,
    end: End,
) -> None:
    """Backfill daily partitions through Dagster, as the UI does."""
    _become("assets.backfill", f"--start={start:%Y-%m-%d}", f"--end={end:%Y-%m-%d}", *(assets or ()))


def _become(module: str, *arguments: str) -> None:
    """Run a module in this project's folder; Ctrl-C reaches it first, and its exit code is ours."""
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))  # noqa: PTH109
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:
            continue  # the child got it too and is shutting down
