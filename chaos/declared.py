"""What the deployment of a run declares: short windows, so that their tails move while it runs."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, agg, ratio
from feature_store.declare import redis_stream
from feature_store.time_rule import DAY_US, from_us, to_us

SOURCE, SERVICE = "payments", "chaos"
BEGIN = datetime(2024, 3, 10, 12, tzinfo=UTC)
"""When a run begins, by its clock."""
LIVE_DAY = datetime(2024, 3, 10, tzinfo=UTC)
HISTORY = (LIVE_DAY - timedelta(days=3), LIVE_DAY)
"""The days that a backfill loads, again and again."""
CUSTOMERS = [f"c{number}" for number in range(12)]
SHOPS = ["york", "bath", "a|b{}%"]
PER_DAY = 200


class Payment(pa.DataFrameModel):
    """An event."""

    payment_id: str
    customer: str = pa.Field(nullable=True)
    shop: str
    amount: float = pa.Field(nullable=True)
    paid_at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]


Row = dict[str, object]


def payment(draw: random.Random, *, name: str, at_us: int) -> Row:
    """A payment at a time."""
    return {
        "payment_id": name,
        "customer": draw.choice([*CUSTOMERS, None]),
        "shop": draw.choice(SHOPS),
        "amount": draw.choice([None, 0.1, 7.25, -0.0, 1e9, 2.5 / 2**20, draw.uniform(-50, 50)]),
        "paid_at": from_us(at_us),
    }


def history_rows(start: datetime, end: datetime) -> list[Row]:
    """What happened on past days: the same whenever it is asked."""
    found: list[Row] = []
    for day_us in range(to_us(start), to_us(end), DAY_US):
        draw = random.Random(day_us)
        at_us = [day_us + draw.randrange(DAY_US) for _ in range(PER_DAY)]
        found += [payment(draw, name=f"h{day_us}-{number}", at_us=at) for number, at in enumerate(at_us)]
    return found


def history(start: datetime, end: datetime) -> arrow.Table:
    """The loader of the source."""
    rows = history_rows(start, end)
    kinds = {"payment_id": arrow.string(), "customer": arrow.string(), "shop": arrow.string()}
    kinds |= {"amount": arrow.float64(), "paid_at": arrow.timestamp("us", "UTC")}
    return arrow.table({name: arrow.array([row[name] for row in rows], kind) for name, kind in kinds.items()})


payments = EventSource(
    SOURCE,
    schema=Payment,
    event_time="paid_at",
    event_id="payment_id",
    load=history,
    log=redis_stream(SOURCE, partitions=2),
)
spending = FeatureView(
    "spending",
    entity=Entity("customer", join_keys=["customer"]),
    source=payments,
    features=[
        agg.count(over=["1m", "1h", None]),
        agg.sum("amount", over=["1m", None]),
        agg.mean("amount", over="1h"),
        agg.stddev("amount", over="7d"),
        agg.max("amount", over="1m"),
        agg.last("shop", over="7d"),
        agg.count_distinct("shop", over="1h"),
        agg.last_n("amount", n=3, over="1d"),
    ],
    freshness_sla="20s",
)
shops = FeatureView(
    "shops",
    entity=Entity("shop", join_keys=["shop"]),
    source=payments,
    where="amount > 0",
    features=[agg.count(over=["1m", "1d"]), agg.mean("amount", over="1h")],
    freshness_sla="20s",
)
daily = FeatureView(
    "daily",
    entity=Entity("customer", join_keys=["customer"]),
    source=payments,
    features=[agg.count(over="1d"), agg.sum("amount", over="1d")],
    online=None,
    every="1d",
)
service = FeatureService(
    SERVICE,
    features=[spending, shops, ratio("share", spending["count_1m"], spending["count_1h"], empty=0.0)],
)
registry = Registry(views=[spending, shops, daily], services=[service])
