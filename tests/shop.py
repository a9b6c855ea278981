"""A small deployment of its own for tests of the command line: payments of a shop, their files in the working folder."""

import pandas as pd
import pandera.pandas as pa

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, agg, csv, redis_stream


class Payment(pa.DataFrameModel):
    payment_id: str
    customer: str
    amount: float = pa.Field(ge=0)
    paid_at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


class Refund(pa.DataFrameModel):
    refund_id: str
    customer: str
    refunded_at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


customer = Entity("customer", join_keys=["customer"])
payments = EventSource(
    "payments",
    schema=Payment,
    event_time="paid_at",
    event_id="payment_id",
    load=csv("payments.csv"),
    log=redis_stream("payments"),
)
refunds = EventSource(
    "refunds", schema=Refund, event_time="refunded_at", event_id="refund_id", load=csv("refunds/*.csv")
)
spending = FeatureView(
    "spending",
    entity=customer,
    source=payments,
    features=[agg.count(over=["1h", "24h"]), agg.mean("amount", over="24h")],
)
habits = FeatureView(
    "habits",
    entity=customer,
    source=payments,
    features=[agg.max("amount", over="7d")],
    online="batch",
    every="1d",
    freshness_sla="2d",
)
returns = FeatureView("returns", entity=customer, source=refunds, features=[agg.count(over="7d")], online=None)
registry = Registry(
    views=[spending, habits, returns], services=[FeatureService("risk", version=1, features=[spending, habits])]
)
