"""`costs`: what each feature takes up, and who reads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.looks import age, counted, plain_table, size
from feature_store.costs.report import DAYS, Costs, FeatureCost
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """How the answer looks."""

    text = "text"
    json = "json"


def costs(
    *,
    days: Annotated[int, typer.Option(help="Count reads of so many days", min=1)] = DAYS,
    unused: Annotated[bool, typer.Option("--unused", help="Only features that nobody names and nobody reads")] = False,
    shape: Annotated[Format, typer.Option("--format", help="text or json")] = Format.text,
) -> None:
    """Show what each feature takes in Redis and in the lake, how often it is read, and which are not used at all."""
    with FeatureStore() as store:
        found, now_us = store.costs(days=days), store.clock.now_us()
    chosen = found.unused if unused else list(found.features)
    if shape is Format.json:
        typer.echo(json.dumps(asdict(found) | {"features": [asdict(each) for each in chosen]}, indent=2))
        return
    console = Console(highlight=False)
    if unused:
        console.print(_unused(found))
    else:
        console.print(_features(chosen, now_us, title=f"Features, reads of the last {counted(days, 'day')}"))
        console.print(_sources(found))
    _tell(Console(highlight=False, soft_wrap=True), found, unused=unused)


def _features(chosen: list[FeatureCost], now_us: int, *, title: str) -> Table:
    table = plain_table("feature", "Redis", "lake", "reads", "last read", "in", title=title)
    for column in table.columns[1:4]:
        column.justify = "right"
    for view, of_view in groupby(chosen, key=lambda each: each.feature.partition(":")[0]):
        rows = list(of_view)
        table.add_row(
            view, size(sum(each.redis_bytes for each in rows)), size(sum(each.lake_bytes for each in rows)), "", "", ""
        )
        for each in rows:
            reads = f"~{each.reads:,}" if each.use == "read" else "?" if each.use == "not known" else "0"
            last = "-" if each.last_read_us is None else age(now_us - each.last_read_us)
            name = f"  {each.feature.partition(':')[2]}"
            table.add_row(name, size(each.redis_bytes), size(each.lake_bytes), reads, last, _used_by(each))
    return table


def _used_by(each: FeatureCost) -> str:
    sets = [counted(len(each.training_sets), "training set")] if each.training_sets else []
    return ", ".join([*each.services, *sets]) or "nothing"


def _unused(found: Costs) -> Table:
    table = plain_table("feature", "Redis", "lake", title="Unused features")
    for each in found.unused:
        table.add_row(each.feature, size(each.redis_bytes), size(each.lake_bytes))
    if not table.row_count:
        table.add_row("none", "", "")
    return table


def _sources(found: Costs) -> Table:
    table = plain_table("source", "in the lake", title="Events, for all views")
    for name, count in found.sources.items():
        table.add_row(name, size(count))
    return table


def _tell(console: Console, found: Costs, *, unused: bool) -> None:
    total = sum(each.redis_bytes for each in found.features) + sum(found.undeclared.values())
    entities = "1 entity" if found.hashes == 1 else f"{found.hashes:,} entities"
    console.print(f"Redis: {size(total)} for {entities}, {found.weighed:,} of them weighed")
    for view, count in found.undeclared.items():
        console.print(
            f"  {view}: {size(count)}, not declared here (`feature-store housekeeping retired keys --dry-run`)"
        )
    idle = [each.feature for each in found.features if each.use == "not read"]
    if idle and not unused:
        console.print(f"not read in these days, though something names them: {', '.join(idle)}")
    if found.unused and not unused:
        console.print(f"unused: {', '.join(each.feature for each in found.unused)}")
