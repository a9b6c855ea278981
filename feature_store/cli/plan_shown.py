"""How a plan looks: tables in a terminal, Markdown in a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from feature_store.cli.looks import counted, plain_table

if TYPE_CHECKING:
    from feature_store.changing.planned import Planned
    from feature_store.changing.probe import Cost

COSTS = ("to build", "partitions", "rows to read", "seconds", "entities", "Redis bytes")


def show(found: Planned) -> None:
    """Print a plan."""
    console = Console(highlight=False)
    if found.changes:
        table = plain_table("change", "what", "")
        for change in found.changes:
            kind = f"[red]{change.kind}, breaking[/red]" if change.breaking else change.kind
            table.add_row(kind, change.what, change.reason)
        console.print(table)
    if found.costs:
        table = plain_table(*COSTS)
        for column in table.columns[1:]:
            column.justify = "right"
        for view, cost in found.costs.items():
            table.add_row(view, *_figures(cost))
        console.print(table)
    for line in (*_notes(found), _summary(found)):
        console.print(line, soft_wrap=True, markup=False)


def markdown(found: Planned) -> str:
    """A plan as Markdown."""
    lines = ["### Features", ""]
    if found.changes:
        lines += ["| change | what | |", "| --- | --- | --- |"]
        for change in found.changes:
            lines.append(
                f"| {change.kind}{', **breaking**' if change.breaking else ''} | `{change.what}` | {change.reason} |"
            )
        lines.append("")
    if found.costs:
        lines += [_row(COSTS), _row(["---", *["---:"] * (len(COSTS) - 1)])]
        lines += [_row([f"`{view}`", *_figures(cost)]) for view, cost in found.costs.items()]
        lines.append("")
    lines += [f"{line}\n" for line in _notes(found)]
    return "\n".join([*lines, _summary(found)])


def _figures(cost: Cost) -> Sequence[str]:
    figures = (cost.days, cost.rows, max(round(cost.seconds), 1 if cost.days else 0), cost.entities, cost.redis_bytes)
    return [f"{figure:,}" for figure in figures]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(found: Planned) -> Iterator[str]:
    if found.services:
        yield f"services affected: {', '.join(found.services)}"
    for name, others in found.same.items():
        yield f"{name} means the same as {', '.join(others)}"
    for view, cost in found.costs.items():
        if not cost.days:
            yield f"{view}: the lake has no events of its source yet, so nothing can be said of what it takes"


def _summary(found: Planned) -> str:
    unchanged = counted(len(found.unchanged), "feature") + " unchanged"
    at = "" if found.version is None else f"; registry version {found.version}"
    if not found.changes:
        return f"nothing changes{'' if found.version is None else f', {unchanged}'}{at}"
    kinds = Counter(change.kind for change in found.changes)
    breaking = sum(change.breaking for change in found.changes)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{counts}; {breaking} breaking{'' if found.version is None else f'; {unchanged}'}{at}"
