"""`housekeeping`: what nothing needs any more goes, or would go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import counted, plain_table, size
from feature_store.errors import FeatureStoreError
from feature_store.housekeeping.task import SNAPSHOT_DAYS, Options, Tidied
from feature_store.housekeeping.tasks import TASKS, housekeep
from feature_store.store import FeatureStore

_LISTED = 10


def housekeeping(
    what: Annotated[
        list[str] | None, typer.Argument(help=f"Which of {', '.join(TASKS)}; all by default", metavar="[WHAT]...")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go")] = False,
    days: Annotated[int, typer.Option(help="Keep every snapshot of so many days", min=0)] = SNAPSHOT_DAYS,
    environment: Annotated[
        list[str] | None, typer.Option(help="Another environment of this lake, whose old snapshots go too; repeatable")
    ] = None,
    retire: Annotated[
        bool, typer.Option("--retire", help="Retire views and services that are declared no more and nothing uses")
    ] = False,
) -> int:
    """Give back what nothing needs any more, and say what stays and why. Exit code 2 if a task could not be done."""
    options = Options(dry_run=dry_run, days=days, environments=environment or (), retire=retire)
    console = Console(highlight=False, soft_wrap=True)
    failed: list[tuple[str, FeatureStoreError]] = []
    done: list[Tidied] = []
    with FeatureStore() as store:
        for name, found in housekeep(store, options, what or ()):
            if isinstance(found, FeatureStoreError):
                failed.append((name, found))
            else:
                done.append(found)
    done_to = ": a dry run, nothing was changed" if dry_run else ""
    console.print(f"environment {store.settings.environment}{done_to}")
    table = plain_table("task", "would go" if dry_run else "gone")
    for each in done:
        table.add_row(each.task, _told(each))
    for name, _ in failed:
        table.add_row(name, "not done")
    Console(highlight=False).print(table)
    _list(console, "would go" if dry_run else "gone", done, [list(each.details.items()) for each in done])
    _list(console, "kept", done, [each.kept for each in done])
    for name, error in failed:
        console.print(f"{name}: {error}", markup=False)
    return 2 if failed else 0


def _told(done: Tidied) -> str:
    parts = [
        size(count) if what == "bytes" else counted(count, what.removesuffix("s"))
        for what, count in done.figures.items()
        if count
    ]
    return ", ".join(parts) or "nothing"


def _list(console: Console, title: str, done: Sequence[Tidied], of: Sequence[Sequence[tuple[str, str]]]) -> None:
    """What each task names, the first of it."""
    if any(of):
        console.print(f"{title}:")
    for task, rows in zip(done, of, strict=True):
        for what, why in rows[:_LISTED]:
            console.print(f"  {task.task:<9}  {what}: {why}", markup=False)
        if len(rows) > _LISTED:
            console.print(f"  {task.task:<9}  and {len(rows) - _LISTED} more")
