"""Training sets: every row of the spine once, in order, with the values of the naive twin."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet
import pytest
from lake_rows import begun
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg, ratio
from feature_store.computed.ratio import ratio as scalar_ratio
from feature_store.errors import InputError, UnknownNameError
from feature_store.history.answers import Answer
from feature_store.history.answers import ratio as column_ratio
from feature_store.history.conform import conform
from feature_store.history.training import get_historical_features
from feature_store.history.workers import Workers
from feature_store.status import Status

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
        store = FeatureStore(registry, settings=Settings(home=begun(tmp_path / str(len(opened)))))
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


RIDES = [("york", 10, 5.0), ("york", 20, 7.0), ("bath", 30, 1.0)]


def test_a_spine_may_be_pandas_arrow_a_parquet_path_or_sql(make, tmp_path):
    store = make(RIDES)
    frame = spine([("york", 15), ("bath", 31)])
    table = pa.Table.from_pandas(frame)
    pa.parquet.write_table(table, tmp_path / "spine.parquet")
    sql = f"SELECT * FROM read_parquet('{tmp_path / 'spine.parquet'}') ORDER BY label"

    for form in (frame, table, tmp_path / "spine.parquet", str(tmp_path / "spine.parquet"), sql):
        found = store.get_historical_features(form, ["rides:count_1h"])
        assert found.to_arrow().column("rides__count_1h").to_pylist() == [1, 1]
        assert len(found) == 2


def test_sql_over_the_lake_can_be_a_spine(make):
    store = make(RIDES)
    events = store.lake.events_sql("rides")

    found = store.get_historical_features(
        f'SELECT city, "at" FROM ({events}) ORDER BY "at"', ["rides:count_1h"], time_column="at"
    )

    assert found.to_arrow().column("rides__count_1h").to_pylist() == [0, 1, 0]


def test_the_result_is_arrow_pandas_or_duckdb(make):
    found = make(RIDES).get_historical_features(spine([("york", 15)]), ["rides:count_1h"])

    assert found.to_arrow().num_rows == 1
    assert found.to_pandas()["rides__count_1h"].tolist() == [1]
    assert found.to_duckdb().fetchall()[0][-1] == 1
    assert found.feature_columns == ("rides__count_1h",)


def test_a_spine_without_rows_has_columns(make):
    found = make(RIDES).get_historical_features(spine([("york", 15)]).head(0), ["rides:count_1h", "rides:fare_max_1d"])

    assert found.to_arrow().num_rows == 0
    assert found.to_arrow().column("rides__fare_max_1d").type == pa.float64()


def test_buckets_change_nothing(make):
    store = make([(f"city{n % 7}", n, float(n % 5)) for n in range(60)])
    asked = spine([(f"city{n % 9}", 61 - n) for n in range(40)])
    names = ["rides:count_1h", "rides:fare_sum_1h", "rides:fare_max_1d"]

    whole = store.get_historical_features(asked, names).to_arrow()

    for bucket_events in (1, 10, 20):
        parts = get_historical_features(
            store.compiled, store.lake, asked, names, workers=Workers(bucket_events=bucket_events)
        )
        assert parts.to_arrow().equals(whole)


def test_the_number_of_threads_changes_no_bit(make):
    store = make([(f"city{n % 7}", 3 * n, n / 7) for n in range(4000)])
    asked = spine([(f"city{n % 9}", 13_000 - 40 * n) for n in range(300)])
    names = ["rides:count_1h", "rides:fare_sum_1h", "rides:fare_max_1d"]

    def found(threads):
        with store.lake.cursor() as cursor:
            cursor.execute(f"SET threads = {threads}")
        store.load("rides", start=START, end=START + 10 * DAY)
        return store.get_historical_features(asked, names).to_arrow()

    alone = found(1)
    assert alone.column("rides__count_1h").to_pylist().count(0) < 300
    assert found(4).equals(alone)


def test_served_values_know_only_what_had_arrived(make):
    #   event at  10 min, seen 50 minutes later
    #   |---------x---------------------seen
    store = make([("york", 10, 5.0, 50), ("york", 20, 7.0)], arrival="seen")
    asked = spine([("york", 30), ("york", 59), ("york", 60), ("york", 61)])

    served = store.get_historical_features(asked, ["rides:count_1h", "rides:fare_sum_1h"])
    corrected = store.get_historical_features(asked, ["rides:count_1h"], knowledge="corrected")

    assert served.to_arrow().column("rides__count_1h").to_pylist() == [1, 1, 2, 2]
    assert served.to_arrow().column("rides__fare_sum_1h").to_pylist() == [7.0, 7.0, 12.0, 12.0]
    assert corrected.to_arrow().column("rides__count_1h").to_pylist() == [2, 2, 2, 2]
    assert served.manifest.recomputed == {"rides@1": 2}


def test_history_without_arrivals_counts_as_arrived_when_it_happened(make):
    store = make([("york", 10, 5.0, 50)])

    found = store.get_historical_features(spine([("york", 30)]), ["rides:count_1h"])

    assert found.to_arrow().column("rides__count_1h").to_pylist() == [1]


def test_a_service_serves_its_defaults_and_ratios(make):
    def service(view):
        share = ratio("share", view["fare_sum_1h"], view["fare_max_1d"], empty=-1.0)
        return FeatureService(
            "pricing", features=[view["count_1h"], share], defaults={"rides:count_1h": 7, "share": 0.5}
        )

    store = make(RIDES, services=[service])

    found = store.get_historical_features(spine([("york", 60), ("nowhere", 60), (None, 60)]), "pricing").to_arrow()

    assert found.column("rides__count_1h").to_pylist() == [2, 0, 7]
    assert found.column("share").to_pylist() == [12.0 / 7.0, -1.0, 0.5]


def test_the_parts_of_a_ratio_need_not_be_asked_for(make):
    store = make(RIDES)
    share = ratio("share", "rides:count_1h", "rides:fare_max_1d")

    found = store.get_historical_features(spine([("york", 60), ("nowhere", 60)]), [share], statuses=True).to_arrow()

    assert found.column("share").to_pylist() == [2 / 7.0, None]
    assert found.column("share__status").to_pylist() == [Status.PRESENT, Status.EMPTY]
    assert "rides__count_1h" not in found.column_names


@pytest.mark.parametrize("left", list(Status))
@pytest.mark.parametrize("right", list(Status))
def test_ratios_of_columns_are_ratios_of_values(left, right):
    numbers = [3, 0, None]
    pairs = [(a, b) for a in numbers for b in numbers]
    top, bottom = (
        Answer(column=pa.array([pair[side] for pair in pairs], pa.int64()), status=np.full(9, np.int8(status)))
        for side, status in ((0, left), (1, right))
    )
    for empty in (None, -1.0):
        found = column_ratio(top, bottom, empty=empty)
        told = [scalar_ratio((a, left), (b, right), empty=empty) for a, b in pairs]
        assert [(v, Status(s)) for v, s in zip(found.column.to_pylist(), found.status, strict=True)] == told


def test_a_manifest_makes_the_same_set_again(make):
    store = make(RIDES)
    asked = spine([("york", 15), ("bath", 31)])
    first = store.get_historical_features(asked, ["rides:count_1h"])
    empty = EventSource("rides", schema=Ride, event_time="at", event_id="ride_id", load=lambda _start, _end: rides([]))
    store.lake.replace_loaded("rides", conformed(store, empty), days=[START.date()])

    now = store.get_historical_features(asked, ["rides:count_1h"])
    again = store.get_historical_features(asked, ["rides:count_1h"], snapshot=first.manifest.snapshot)

    assert now.to_arrow().column("rides__count_1h").to_pylist() == [0, 0]
    assert again.to_arrow().equals(first.to_arrow())
    assert again.manifest == first.manifest
    assert json.loads(first.manifest.to_json())["features"] == ["rides@1:count_1h"]


def conformed(store, declared):
    return conform(declared, rides([]), schema=store.compiled.schemas["rides"], arrival=None).events


def test_rows_later_than_the_lake_is_complete_are_refused_unless_asked_for(make):
    store = make(RIDES)
    asked = spine([("york", 10 * 24 * 60 + 1)])

    with pytest.raises(InputError, match=r"reach to 2024-01-11T00:01.*'rides' is complete until 2024-01-11T00:00"):
        store.get_historical_features(asked, ["rides:count_1h"])

    found = store.get_historical_features(asked, ["rides:count_1h"], allow_incomplete=True)
    assert found.to_arrow().column("rides__count_1h").to_pylist() == [0]
    assert store.get_historical_features(spine([("york", 10 * 24 * 60)]), ["rides:count_1h"]).to_arrow().num_rows == 1


def test_days_that_were_not_loaded_in_between_are_named(make):
    store = make(RIDES)
    store.load("rides", start=START + 12 * DAY, end=START + 13 * DAY)

    with pytest.raises(InputError, match=r"was not loaded for 2 days that the spine needs \(2024-01-11, 2024-01-12\)"):
        store.get_historical_features(spine([("york", 12 * 24 * 60 + 5)]), ["rides:count_1h"])


def test_a_source_without_events_is_refused(make, tmp_path):
    view = FeatureView("rides", entity=city, source=source([]), features=[agg.count(over="1h")])
    with (
        FeatureStore(Registry(views=[view]), settings=Settings(home=begun(tmp_path))) as store,
        pytest.raises(InputError, match="source 'rides' has no events in the lake, which view 'rides' reads; load"),
    ):
        store.get_historical_features(spine([("york", 1)]), ["rides:count_1h"])


def naive(frame):
    return frame.assign(event_timestamp=frame["event_timestamp"].dt.tz_localize(None))


WRONG_SPINES = {
    "naive": (naive, "spine column 'event_timestamp' must carry a time zone, got naive times"),
    "no time": (lambda f: f.drop(columns="event_timestamp"), "spine: unknown time column 'event_timestamp'"),
    "text for time": (lambda f: f.assign(event_timestamp="now"), "'event_timestamp' must be a time with a zone, got"),
    "null time": (
        lambda f: f.assign(event_timestamp=f["event_timestamp"].where(f["label"] > 0)),
        "must not be null",
    ),
    "no key": (lambda f: f.drop(columns="city"), "unknown column for the join key 'city' of entity 'city' 'city'"),
    "name taken": (lambda f: f.assign(rides__count_1h=1), "spine column 'rides__count_1h' has the name of a feature"),
    "no spine": (lambda _: 7, "`spine` must be a pandas or Arrow table, a Parquet path or SQL, got int"),
    "no file": (lambda _: "none.parquet", r"the spine \(none.parquet\) cannot be read: "),
    "wrong sql": (lambda _: "SELEKT 1", r"the spine \(SQL\) cannot be read: "),
}


@pytest.mark.parametrize("case", WRONG_SPINES)
def test_a_wrong_spine_is_a_clear_error(case, make):
    change, message = WRONG_SPINES[case]
    store = make(RIDES)

    with pytest.raises(InputError, match=message):
        store.get_historical_features(change(spine([("york", 1)])), ["rides:count_1h"])


def test_wrong_features_are_named(make):
    store = make(RIDES)
    asked = spine([("york", 1)])

    with pytest.raises(UnknownNameError, match="unknown feature of view 'rides' 'count_2h'; did you mean 'count_1h'"):
        store.get_historical_features(asked, ["rides:count_2h"])
    with pytest.raises(UnknownNameError, match="unknown service 'prices'"):
        store.get_historical_features(asked, "prices")
    with pytest.raises(InputError, match="the feature column 'rides__count_1h' was asked for twice"):
        store.get_historical_features(asked, ["rides:count_1h", "rides:count_1h"])
    with pytest.raises(InputError, match="`knowledge` must be 'served' or 'corrected', got 'all'"):
        store.get_historical_features(asked, ["rides:count_1h"], knowledge="all")


def test_keys_of_another_type_name_the_same_entity(tmp_path):
    class Visit(pandera.DataFrameModel):
        visit: Series[str]
        member: Series[pd.Int64Dtype] = pandera.Field(nullable=True)
        at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})

    def visits(_start, _end):
        at = pa.array([START], pa.timestamp("us", "UTC"))
        return pa.table({"visit": ["a"], "member": pa.array([7], pa.int64()), "at": at})

    visited = EventSource("visits", schema=Visit, event_time="at", event_id="visit", load=visits)
    view = FeatureView(
        "visits", entity=Entity("member", join_keys=["member"]), source=visited, features=[agg.count(over="1h")]
    )
    with FeatureStore(Registry(views=[view]), settings=Settings(home=begun(tmp_path))) as store:
        store.load("visits", start=START, end=START + DAY)
        times = pd.to_datetime([START + timedelta(minutes=1)] * 2)
        for members in ([7, 8], [7.0, float("nan")], ["7", "8"]):
            asked = pd.DataFrame({"member": members, "event_timestamp": times})
            found = store.get_historical_features(asked, ["visits:count_1h"]).to_arrow()
            assert found.column("visits__count_1h").to_pylist()[0] == 1
        wrong = pd.DataFrame({"member": ["x"], "event_timestamp": times[:1]})
        with pytest.raises(InputError, match="spine column 'member' cannot be read as int64"):
            store.get_historical_features(wrong, ["visits:count_1h"])
