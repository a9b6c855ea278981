"""What the backfill builds: payments of two years in a file a day, and one view of them. The folder stands in a variable."""

import os
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import duckdb
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureView, Registry, agg
from feature_store.loaders import parquet

FOLDER = "BENCHMARK_BACKFILL_DATA"
FIRST, DAYS, ENTITIES = date(2022, 1, 1), int(os.environ.get("BENCHMARK_BACKFILL_DAYS", "730")), 10_000
"""Fewer days, by a variable, are for a quick look at the benchmark itself."""
END = FIRST + timedelta(days=DAYS)


class Payment(pa.DataFrameModel):
    uid: Series[int]
    customer: Series[int]
    at: Series[Annotated[pd.DatetimeTZDtype, "us", "UTC"]]
    amount: Series[float] = pa.Field(ge=0)


def write(folder: Path, events: int) -> None:
    """A Parquet file for each day; a customer and an amount are hashes of the payment's number."""
    folder.mkdir(parents=True)
    for number in range(DAYS):
        first, end = events * number // DAYS, events * (number + 1) // DAYS
        start, step = (
            f"TIMESTAMPTZ '{FIRST + timedelta(days=number)} 00:00:00+00'",
            86_400_000_000 // max(end - first, 1),
        )
        duckdb.execute(
            f"""COPY (
                SELECT range AS uid, (hash(range) % {ENTITIES})::BIGINT AS customer,
                       {start} + to_microseconds((range - {first}) * {step}) AS at,
                       (hash(range + 1) % 100000)::DOUBLE / 100 AS amount
                FROM range({first}, {end})
            ) TO '{folder / f"{number:03}.parquet"}' (FORMAT parquet)"""
        )


def registry() -> Registry:
    """Daily and weekly sums of each customer."""
    payments = EventSource(
        "payments", schema=Payment, event_time="at", event_id="uid", history_start=FIRST,
        load=parquet(f"{os.environ[FOLDER]}/*.parquet"),
    )  # fmt: skip
    spending = FeatureView(
        "spending", entity=Entity("customer", join_keys=["customer"]), source=payments,
        features=[agg.count(over="7d"), agg.sum("amount", over=["7d", "30d"]), agg.max("amount", over="30d")],
    )  # fmt: skip
    return Registry(views=[spending])
