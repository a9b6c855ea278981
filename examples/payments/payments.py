"""What the features of payments are: the ones every reader of the field looks for, declared once.

Files come from `generator.py`; a deployment would name its own loader and log here.
"""

from datetime import date
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureService,
    FeatureView,
    Label,
    Registry,
    agg,
    dimension,
    parquet,
    ratio,
    redis_stream,
)

Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]
FRAUD = "team:fraud"
HISTORY_START = date(2026, 1, 1)


class Payment(pa.DataFrameModel):
    """A payment of a user at a merchant; amounts in cents."""

    payment_id: Series[str]
    user: Series[str]
    device: Series[str]
    merchant: Series[str]
    amount: Series[int] = pa.Field(gt=0)
    paid_at: Series[Time]


class Chargeback(pa.DataFrameModel):
    """A payment that its user's bank has taken back, days or weeks later."""

    chargeback_id: Series[str]
    payment_id: Series[str]
    merchant: Series[str]
    charged_back_at: Series[Time]


class Merchant(pa.DataFrameModel):
    """What a merchant is from a moment on; a category of null: not known."""

    merchant: Series[str]
    category: Series[str] = pa.Field(nullable=True)
    valid_from: Series[Time]


user = Entity("user", join_keys=["user"], description="Who pays")
user_device = Entity("user_device", join_keys=["user", "device"], description="A user on a device")
merchant = Entity("merchant", join_keys=["merchant"], description="Who is paid")

payments = EventSource(
    "payments",
    schema=Payment,
    event_time="paid_at",
    event_id="payment_id",
    load=parquet("data/payments/*.parquet", arrival="arrived_at"),
    history_start=HISTORY_START,
    log=redis_stream("payments", partitions=2),
    owner=FRAUD,
    description="One event for each payment",
)
chargebacks = EventSource(
    "chargebacks",
    schema=Chargeback,
    event_time="charged_back_at",
    event_id="chargeback_id",
    load=parquet("data/chargebacks/*.parquet", arrival="arrived_at"),
    history_start=HISTORY_START,
    log=redis_stream("chargebacks"),
    owner=FRAUD,
    description="One event for each chargeback, 1 to 60 days after its payment",
)
merchants = dimension(
    "merchants",
    schema=Merchant,
    key="merchant",
    valid_from="valid_from",
    load=parquet("data/merchants/*.parquet"),
    history_start=HISTORY_START,
    log=redis_stream("merchants"),
    owner=FRAUD,
    description="What merchants are, and since when; each file is a full snapshot",
)

spending = FeatureView(
    "spending",
    entity=user,
    source=payments,
    features=[
        agg.count(over="7d", name="user_7d_transaction_count", description="payments in seven days"),
        agg.mean("amount", over="90d", name="avg_order_value_90d", description="cents"),
    ],
    owner=FRAUD,
    description="How a user spends",
    tags={"pii": "pseudonymous"},
)
devices = FeatureView(
    "devices",
    entity=user_device,
    source=payments,
    features=[agg.count(over=None, name="device_seen_before", description="earlier payments; 0 for a new device")],
    owner=FRAUD,
    description="Whether a user has paid on this device before",
    tags={"pii": "pseudonymous"},
)
merchant_payments = FeatureView(
    "merchant_payments",
    entity=merchant,
    source=payments,
    features=[agg.count(over="30d", name="payments_30d")],
    owner=FRAUD,
    description="What a merchant takes in",
)
merchant_chargebacks = FeatureView(
    "merchant_chargebacks",
    entity=merchant,
    source=chargebacks,
    features=[agg.count(over="30d", name="chargebacks_30d")],
    owner=FRAUD,
    description="What a merchant has to give back",
)
merchant_profile = FeatureView(
    "merchant_profile",
    entity=merchant,
    source=merchants,
    features=[agg.latest("category", name="category", description="what it sells, as of the payment")],
    owner=FRAUD,
    description="What a merchant is",
)
chargeback_rate = ratio(
    "merchant_chargeback_rate_30d",
    merchant_chargebacks["chargebacks_30d"],
    merchant_payments["payments_30d"],
    empty=0.0,
    description="chargebacks over payments of the same thirty days",
)

registry = Registry(
    views=[spending, devices, merchant_payments, merchant_chargebacks, merchant_profile],
    services=[FeatureService("fraud", version=1, features=[spending, devices, chargeback_rate, merchant_profile])],
    labels=[
        Label("charged_back", chargebacks.any(on="payment_id", within="60d"), description="taken back within 60 days")
    ],
)
