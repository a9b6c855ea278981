"""The store's facade and its settings: what is opened when, what is published, and each wrong setting in one line."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from pandera.typing import Series

import feature_store
from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    InputError,
    ManualClock,
    OnlineStoreError,
    Registry,
    Settings,
    SettingsError,
    Status,
    agg,
    redis_stream,
)
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Click(pandera.DataFrameModel):
    click: Series[str]
    user: Series[str] = pandera.Field(nullable=True)
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    value: Series[pd.Int64Dtype] = pandera.Field(nullable=True)


def load_clicks(_start, _end):
    at = pa.array([START + HOUR, START + 2 * HOUR], pa.timestamp("us", "UTC"))
    return pa.table({"click": ["a", "b"], "user": ["ann", "ann"], "at": at, "value": [1, 2]})


user = Entity("user", join_keys=["user"])


def declared(*, log=True, over="24h"):
    clicks = EventSource(
        "clicks",
        schema=Click,
        event_time="at",
        event_id="click",
        load=load_clicks,
        log=redis_stream("clicks", partitions=2) if log else None,
    )
    live = FeatureView("live", entity=user, source=clicks, features=[agg.sum("value", over=over, name="total")])
    daily = FeatureView(
        "daily", entity=user, source=clicks, features=[agg.count(over="7d")], online="batch", freshness_sla="2d"
    )
    service = FeatureService("clicking", features=[live, daily])
    return Registry(views=[live, daily], services=[service])


@pytest.fixture
def clock():
    return ManualClock(to_us(START + DAY))


@pytest.fixture
def make(tmp_path, valkey, environment, clock):
    """Builds stores of one environment, over one lake and one server."""
    stores = []

    def build(registry=None, **changed):
        values = {
            "home": tmp_path,
            "environment": environment.replace("-", "_"),
            "redis_url": valkey.url,
        } | changed
        stores.append(FeatureStore(registry or declared(), settings=Settings(**values), clock=clock))
        return stores[-1]

    yield build
    for store in stores:
        store.close()


def test_nothing_is_opened_before_it_is_needed(make, tmp_path):
    with make(redis_url="redis://127.0.0.1:1/0") as store:
        assert store.registry.service("clicking").version == 1
        assert list(tmp_path.iterdir()) == []


def test_a_closed_store_opens_again(make):
    store = make()
    store.load("clicks", start=START, end=START + DAY)
    store.close()

    assert store.lake.sources() == ["clicks"]


def test_the_lake_is_read_and_written_with_as_many_threads_as_the_setting_says(tmp_path):
    with (
        FeatureStore(declared(), settings=Settings(home=tmp_path, batch_threads=3)) as store,
        store.lake.cursor() as cursor,
    ):
        assert cursor.execute("SELECT current_setting('threads')").fetchone() == (3,)


def test_loaded_materialized_and_published_values_reach_a_reader(make):
    store = make()
    store.load("clicks", start=START, end=START + DAY)
    tiles = store.materialize("live", start=START, end=START + DAY)
    rows = store.materialize("daily", start=START, end=START + DAY)
    store.apply()

    published = store.publish_view("daily")
    vector = store.get_online_features(["daily:count_7d"], {"user": "ann"})

    assert [sum(commit.rows for commit in commits) for commits in (tiles, rows)] == [2, 1]
    assert published.entities == 1
    assert (vector["daily:count_7d"].value, vector["daily:count_7d"].status) == (2, Status.PRESENT)


def test_apply_says_what_is_new_once(make):
    store = make()

    assert store.apply() == ["live@1:total", "daily@1:count_7d"]
    assert store.apply() == []


def test_a_changed_meaning_needs_a_new_version(make):
    make().apply()
    changed = make(declared(over="12h"))

    with pytest.raises(DeclarationError, match="view 'live@1', feature 'total': its meaning has changed"):
        changed.apply()


def test_events_go_to_the_partition_of_their_id_stamped_by_the_clock(make, clock):
    store = make()
    rows = [{"click": f"c{n}", "user": "ann", "at": START + HOUR, "value": n} for n in range(5)]

    store.publish("clicks", rows)
    store.publish("clicks", pa.Table.from_pylist(rows))
    store.publish("clicks", pd.DataFrame(rows))

    log = store.log("clicks")
    records = [record for partition in (0, 1) for record in log.read(partition, log.begin(partition))]
    assert len(records) == 15
    assert {record.arrived_us for record in records} == {clock.now_us()}
    assert len({record.payload for record in records}) == 5


def test_rows_that_cannot_be_published_are_named_and_none_of_them_is(make):
    store = make()
    good = {"click": "c1", "user": "ann", "at": START, "value": 1}

    with pytest.raises(InputError, match="row 1: the event id `click` is missing"):
        store.publish("clicks", [good, {"user": "ann"}])
    with pytest.raises(InputError, match="row 1: `at` must be a time with a zone"):
        store.publish("clicks", [good, good | {"at": datetime(2024, 1, 1)}])  # noqa: DTZ001
    with pytest.raises(InputError, match="source 'clicks' has no `log`"):
        make(declared(log=False)).publish("clicks", [good])

    assert all(store.log("clicks").lag(p, store.log("clicks").begin(p)) == 0 for p in (0, 1))


def test_the_status_shows_days_positions_lag_and_readiness(make):
    store = make()
    store.load("clicks", start=START, end=START + 2 * DAY)
    store.materialize("daily", start=START, end=START + DAY)
    store.apply()
    store.publish_view("daily")
    store.publish("clicks", [{"click": "c1", "user": "ann", "at": START, "value": 1}])

    found = store.status()

    source = found.sources[0]
    assert (source.name, source.days_loaded, source.first_day) == ("clicks", 2, START.date())
    assert sum(source.lag.values()) == 1
    assert list(found.ready) == ["daily@1"]
    assert found.server.startswith("Valkey ")


def test_the_status_of_a_store_without_a_server_says_so(make):
    found = make(redis_url="redis://127.0.0.1:1/0").status()

    assert "no Redis answers at 127.0.0.1:1" in found.server
    assert found.ready == {}


def test_a_server_that_is_away_is_one_clear_error(make):
    store = make(redis_url="redis://127.0.0.1:1/0")

    with pytest.raises(OnlineStoreError, match=r"no Redis answers at 127\.0\.0\.1:1"):
        store.apply()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": 0}, r"setting `workers` \(FEATURE_STORE_WORKERS\): input should be greater than or equal to 1"),
        ({"environment": "Prod!"}, r"setting `environment` .*must be lower-case letters, digits and _ .*got 'Prod!'"),
        ({"redis_url": "localhost"}, r"setting `redis_url` .*must start with redis://"),
        ({"redis_uri": "redis://x"}, r"setting `redis_uri` .*"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(values, message):
    with pytest.raises(SettingsError, match=message) as caught:
        Settings(**values)

    assert "\n" not in str(caught.value)


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path / "here"))
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", "staging")

    settings = Settings()

    assert settings.lake_directory == tmp_path / "here" / "lake"
    assert settings.environment == "staging"


def test_declarations_that_are_not_there_are_named():
    with pytest.raises(SettingsError, match="`declarations` must name a module and a registry in it, got 'nowhere:x'"):
        FeatureStore(settings=Settings(declarations="nowhere:x"))


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'feature_store' has no attribute 'nothing'"):
        _ = feature_store.nothing
