"""Rows of batch views and tiles: what is built, what a training set makes of it, what is published."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import redis
from lake_rows import begun
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureReader,
    FeatureStore,
    FeatureView,
    InputError,
    ManualClock,
    Registry,
    Settings,
    Status,
    agg,
)
from feature_store.history.asof import ROW_US
from feature_store.history.publish import publish_rows
from feature_store.history.rows import materialize_rows
from feature_store.history.tiles import materialize_tiles
from feature_store.history.workers import Workers
from feature_store.lake.view_tables import rows_table, tiles_table
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Reading(pandera.DataFrameModel):
    uid: Series[str]
    place: Series[str]
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    temp: Series[float] = pandera.Field(nullable=True)
    seen_at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, nullable=True)


READINGS = [("bath", 1, 3.0), ("bath", 5, 5.0), ("york", 26, 9.5), ("york", 27, None), ("bath", 49, 1.0)]
"""(place, hours after START, temp)."""


def load_readings(_start, _end):
    times = pa.array([START + hours * HOUR for _, hours, _ in READINGS], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "uid": [str(n) for n in range(len(READINGS))],
            "place": [place for place, _, _ in READINGS],
            "at": times,
            "temp": pa.array([temp for _, _, temp in READINGS], pa.float64()),
            "seen_at": times,
        }
    )


place = Entity("place", join_keys=["place"])
readings = EventSource("readings", schema=Reading, event_time="at", event_id="uid", load=load_readings)
hourly = FeatureView(
    "hourly",
    entity=place,
    source=readings,
    features=[
        agg.last("temp", over="3h", name="temp"),
        agg.count(over="24h"),
        agg.last("seen_at", over="24h", name="seen"),
        agg.last_n("temp", n=2, over="24h"),
    ],
    online="batch",
    every="1h",
    freshness_sla="2h",
)
daily = FeatureView(
    "daily", entity=place, source=readings, features=[agg.sum("temp", over=None)], online="batch", freshness_sla="2d"
)
stream = FeatureView(
    "stream", entity=place, source=readings, features=[agg.mean("temp", over="24h"), agg.max("temp", over="7d")]
)


@pytest.fixture
def clock():
    return ManualClock(to_us(START + 3 * DAY))


@pytest.fixture
def store(tmp_path, clock):
    registry = Registry(views=[hourly, daily, stream])
    with FeatureStore(registry, settings=Settings(home=begun(tmp_path)), clock=clock) as opened:
        opened.load("readings", start=START, end=START + 4 * DAY)
        yield opened


@pytest.fixture
def client(valkey):
    with redis.Redis.from_url(valkey.url) as opened:
        yield opened


def days(count):
    return [date(2024, 1, 1) + timedelta(days=n) for n in range(count)]


def build(store, view, count):
    return materialize_rows(store.compiled, store.lake, view, days=days(count), now_us=store.clock.now_us())


def at(*asked):
    """Rows of (place, hours after START)."""
    return pa.table(
        {
            "place": [place for place, _ in asked],
            "event_timestamp": pa.array([START + hours * HOUR for _, hours in asked], pa.timestamp("us", "UTC")),
        }
    )


def test_a_row_knows_the_events_before_its_step_and_holds_until_the_next(store):
    build(store, hourly, 3)

    found = store.get_historical_features(
        at(
            ("bath", 5),
            ("bath", 5.99),
            ("bath", 6),
            ("bath", 9.5),
            ("york", 5),
            ("nowhere", 6),
            (None, 6),
            ("bath", -3),
        ),
        ["hourly:temp", "hourly:count_24h", "hourly:seen", "hourly:temp_last_2_24h"],
        statuses=True,
        allow_incomplete=True,
    ).to_arrow()

    assert found.column("hourly__temp").to_pylist() == [None, None, 5.0, None, None, None, None, None]
    assert found.column("hourly__count_24h").to_pylist() == [1, 1, 2, 2, 0, 0, None, None]
    assert found.column("hourly__seen").to_pylist()[2] == START + 5 * HOUR
    assert found.column("hourly__temp_last_2_24h").to_pylist()[:5] == [[3.0], [3.0], [3.0, 5.0], [3.0, 5.0], []]
    status = found.column("hourly__count_24h__status").to_pylist()
    assert [Status(n).name for n in status] == [*["PRESENT"] * 4, "EMPTY", "EMPTY", "UNKNOWN", "UNKNOWN"]


def test_past_the_sla_rows_and_missing_ones_are_stale_and_an_hour_later_unknown(store):
    build(store, hourly, 1)

    asked = at(*((name, hours) for name in ("bath", "york") for hours in (26, 26.5, 27, 27 + 1 / 3600)))
    found = store.get_historical_features(asked, ["hourly:count_24h"], statuses=True, allow_incomplete=True).to_arrow()

    assert found.column("hourly__count_24h").to_pylist() == [2, 2, 2, None, 0, 0, 0, None]
    statuses = [Status(each).name for each in found.column("hourly__count_24h__status").to_pylist()]
    assert statuses == ["PRESENT", "STALE", "STALE", "UNKNOWN", "EMPTY", "STALE", "STALE", "UNKNOWN"]


def test_lifetime_features_know_all_of_history(store):
    build(store, daily, 3)

    found = store.get_historical_features(at(("bath", 24), ("bath", 72), ("york", 72)), ["daily:temp_sum"])

    assert found.to_arrow().column("daily__temp_sum").to_pylist() == [8.0, 9.0, 9.5]


def test_rows_beyond_what_was_built_are_refused(store):
    with pytest.raises(InputError, match="batch view 'daily' has no rows in the lake; materialize 'daily'"):
        store.get_historical_features(at(("bath", 24)), ["daily:temp_sum"])
    build(store, daily, 1)
    with pytest.raises(InputError, match="hold until 2024-01-03T00:00:00"):
        store.get_historical_features(at(("bath", 48)), ["daily:temp_sum"])


def rows_of_step(store, view, time):
    """The newest version of the rows of one step, as the lake keeps them."""
    with store.lake.reading() as cursor:
        newest = store.lake.partitions.latest_sql(rows_table(view))
        rows = cursor.execute(f"FROM ({newest}) WHERE {ROW_US} = {to_us(time)} ORDER BY _key").to_arrow_table()
    assert rows.num_rows
    return rows


def test_building_again_adds_a_version_and_a_pinned_snapshot_still_reads_the_old_one(store):
    first = build(store, hourly, 1)[-1]
    before = rows_of_step(store, hourly, START + 6 * HOUR)
    second = build(store, hourly, 1)[-1]
    after = rows_of_step(store, hourly, START + 6 * HOUR)

    assert second.snapshot > first.snapshot
    assert before.drop_columns("row_version").equals(after.drop_columns("row_version"))
    assert set(after.column("row_version").to_pylist()) == {second.snapshot}


def test_buckets_change_nothing(store):
    build(store, hourly, 3)
    whole = rows_of_step(store, hourly, START + 49 * HOUR).sort_by("_key")
    materialize_rows(
        store.compiled, store.lake, hourly, days=days(3), now_us=store.clock.now_us(), workers=Workers(bucket_events=1)
    )
    parts = rows_of_step(store, hourly, START + 49 * HOUR).sort_by("_key")

    assert whole.drop_columns("row_version").equals(parts.drop_columns("row_version"))


def test_published_rows_are_what_a_training_set_has(store, client, environment, clock):
    build(store, hourly, 4)
    reader = FeatureReader(client, env=environment, clock=clock)
    names = ["temp", "count_24h", "seen", "temp_last_2_24h"]
    asked = [("bath", 6), ("york", 6), ("bath", 29.5), ("york", 29.5), ("bath", 30.2), ("york", 30.2)]
    for place_name, hours in asked:
        clock.move_to(to_us(START + hours * HOUR))
        published = publish_rows(store.compiled, store.lake, client, hourly, env=environment, clock=clock)
        vector = reader.get_online_features([f"hourly:{name}" for name in names], {"place": place_name})
        trained = store.get_historical_features(
            at((place_name, hours)), [f"hourly:{name}" for name in names], statuses=True
        ).to_arrow()

        assert published.row_us == to_us(START + int(hours) * HOUR)
        for name in names:
            found = (
                trained.column(f"hourly__{name}").to_pylist()[0],
                trained.column(f"hourly__{name}__status")[0].as_py(),
            )
            served = vector[f"hourly:{name}"]
            assert (served.value, served.status) == found, (place_name, hours, name)


def test_older_rows_never_replace_newer_ones(store, client, environment, clock):
    build(store, hourly, 3)
    clock.move_to(to_us(START + 30 * HOUR))
    newer = publish_rows(store.compiled, store.lake, client, hourly, env=environment, clock=clock)
    clock.move_to(to_us(START + 29 * HOUR))

    again = publish_rows(store.compiled, store.lake, client, hourly, env=environment, clock=clock)

    assert again.entities == 0
    assert again.row_us == newer.row_us


def test_only_batch_views_with_rows_can_be_published(store, client, environment, clock):
    with pytest.raises(InputError, match="view 'stream' is not a batch view"):
        publish_rows(store.compiled, store.lake, client, stream, env=environment, clock=clock)
    with pytest.raises(InputError, match="batch view 'daily' has no rows up to 2024-01-04"):
        publish_rows(store.compiled, store.lake, client, daily, env=environment, clock=clock)


def test_tiles_are_built_by_day_and_again_the_same(store):
    first = materialize_tiles(store.compiled, store.lake, stream, days=days(3))
    read = f"SELECT * FROM {store.lake.table_sql(tiles_table(stream))} ORDER BY ALL"
    with store.lake.cursor() as cursor:
        before = cursor.execute(read).to_arrow_table()
    materialize_tiles(store.compiled, store.lake, stream, days=days(3))
    with store.lake.cursor() as cursor:
        after = cursor.execute(read).to_arrow_table()

    assert sum(commit.rows for commit in first) == before.num_rows > 0
    assert before.equals(after)
    assert store.lake.builds.fresh_days(tiles_table(stream), source="readings") == days(3)


def test_loaded_events_that_a_view_ignores_because_they_came_late_are_kept_and_marked(tmp_path):
    def came(start, end):
        delays = pa.array([timedelta(0), HOUR, HOUR + timedelta(microseconds=1), None, DAY], pa.duration("us"))
        rows = load_readings(start, end)
        return rows.set_column(4, "seen_at", pc.add(rows.column("at"), delays))

    heard = EventSource("readings", schema=Reading, event_time="at", event_id="uid", load=came, arrival="seen_at")
    views = [replace(daily, source=heard), replace(stream, source=heard, late_events="ignore", lateness="1h")]
    with (
        FeatureStore(Registry(views=views), settings=Settings(home=begun(tmp_path))) as store,
        store.lake.cursor() as cursor,
    ):
        store.load("readings", start=START, end=START + 4 * DAY)
        marks = cursor.execute(f"SELECT _late FROM ({store.lake.events_sql('readings')}) ORDER BY uid").fetchall()

    assert [late for (late,) in marks] == [False, False, True, False, True]
