"""Training sets: every row of the spine once, in order, with the values of the naive twin."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg, ratio
from feature_store.errors import InputError

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)


class Ride(pandera.DataFrameModel):
    ride_id: Series[str]
    city: Series[str] = pandera.Field(nullable=True)
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, nullable=True)
    fare: Series[float] = pandera.Field(nullable=True, ge=0)
    seen: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, nullable=True)


city = Entity("city", join_keys=["city"])


def rides(rows):
    """Rows of (city, minutes after START, fare, minutes until seen)."""
    return pa.table(
        {
            "ride_id": [f"r{n}" for n in range(len(rows))],
            "city": [row[0] for row in rows],
            "at": pa.array([START + timedelta(minutes=row[1]) for row in rows], pa.timestamp("us", "UTC")),
            "fare": pa.array([row[2] for row in rows], pa.float64()),
            "seen": pa.array(
                [START + timedelta(minutes=row[1] + (row[3] if len(row) > 3 else 0)) for row in rows],
                pa.timestamp("us", "UTC"),
            ),
        }
    )


def source(rows, *, arrival=None):
    table = rides(rows)
    return EventSource(
        "rides", schema=Ride, event_time="at", event_id="ride_id", load=lambda _start, _end: table, arrival=arrival
    )


def spine(rows):
    """Rows of (city, minutes after START)."""
    return pd.DataFrame(
        {
            "city": [row[0] for row in rows],
            "event_timestamp": [START + timedelta(minutes=row[1]) for row in rows],
            "label": range(len(rows)),
        }
    )


@pytest.fixture
def make(tmp_path):
    """Builds a store over rides, loaded for ten days."""
    opened = []

    def build(rows, *, arrival=None, services=(), **view):
        features = [agg.count(over="1h"), agg.sum("fare", over="1h"), agg.max("fare", over="1d")]
        rides_view = FeatureView(
            "rides", entity=city, source=source(rows, arrival=arrival), **({"features": features} | view)
        )
        registry = Registry(views=[rides_view], services=[make_service(rides_view) for make_service in services])
        store = FeatureStore(registry, settings=Settings(home=tmp_path / str(len(opened))))
        opened.append(store)
        store.load("rides", start=START, end=START + 10 * DAY)
        return store

    yield build
    for store in opened:
        store.close()


def test_each_spine_row_comes_back_once_and_in_order(make):
    store = make([("york", 10, 5.0), ("york", 20, 7.0), (None, 20, 7.0), ("bath", 30, 1.0)])
    asked = spine([("york", 60), ("nowhere", 60), (None, 60), ("york", 60), ("york", -5), ("bath", 31), ("york", 20)])

    found = store.get_historical_features(
        asked, ["rides:count_1h", "rides:fare_sum_1h", "rides:fare_max_1d"], statuses=True
    )

    frame = found.to_pandas()
    assert frame["label"].tolist() == list(range(7))
    assert found.to_arrow().column("rides__count_1h").to_pylist() == [2, 0, None, 2, 0, 1, 1]
    assert found.to_arrow().column("rides__fare_sum_1h").to_pylist() == [12.0, 0.0, None, 12.0, 0.0, 1.0, 5.0]
    assert found.to_arrow().column("rides__fare_max_1d").to_pylist() == [7.0, None, None, 7.0, None, 1.0, 5.0]
    assert found.to_arrow().column("rides__count_1h__status").to_pylist() == [0, 1, 2, 0, 1, 0, 0]
