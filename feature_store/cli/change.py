"""`export` and `plan`: declarations compared with those of another deployment, from a file, without credentials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feature_store.changes import Change, compare, meanings, read_meanings
from feature_store.cli.looks import plain_table
from feature_store.errors import InputError
from feature_store.registry import load_registry
from feature_store.settings import Settings

BREAKING = 3
"""The exit code of `plan` when a change is breaking."""


def export() -> None:
    """Print what the declared features and services mean, as JSON: keep it, and `plan` compares with it."""
    typer.echo(meanings(load_registry(Settings().declarations)).to_json(), nl=False)


def plan(
    *,
    against: Annotated[Path, typer.Option(help="What `feature-store export` printed where things are served")],
    format: Annotated[str, typer.Option(help="text, or markdown for pull requests")] = "text",  # noqa: A002
) -> None:
    """Show what the declarations of this folder would change. Exit code 3 if a change is breaking."""
    if format not in ("text", "markdown"):
        raise InputError(f"`--format` must be 'text' or 'markdown', got '{format}'")
    changes = compare(read_meanings(against), meanings(load_registry(Settings().declarations)))
    if format == "markdown":
        typer.echo(_markdown(changes))
    else:
        _show(changes)
    if any(change.breaking for change in changes):
        raise typer.Exit(BREAKING)


def _show(changes: Sequence[Change]) -> None:
    console = Console(highlight=False)
    if changes:
        table = plain_table("change", "what", "")
        for change in changes:
            table.add_row(
                f"[red]{change.kind}, breaking[/red]" if change.breaking else change.kind, change.what, change.reason
            )
        console.print(table)
    console.print(_summary(changes), soft_wrap=True)


def _markdown(changes: Sequence[Change]) -> str:
    rows = [
        f"| {change.kind}{', **breaking**' if change.breaking else ''} | `{change.what}` | {change.reason} |"
        for change in changes
    ]
    table = ["| change | what | |", "| --- | --- | --- |", *rows, ""] if rows else []
    return "\n".join(["### Features", "", *table, _summary(changes)])


def _summary(changes: Sequence[Change]) -> str:
    if not changes:
        return "nothing changes"
    kinds = Counter(change.kind for change in changes)
    breaking = sum(change.breaking for change in changes)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + f"; {breaking} breaking"
