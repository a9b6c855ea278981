"""`materialize` and `training-set`: the commands over the lake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console

from feature_store.errors import InputError
from feature_store.store import FeatureStore

Start = Annotated[datetime, typer.Option(help="First day, UTC", formats=["%Y-%m-%d"])]
End = Annotated[datetime, typer.Option(help="Day after the last one, UTC", formats=["%Y-%m-%d"])]


def materialize(
    view: Annotated[str, typer.Argument(help="A view, `name` or `name@version`")], *, start: Start, end: End
) -> None:
    """Build days of a view in the lake: tiles of a stream view, rows of a batch view."""
    with FeatureStore() as store:
        commits = store.materialize(view, start=start.replace(tzinfo=UTC), end=end.replace(tzinfo=UTC))
    rows, days = sum(commit.rows for commit in commits), sum(len(commit.days) for commit in commits)
    Console(highlight=False).print(f"{view}: {rows:,} rows in {days} days")


def training_set(
    service: Annotated[str, typer.Argument(help="A feature service, `name` or `name@version`")],
    *,
    spine: Annotated[Path, typer.Option(help="Parquet file with the join keys and the time of each row")],
    out: Annotated[Path, typer.Option(help="Parquet file to write")],
    time_column: Annotated[str, typer.Option(help="The spine's column of times")] = "event_timestamp",
    knowledge: Annotated[str, typer.Option(help="served: what was known then; corrected: all events")] = "served",
    allow_incomplete: Annotated[bool, typer.Option(help="Answer rows that are later than the lake")] = False,
) -> None:
    """Write a point-in-time correct training set: one row per row of the spine, in its order."""
    if knowledge not in ("served", "corrected"):
        raise InputError(f"`--knowledge` must be 'served' or 'corrected', got '{knowledge}'")
    with FeatureStore() as store:
        found = store.get_historical_features(
            spine,
            store.registry.service(service),
            time_column=time_column,
            knowledge="served" if knowledge == "served" else "corrected",
            allow_incomplete=allow_incomplete,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(found.to_arrow(), out)
    Console(highlight=False).print(f"{out}: {len(found):,} rows, {len(found.feature_columns)} features")
