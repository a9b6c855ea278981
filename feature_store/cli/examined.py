"""`doctor`: what a deployment stands on."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from feature_store.cli.looks import counted
from feature_store.doctor import examine
from feature_store.doctor.finding import State
from feature_store.settings import Settings

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "bold red"}


def doctor() -> None:
    """Look at what this deployment stands on, and say what to do where something is wrong. Exit code 1 if there is a problem."""
    console = Console(highlight=False, soft_wrap=True)
    counts = dict.fromkeys(State, 0)
    for each in examine(Settings()):
        counts[each.state] += 1
        console.print(
            Text.assemble((f"{each.state.name.lower():<9}", _STYLES[each.state]), f"{each.part:<14}{each.said}")
        )
        if each.do:
            console.print(Text(f"{'':<9}{'':<14}-> {each.do}"))
    problems, warnings = counts[State.PROBLEM], counts[State.WARNING]
    console.print(
        f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}" if problems or warnings else "all is well"
    )
    if problems:
        raise typer.Exit(1)
