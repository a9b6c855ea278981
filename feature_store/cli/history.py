"""`materialize` and `training-set`: the commands over the lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.days import Day, day
from feature_store.cli.looks import counted
from feature_store.errors import InputError
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.history.training import TrainingSet


def materialize(
    view: Annotated[str, typer.Argument(help="A view, `name` or `name@version`")],
    *,
    start: Annotated[str, typer.Option(help="First day, UTC", metavar="YYYY-MM-DD")],
    end: Annotated[str, typer.Option(help="Day after the last one, UTC", metavar="YYYY-MM-DD")],
) -> None:
    """Build days of a view in the lake: tiles of a stream view, rows of a batch view."""
    first, last = day(start, name="--start"), day(end, name="--end")
    if first >= last:
        raise InputError(f"`--start` must lie before `--end`, got {start} and {end}")
    with FeatureStore() as store:
        declared = store.registry.view(view)
        _check_events(store, declared, first, last)
        commits = store.materialize(view, start=first, end=last)
    rows, days = sum(commit.rows for commit in commits), sum(len(commit.days) for commit in commits)
    kind = "row" if declared.is_batch else "tile"
    Console(highlight=False).print(f"{declared.id}: {counted(rows, kind)} in {counted(days, 'day')}")


def _check_events(store: FeatureStore, view: FeatureView, start: Day, end: Day) -> None:
    """Refuse days for which the lake was never given events: their features would say that nothing happened."""
    source = view.source.name
    known = store.lake.days(source).known
    span = view.longest_window_us if view.is_batch else 0
    earliest = None if span is None else from_us(to_us(start) - span).date()
    if any((earliest is None or earliest <= known_day) and known_day < end.date() for known_day in known):
        return
    has = f"it has {known[0]} to {known[-1]}" if known else "it has none"
    days = f"{start:%Y-%m-%d} to {end - timedelta(days=1):%Y-%m-%d}"
    remedy = f"`feature-store backfill events/{source} --start {start:%Y-%m-%d} --end {end:%Y-%m-%d}`"
    way = f"load it first: {remedy}" if view.source.load is not None else "stream it first"
    raise InputError(f"view '{view.id}': the lake was given no events of source '{source}' for {days} ({has}); {way}")


def training_set(
    service: Annotated[str, typer.Argument(help="A feature service, `name` or `name@version`")],
    *,
    spine: Annotated[Path, typer.Option(help="Parquet file with the join keys and the time of each row")],
    out: Annotated[Path, typer.Option(help="Parquet file to write; its manifest stands beside it")],
    time_column: Annotated[str, typer.Option(help="The spine's column of times")] = "event_timestamp",
    label: Annotated[list[str] | None, typer.Option(help="A label to add as a column; may be given again")] = None,
    knowledge: Annotated[str, typer.Option(help="served: what was known then; corrected: all events")] = "served",
    allow_incomplete: Annotated[bool, typer.Option(help="Answer rows that are later than the lake")] = False,
    knowledge_report: Annotated[
        bool, typer.Option(help="Say how events were known, and what hindsight changes")
    ] = False,
) -> None:
    """Write a point-in-time correct training set: one row per row of the spine, in its order."""
    if knowledge not in ("served", "corrected"):
        raise InputError(f"`--knowledge` must be 'served' or 'corrected', got '{knowledge}'")
    _check_files(spine, out)
    with FeatureStore() as store:
        declared = store.registry.service(service)
        try:
            found = store.get_historical_features(
                spine,
                declared,
                time_column=time_column,
                knowledge="served" if knowledge == "served" else "corrected",
                allow_incomplete=allow_incomplete,
                labels=label or (),
            )
        except InputError as error:
            # The library names its argument; here it is an option.
            raise InputError(str(error).replace("say allow_incomplete=True", "give --allow-incomplete")) from error
        store.pin(found.manifest)
    _write(found, out)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_summary(out, len(found), found.feature_columns))
    for name, count in found.manifest.labels.items():
        console.print(f"label {name}: {counted(count, 'row')} null because the window has not closed")
    if knowledge_report:
        console.print(str(found.manifest.known))


def _check_files(spine: Path, out: Path) -> None:
    if not spine.is_file():
        raise InputError(f"`--spine` must be a Parquet file, but there is no file '{spine}'")
    if out.suffix != ".parquet":
        raise InputError(f"`--out` must end in .parquet, got '{out}'")


def _write(found: TrainingSet, out: Path) -> None:
    """Whole or not at all: the rows are moved into place once they are written."""
    import pyarrow.parquet as pq

    scratch = out.with_name(f".{out.name}.writing")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(found.to_arrow(), scratch)
        out.with_suffix(".json").write_text(found.manifest.to_json())
        scratch.replace(out)
    except OSError as error:
        raise InputError(f"`--out`: '{out}' cannot be written: {error.strerror or error}") from error


def _summary(out: Path, rows: int, features: Sequence[str]) -> str:
    return f"{out}: {counted(rows, 'row')}, {counted(len(features), 'feature')}; manifest {out.with_suffix('.json')}"
