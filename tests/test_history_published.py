"""Which batch rows readers were given, and when: a training row takes the row that was published last by its time.

day 0        day 1        day 2        day 3
|------------|------------|------------|----
backfilled   built ahead  built after  its first hours
"""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
import redis
from filelock import FileLock
from lake_rows import begun
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureStore,
    FeatureView,
    LakeError,
    ManualClock,
    Registry,
    Settings,
    agg,
)
from feature_store.history.publish import publish_rows
from feature_store.lake import Lake
from feature_store.lake.view_tables import rows_table
from feature_store.online.keys import layouts_key
from feature_store.status import Status
from feature_store.time_rule import from_us, to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
PLACES = ["bath", "york", "hull", "nowhere", None]
FEATURES = ["hourly:temp", "hourly:count_6h"]


class Reading(pandera.DataFrameModel):
    uid: Series[str]
    place: Series[str]
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    temp: Series[float]


def reading(place, hours, temp):
    return {"uid": f"{place}{hours}", "place": place, "at": START + hours * HOUR, "temp": float(temp)}


def world_of(home, rows, *, more=(), **settings):
    def load(start, end):
        chosen = [row for row in rows if start <= row["at"] < end]
        types = {"uid": pa.string(), "place": pa.string(), "at": pa.timestamp("us", "UTC"), "temp": pa.float64()}
        return pa.table({name: pa.array([row[name] for row in chosen], kind) for name, kind in types.items()})

    readings = EventSource("readings", schema=Reading, event_time="at", event_id="uid", load=load)
    hourly = FeatureView(
        "hourly",
        entity=Entity("place", join_keys=["place"]),
        source=readings,
        features=[agg.last("temp", over="3h", name="temp"), agg.count(over="6h"), *more],
        online="batch",
        every="1h",
        freshness_sla="2h",
    )
    clock = ManualClock(to_us(START))
    return FeatureStore(
        Registry(views=[hourly]),
        settings=Settings(home=begun(home, settings.get("environment", "dev")), **settings),
        clock=clock,
    )


@pytest.fixture
def rows():
    """A reading an hour in bath, every fourth in york, of hull three alone."""
    return [
        *(reading("bath", hours + 0.5, hours) for hours in range(80)),
        *(reading("york", hours + 0.5, hours) for hours in range(0, 80, 4)),
        *(reading("hull", hours, hours) for hours in (5, 26, 50)),
    ]


@pytest.fixture
def store(tmp_path, rows, valkey, environment):
    with world_of(tmp_path, rows, redis_url=valkey.url, environment=environment) as opened:
        opened.apply()
        yield opened


def build(store, day):
    store.load("readings", start=START + day * DAY, end=START + (day + 1) * DAY)
    store.materialize("hourly", start=START + day * DAY, end=START + (day + 1) * DAY)


class Served:
    """What readers were given, and when."""

    def __init__(self, store):
        self.store, self.reader, self.found = store, store.reader(), []

    def hour(self, hours, *, publish=True):
        """Publish a minute past the hour, and read before that, after it and at the end of the hour."""
        for offset in (timedelta(0), MINUTE, HOUR / 2):
            self.store.clock.move_to(to_us(START + hours * HOUR + offset))
            if publish and offset == MINUTE:
                self.store.publish_view("hourly")
            self.read()

    def read(self):
        """Read every place now."""
        now = from_us(self.store.clock.now_us())
        for place in PLACES:
            self.found.append((place, now, self.reader.get_online_features(FEATURES, {"place": place})))

    def away_until(self, hours):
        """Nothing is published and nobody reads, until all rows have expired; the server's own clock is not the test's."""
        self.store.clock.move_to(to_us(START + hours * HOUR))
        for key in self.store.redis.scan_iter(f"features:{self.store.settings.environment}:*"):
            self.store.redis.delete(key)
        self.store.publish_view("hourly")

    def spine(self):
        times = pa.array([time for _, time, _ in self.found], pa.timestamp("us", "UTC"))
        return pa.table({"place": [place for place, _, _ in self.found], "event_timestamp": times})

    def unequal(self, trained):
        """(place, time, feature) -> served and trained, wherever they are not the same."""
        table, different = trained.to_arrow(), {}
        for name in FEATURES:
            column = name.replace(":", "__")
            values, statuses = table.column(column).to_pylist(), table.column(f"{column}__status").to_pylist()
            for (place, time, vector), *told in zip(self.found, values, statuses, strict=True):
                served = [vector[name].value, int(vector[name].status)]
                if served != told:
                    different[place, time, name] = (served, told)
        return different


def training_set(store, spine, **options):
    return store.get_historical_features(spine, FEATURES, statuses=True, allow_incomplete=True, **options)


@pytest.fixture
def served(store):
    found = Served(store)
    yield found
    found.reader.close()


