"""A registry of 500 views."""

from datetime import date
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, agg
from feature_store.declare import redis_stream
from feature_store.loaders import parquet

VIEWS, SOURCES, SERVICES = 500, 5, 50


class Event(pa.DataFrameModel):
    uid: Series[str]
    customer: Series[str]
    at: Series[Annotated[pd.DatetimeTZDtype, "us", "UTC"]]
    amount: Series[float] = pa.Field(ge=0)


def registry() -> Registry:
    """Every fifth view is a batch view."""
    customer = Entity("customer", join_keys=["customer"])
    sources = [
        EventSource(
            f"events_{n}", schema=Event, event_time="at", event_id="uid", load=parquet("none/*.parquet"), log=redis_stream(f"events_{n}"),
            history_start=date(2024, 1, 1), owner="team:events", description=f"Events of kind {n}",
        )
        for n in range(SOURCES)
    ]  # fmt: skip
    views = [
        FeatureView(
            f"view_{n}", entity=customer, source=sources[n % SOURCES], owner="team:features",
            description=f"What a customer does, as view {n} sees it", where=f"amount > {n}",
            features=[agg.count(over="1h"), agg.sum("amount", over="1d"), agg.mean(f"amount * {n + 1}", over="7d", name="mean")],
            **({"online": "batch", "every": "1d", "freshness_sla": "36h"} if n % 5 == 4 else {}),
        )
        for n in range(VIEWS)
    ]  # fmt: skip
    services = [
        FeatureService(f"service_{n}", features=views[n::SERVICES], owner="team:models") for n in range(SERVICES)
    ]
    return Registry(views=views, services=services)
