"""A store over one source of sales, loaded from wherever a test says."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
from lake_rows import begun
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureStore, FeatureView, Registry, Settings, agg

START = datetime(2024, 3, 30, tzinfo=UTC)
DAY = timedelta(days=1)
HEADER = "uid,shop,at,amount,items\n"


class Sale(pandera.DataFrameModel):
    uid: Series[str]
    shop: Series[str] = pandera.Field(nullable=True)
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    amount: Series[float] = pandera.Field(ge=0, nullable=True)
    items: Series[pd.Int64Dtype] = pandera.Field(nullable=True)


@contextmanager
def opening(folder):
    """Opens stores over one source of sales, with what its declaration says, and closes them."""
    stores = []

    def build(load, **options):
        source = EventSource("sales", schema=Sale, event_time="at", event_id="uid", load=load, **options)
        view = FeatureView(
            "shop_sales", entity=Entity("shop", join_keys=["shop"]), source=source, features=[agg.count(over="1h")]
        )
        stores.append(
            FeatureStore(Registry(views=[view]), settings=Settings(home=begun(folder / f"home{len(stores)}")))
        )
        return stores[-1]

    try:
        yield build
    finally:
        for store in stores:
            store.close()


def load(store, *, days=2):
    return store.load("sales", start=START, end=START + days * DAY)


def query(store, sql):
    with store.lake.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def events(store):
    return query(
        store, f"SELECT * EXCLUDE (_partition, _offset, _late) FROM ({store.lake.events_sql('sales')}) ORDER BY uid"
    )


def rejected(store):
    sql = f"SELECT event_id, reason, kind FROM {store.lake.table_sql('rejected_events')} ORDER BY event_id NULLS FIRST"
    return query(store, sql)


def accounted(store):
    """Whether anything at all was written: events, days or dead letters."""
    written = store.lake.exists("events_sales_loaded") and (events(store) or store.lake.days("sales").loaded)
    return bool(written) or bool(rejected(store))