def test_training_has_the_rows_that_were_published_whenever_they_were_built(store, rows, served):
    build(store, 0)
    store.clock.move_to(to_us(START + DAY))
    build(store, 1)  # ahead: all its hours, each published when it has come
    store.publish_view("hourly")
    served.hour(24)
    for hours in range(25, 30):
        served.hour(hours, publish=hours != 27)  # one publication is missed
    rows.append(reading("york", 28.5, 1000))
    store.clock.move_to(to_us(START + 30 * HOUR + MINUTE / 2))
    build(store, 1)  # again, from other events; it is published when its hour has come
    spine = served.spine()
    early = training_set(store, spine)
    served.hour(30)
    served.hour(31)
    store.publish_view("hourly")  # what stands there
    served.away_until(48)
    for hours in (48, 49):
        served.hour(hours)  # day 2 has no rows yet, so the last hour of day 1 is published
    store.clock.move_to(to_us(START + 3 * DAY))
    build(store, 2)  # afterwards
    served.away_until(72)
    served.hour(72)
    served.hour(73)

    trained = training_set(store, served.spine())

    told = [v["hourly:temp"].value for p, t, v in served.found if p == "york" and t == START + 30 * HOUR + HOUR / 2]
    assert told == [1000.0]
    assert served.unequal(trained) == {}
    known = trained.manifest.known.views["hourly@1"]
    assert known.measured == len([place for place, _, _ in served.found if place is not None])
    hindsight = training_set(store, served.spine(), knowledge="corrected")
    assert known.differing_values == len(differing(trained, hindsight)) > 0
    assert store.rebuild(early.manifest, spine).to_arrow().equals(early.to_arrow())


def test_at_each_boundary_of_its_age_a_batch_row_is_trained_on_as_it_was_read(store, served, valkey):
    # row 24:00 ------ SLA, 2 h ------| STALE, 1 h |  UNKNOWN      bath has a row, hull an empty one, nowhere none
    build(store, 0)
    build(store, 1)
    store.clock.move_to(to_us(START + 23 * HOUR))
    store.publish_view("hourly")
    store.clock.move_to(to_us(START + 31 * HOUR))
    store.publish_view(
        "hourly"
    )  # hull, whose event was at 26:00, had a row that stands there in the publication before
    view, row_us = store.registry.view("hourly"), to_us(START + 31 * HOUR)
    limits = (row_us + view.freshness_sla_us, row_us + view.freshness_sla_us + to_us(START + HOUR) - to_us(START))
    for limit in limits:
        for each in (limit - 1, limit, limit + 1):
            store.clock.move_to(each)
            served.read()

    trained = training_set(store, served.spine())

    assert served.unequal(trained) == {}
    told = [
        [v["hourly:count_6h"].status.name for p, _, v in served.found if p == place] for place in ("bath", "nowhere")
    ]
    assert told == [
        ["PRESENT", "PRESENT", "STALE", "STALE", "STALE", "UNKNOWN"],
        ["EMPTY", "EMPTY", "STALE", "STALE", "STALE", "UNKNOWN"],
    ]
    client = redis.Redis.from_url(store.settings.redis_url)
    left_ms = client.hpttl(f"features:{store.settings.environment}:{{place:bath}}", "hourly@1")[0]
    assert left_ms > (limits[1] - row_us) // 1000  # Redis has it for longer than it is served
    client.close()


def test_a_feature_that_rows_were_built_without_is_unknown_in_both_paths(store, tmp_path, rows, valkey, environment):
    build(store, 0)
    store.clock.move_to(to_us(START + 9 * HOUR + MINUTE))
    wider = {"redis_url": valkey.url, "environment": environment, "more": [agg.max("temp", over="1d")]}
    with world_of(tmp_path, rows, **wider) as later:
        later.clock.move_to(store.clock.now_us())
        assert later.apply() == ["hourly@1:temp_max_1d"]
        for day in (None, 1):  # no row has it, then other days' rows do
            if day is not None:
                build(later, day)
            later.publish_view("hourly")
            names = ["hourly:temp", "hourly:temp_max_1d"]
            told = [[(8.0, "PRESENT"), (None, "UNKNOWN")], [(None, "EMPTY"), (None, "UNKNOWN")]]
            with later.reader() as reader:
                vectors = reader.get_online_features_batch(names, [{"place": place} for place in ("bath", "nobody")])
            spine = pa.table({"place": ["bath", "nobody"], "event_timestamp": [START + 9 * HOUR + MINUTE] * 2})
            trained = later.get_historical_features(spine, names, statuses=True, allow_incomplete=True).to_arrow()

            assert [[(value, status.name) for value, status in zip(*each, strict=True)] for each in
                    ((vector.values, vector.statuses) for vector in vectors)] == told  # fmt: skip
            columns = [trained.column(name.replace(":", "__")).to_pylist() for name in names]
            statuses = [trained.column(f"{name.replace(':', '__')}__status").to_pylist() for name in names]
            assert [
                [(values[row], Status(status[row]).name) for values, status in zip(columns, statuses, strict=True)]
                for row in (0, 1)
            ] == told


