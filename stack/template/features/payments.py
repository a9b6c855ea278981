"""What the project knows about payments: begin by making this yours."""

from datetime import date

import pandas as pd
import pandera.pandas as pa

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, agg, csv, redis_stream


class Payment(pa.DataFrameModel):
    """One payment, as files and the log carry it."""

    payment_id: str
    customer: str
    amount: float = pa.Field(ge=0)
    paid_at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


customer = Entity("customer", join_keys=["customer"], description="Who pays")

payments = EventSource(
    "payments",
    schema=Payment,
    event_time="paid_at",
    event_id="payment_id",
    load=csv("data/payments/*.csv"),
    history_start=date(2026, 1, 1),
    log=redis_stream("payments"),
    owner="team:payments",
    description="One event for each payment",
)

spending = FeatureView(
    "spending",
    entity=customer,
    source=payments,
    features=[
        agg.count(over=["1h", "7d"], description="payments"),
        agg.mean("amount", over="7d", description="average payment"),
        agg.max("amount", over="30d", description="largest payment"),
    ],
    owner="team:payments",
    description="What a customer has been spending",
)

fraud = FeatureService(
    "fraud", version=1, features=[spending], owner="team:payments", description="What the fraud model reads"
)

registry = Registry(views=[spending], services=[fraud])
