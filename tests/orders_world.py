"""A shop whose days are alike unless a test breaks one: five weeks of orders under Dagster, for checks of values."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
from dagster_world import evaluations, run
from feature_store_deploy.stack.definitions import build_definitions
from lake_rows import begun
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.clock import ManualClock
from feature_store.time_rule import to_us

FIRST, DAYS, A_DAY = date(2024, 3, 1), 35, 150
Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Order(pa.DataFrameModel):
    order_id: Series[str]
    shop: Series[str]
    ordered: Series[Time]
    amount: Series[float] = pa.Field(nullable=True)
    kind: Series[str] = pa.Field(nullable=True)


def day(number):
    return FIRST + timedelta(days=number)


def midnight(number):
    return datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=number)


def orders(number, *, count=A_DAY):
    """A day's orders: amounts of about 100 ± 20, of three kinds, one in a hundred without an amount."""
    draw = np.random.default_rng([7, number])
    amounts = draw.normal(100, 20, count).tolist()
    return [
        {
            "order_id": f"{number}-{n}",
            "shop": f"s{n % 10}",
            "ordered": midnight(number) + timedelta(seconds=n * 86_400 // count),
            "amount": None if n % 100 == 7 else amounts[n],
            "kind": ("web", "web", "app", "phone")[n % 4],
        }
        for n in range(count)
    ]


class Shop:
    """The deployment; `change` rewrites a day's rows before they are loaded."""

    def __init__(self, home, *, source=None, view=None, service=None, **settings):
        self.change, self.home = {}, home
        declared = EventSource(
            "orders", schema=Order, event_time="ordered", event_id="order_id", load=self.load, history_start=FIRST,
            owner="team:shop", description="One event per order", **(source or {}),
        )  # fmt: skip
        features = [agg.count(over="1d"), agg.mean("amount", over="1d"), agg.last("kind", over="1d", name="kind")]
        spending = FeatureView(
            "spending", entity=Entity("shop", join_keys=["shop"]), source=declared, owner="team:shop", online=None,
            description="What a shop takes in", **{"features": features, **(view or {})},
        )  # fmt: skip
        priced = FeatureService("pricing", features=[spending], owner="team:ml", **(service or {}))
        self.registry = Registry(views=[spending], services=[priced])
        self.settings = Settings(home=begun(home, "dev"), redis_url="redis://127.0.0.1:1/0", **settings)
        self.clock = ManualClock(to_us(midnight(DAYS)))
        self.definitions = build_definitions(self.registry, self.settings, clock=self.clock)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(home))

    def load(self, start, end):
        numbers = range((start.date() - FIRST).days, (end.date() - FIRST).days)
        rows = [row for n in numbers for row in self.change.get(n, lambda rows: rows)(orders(n))]
        return arrow.Table.from_pylist(rows, schema=SCHEMA)

    def store(self):
        return FeatureStore(self.registry, settings=self.settings, clock=self.clock)

    def run(self, *keys, first=None, last=None, checks=None, succeeds=True, **options):
        """Load or build days with their checks, or evaluate checks alone; returns what was said."""
        chosen = {dg.AssetKey(["dev", *key.split("/")]) for key in keys}
        days = {"first": str(day(first)), "last": str(day(last or first))} if first is not None else {}
        result = run(self.definitions, self.instance, chosen, checks=checks, **days, **options)
        assert result.success is succeeds, [e.event_specific_data.error for e in result.all_events if e.is_step_failure]
        return evaluations(result)

    def filled(self):
        """All days, without their checks."""
        with self.store() as store:
            store.load("orders", start=midnight(0), end=midnight(DAYS))
        return self


SCHEMA = arrow.schema(
    [
        ("order_id", arrow.string()),
        ("shop", arrow.string()),
        ("ordered", arrow.timestamp("us", "UTC")),
        ("amount", arrow.float64()),
        ("kind", arrow.string()),
    ]
)