def test_a_step_without_rows_does_not_vouch_for_a_feature_that_was_added_since(tmp_path, valkey, environment):
    given = {"redis_url": valkey.url, "environment": environment}
    few, now_us = [reading("bath", 0.5, 7)], to_us(START + 20 * HOUR)  # longer ago than any window
    with world_of(tmp_path, few, **given) as before:
        before.apply()
        build(before, 0)
    with world_of(tmp_path, few, more=[agg.max("temp", over="1h", name="hottest")], **given) as later:
        later.clock.move_to(now_us)
        later.apply()
        build(later, 1)  # widens the table
        later.publish_view("hourly")
        with later.reader() as reader:
            vector = reader.get_online_features(["hourly:temp", "hourly:hottest"], {"place": "nobody"})

    assert [status.name for status in vector.statuses] == ["EMPTY", "UNKNOWN"]


def differing(one, other):
    """(row, feature) wherever value or status differ."""
    names = [name.replace(":", "__") for name in FEATURES]
    columns = [(t.to_arrow().column(n).to_pylist(), t.to_arrow().column(f"{n}__status").to_pylist())
               for n in names for t in (one, other)]  # fmt: skip
    told = [list(zip(*pair, strict=True)) for pair in columns]
    return [
        (row, name)
        for name, mine, theirs in zip(names, told[::2], told[1::2], strict=True)
        for row, (a, b) in enumerate(zip(mine, theirs, strict=True))
        if a != b
    ]


def test_before_the_first_publication_rows_count_as_there_and_that_is_told(store, served):
    build(store, 0)
    store.clock.move_to(to_us(START + 9 * HOUR))
    spine = pa.table({"place": ["bath"], "event_timestamp": [START + 8 * HOUR]})

    trained = training_set(store, spine)

    assert trained.to_arrow().column("hourly__temp").to_pylist() == [7.0]
    assert trained.manifest.known.views["hourly@1"].assumed == 1


def test_a_publication_that_was_cut_off_counts_from_its_begin_and_as_assumed(store):
    build(store, 0)
    table = rows_table(store.registry.view("hourly"))
    version = max(store.lake.builds.newest(table).values())
    store.clock.move_to(to_us(START + 7 * HOUR + MINUTE))
    store.publish_view("hourly")
    store.clock.move_to(to_us(START + 8 * HOUR + MINUTE))
    with (
        pytest.raises(KeyboardInterrupt),
        store.lake.publications.recorded(table, row_us=to_us(START + 8 * HOUR), version=version),
    ):
        raise KeyboardInterrupt
    spine = pa.table({"place": ["bath"] * 2, "event_timestamp": [START + hours * HOUR for hours in (8, 8.5)]})

    cut_off = training_set(store, spine)
    store.clock.move_to(to_us(START + 8 * HOUR + 2 * MINUTE))
    store.publish_view("hourly")
    done = training_set(store, spine)

    for found, measured in ((cut_off, 1), (done, 2)):
        assert found.to_arrow().column("hourly__temp").to_pylist() == [6.0, 7.0]
        known = found.manifest.known.views["hourly@1"]
        assert (known.measured, known.assumed) == (measured, 2 - measured)


def test_nothing_is_published_that_the_lake_cannot_note(store, tmp_path, environment):
    build(store, 0)
    store.clock.move_to(to_us(START + 7 * HOUR + MINUTE))
    view, home = store.registry.view("hourly"), store.lake.location
    store.redis.delete(layouts_key(environment))
    with (
        redis.Redis.from_url(store.settings.redis_url) as client,
        Lake.open(home, env=environment, clock=store.clock, lock_timeout_s=0.05) as lake,
        FileLock(home.directory / "commit.lock"),
    ):
        with pytest.raises(LakeError, match="has been locked by another process"):
            publish_rows(store.compiled, lake, client, view, env=environment, clock=store.clock)

        assert not list(client.scan_iter(f"features:{environment}:*"))
        assert not client.exists(layouts_key(environment))


def test_a_lake_from_before_publications_were_noted_gets_their_book(tmp_path, rows):
    with world_of(tmp_path, rows) as store:
        build(store, 0)
        table, home = rows_table(store.registry.view("hourly")), store.lake.location
        with store.lake.cursor() as cursor:
            cursor.execute("DROP TABLE publications")
        before = store.lake.snapshot()

    with Lake.open(home, read_only=True) as lake:
        assert lake.publications.of(table) == []
    with Lake.open(home, clock=ManualClock(7)) as lake:
        version = lake.builds.newest(table)[START.date()]
        with lake.publications.recorded(table, row_us=5, version=version):
            pass
        assert [tuple(each)[1:] for each in lake.publications.of(table)] == [(5, version, 7, True)]
    with Lake.open(home, read_only=True) as lake:
        assert lake.publications.of(table, snapshot=before) == []
