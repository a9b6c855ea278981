"""What readers logged comes to the lake once, whoever archives it and whatever happens in between."""

import dataclasses
import logging
from datetime import date

import msgspec
import pyarrow as pa
import pytest
from fuzzing import BOMBS, damaged, edited, packed_values, tried
from hypothesis import given
from hypothesis import strategies as st
from verify_world import registry

from feature_store import Entity, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.errors import LakeError
from feature_store.online.keys import served_key
from feature_store.proof import append_served, read_served
from feature_store.proof.layout import served_layout
from feature_store.proof.served_archive import ServedArchiver, newest_entries
from feature_store.proof.served_log import ServedLog
from feature_store.proof.served_table import SERVED_TABLE
from feature_store.reader import FeatureVector, Status
from feature_store.reader.sample import ServedRecord
from feature_store.reader.vector import Names

FEATURES = tuple(f"busy:{name}" for name in (
    "count_1h", "count_6h", "fare_sum_1h", "fare_sum_6h", "fare_mean_1h", "fare_mean_6h", "fare_max_1h", "fare_max_6h",
    "fare_last_1h", "fare_last_3_6h",
))  # fmt: skip
VALUES = [1, 2, 3.5, 4.5, 3.5, 2.25, 3.5, 3.5, 3.5, [1.0, 3.5]]


@pytest.fixture
def store(valkey, environment, tmp_path):
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment)
    with FeatureStore(registry(), settings=settings) as store:
        yield store


def record(number, **changes):
    """A vector as a reader logs it."""
    given = {
        "id": f"v-{number}", "service": "fares@1", "requested_us": None, "served_us": 10**15 + number,
        "request": {"city": str(number)}, "views": ("busy@1",), "sources": [1, 7, 10**15, 0, None],
        "features": FEATURES, "values": VALUES, "statuses": [0] * len(FEATURES),
    }  # fmt: skip
    return ServedRecord(**{**given, **changes})


def log(store, *records, personal=False):
    for each in records:
        key = served_key(store.settings.environment, personal=personal)
        store.redis.xadd(key, {"v": msgspec.msgpack.encode(each)})


def archiver(store, declared=None):
    store = store if declared is None else FeatureStore(declared, settings=store.settings)
    return store, ServedArchiver(store.compiled, store.lake, store.redis, store.settings.environment)


def ids(store):
    if not store.lake.exists(SERVED_TABLE):
        return []
    return sorted(read_served(store.compiled, store.lake, "fares").column("vector_id").to_pylist())


def test_what_was_logged_is_on_record_types_and_all(store):
    log(store, record(1), record(2, requested_us=5, statuses=[int(Status.STALE)] * len(FEATURES)))

    assert archiver(store)[1].step() == 2

    found = read_served(store.compiled, store.lake, "fares@1").to_pylist()
    assert [found[0][f"busy__{name.removeprefix('busy:')}"] for name in FEATURES] == VALUES
    assert (found[0]["city"], found[0]["requested_us"], found[0]["served_us"]) == (1, None, 10**15 + 1)
    assert (found[1]["requested_us"], found[1]["busy__count_1h__status"]) == (5, Status.STALE)
    assert found[0]["entry"] < found[1]["entry"]
    assert found[0]["busy_v1__n"] == 7


def test_every_vector_comes_once_whoever_archives(store):
    log(store, *(record(i) for i in range(5)))
    _, first = archiver(store)
    _, second = archiver(store)
    first.step()
    log(store, record(4), record(5))  # a push whose answer was lost is pushed again
    second.step()
    first.step()

    assert ids(store) == [f"v-{i}" for i in range(6)]
    assert archiver(store)[1].step() == 0


def test_an_archiver_that_dies_before_or_after_the_commit_loses_and_repeats_nothing(store, monkeypatch):
    log(store, record(1), record(2))
    _, dies = archiver(store)
    append = store.lake.append

    def fail(*_, **__):
        raise LakeError("away")

    def commit_and_fail(*given, **options):
        append(*given, **options)
        raise LakeError("away")

    for broken, expected in ((fail, []), (commit_and_fail, ["v-1", "v-2"])):
        monkeypatch.setattr(store.lake, "append", broken)
        with pytest.raises(LakeError):
            dies.step()
        monkeypatch.setattr(store.lake, "append", append)
        assert ids(store) == expected

    dies.step()
    archiver(store)[1].step()
    assert ids(store) == ["v-1", "v-2"]


def test_both_streams_are_archived(store):
    log(store, record(1))
    log(store, record(2), personal=True)

    archiver(store)[1].step()

    assert ids(store) == ["v-1", "v-2"]


def test_a_service_that_is_not_declared_here_waits_for_one_who_knows_it(store, caplog):
    [service] = store.registry.services
    newer = dataclasses.replace(service, version=2)
    log(store, record(1), record(2, service="fares@2"), record(3), record(4, service="fares@2"))

    with caplog.at_level(logging.WARNING):
        _, old = archiver(store)
        old.step()
    known, new = archiver(store, Registry(views=store.registry.views, services=[service, newer]))
    with known:
        new.step()
        found = read_served(known.compiled, known.lake, "fares@2").column("vector_id").to_pylist()

    assert old.skipped == 2
    assert [record.message for record in caplog.records if "fares@2" in record.message]
    assert found == ["v-2", "v-4"]
    assert set(newest_entries(store.lake)) == {"fares@1", "fares@2"}


def test_what_is_no_served_vector_is_counted_and_holds_nothing_up(store, caplog):
    store.redis.xadd(served_key(store.settings.environment), {"v": b"\xff"})
    store.redis.xadd(served_key(store.settings.environment), {"x": b"1"})
    log(store, record(1, request={"city": "york"}), record(2))

    with caplog.at_level(logging.WARNING):
        _, archive = archiver(store)
        archive.step()

    assert archive.skipped == 3
    log(store, record(3))
    archive.step()
    assert ids(store) == ["v-2", "v-3"]


def test_a_feature_that_a_vector_did_not_have_yet_is_null(store):
    log(store, record(1, features=FEATURES[:3], values=VALUES[:3], statuses=[0] * 3))

    archiver(store)[1].step()

    [found] = read_served(store.compiled, store.lake, "fares").to_pylist()
    assert (found["busy__count_1h"], found["busy__fare_last_3_6h"]) == (1, None)
    assert (found["busy__count_1h__status"], found["busy__fare_last_3_6h__status"]) == (0, None)


def test_dates_travel_as_text_and_come_back_as_dates(store):
    [view, _] = store.registry.views
    dated = FeatureView("days", entity=view.entity, source=view.source, features=[agg.last("begun::DATE", over="1h", name="day")])  # fmt: skip
    declared = Registry(views=[dated], services=[FeatureService("fares", features=[dated])])
    log(store, record(1, views=("days@1",), features=("days:day",), values=["2024-03-01"], statuses=[0]))

    known, archive = archiver(store, declared)
    with known:
        archive.step()
        [found] = read_served(known.compiled, known.lake, "fares").to_pylist()

    assert found["days__day"] == date(2024, 3, 1)


def test_services_whose_columns_differ_in_type_share_the_table(store):
    """`city` is a whole number of one service, a text of the other; `share` the name of a feature of two types."""
    [view, _] = store.registry.views
    named = FeatureView(
        "busy", version=3, entity=Entity("ride", join_keys=["ride_id"]), source=view.source,
        features=[agg.last("ride_id", over="1h", name="count_1h")],
    )  # fmt: skip
    with FeatureStore(
        Registry(views=[view, named], services=[*store.registry.services, FeatureService("names", features=[named])]),
        settings=store.settings,
    ) as both:
        log(both, record(1))
        archiver(both, both.registry)[1].step()
        other = ServedLog("names@1")
        vector = FeatureVector(["r7"], [Status.PRESENT], Names("names", ("busy:count_1h",), {}, ("busy@3",), ()), [1, 2, 3, 0, None])  # fmt: skip
        other.add({"ride_id": "r7"}, vector, as_of_us=3)
        assert append_served(both.compiled, both.lake, other.table()).rows == 1

        [one] = read_served(both.compiled, both.lake, "fares").to_pylist()
        [two] = read_served(both.compiled, both.lake, "names").to_pylist()

    assert (one["busy__count_1h"], two["busy__count_1h"]) == (1, "r7")
    assert served_layout(both.compiled, "names").schema.field("busy__count_1h").type == pa.string()


WRONG = [{"statuses": [99] * 10}, {"statuses": []}, {"values": [1]}, {"values": [{}] * 10}, {"sources": []}, {"views": ("none@1",)},
         {"served_us": 2**63}, {"request": {"city": "no number"}}, {"features": ("busy:count_1h",) * 10}]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_a_record_with_other_things_than_its_service_serves_is_skipped(store, wrong):
    log(store, record(1), record(2, **wrong), record(3))

    _, archives = archiver(store)
    while archives.step():
        pass

    assert set(ids(store)) - {"v-2"} == {"v-1", "v-3"}


@tried(6)
@given(data=st.data())
def test_a_record_that_nobody_should_write_costs_only_itself(store, data):
    """Whoever may read services may log what he was served."""
    number = data.draw(st.integers(0, 2**60))
    strange = data.draw(
        st.one_of(
            edited(msgspec.msgpack.decode(msgspec.msgpack.encode(record(number))), packed_values).map(
                msgspec.msgpack.encode
            ),
            damaged(msgspec.msgpack.encode(record(number))),
            st.sampled_from(BOMBS),
        )
    )
    key = served_key(store.settings.environment)
    log(store, record(number))
    store.redis.xadd(key, {"v": strange})
    log(store, record(number + 1))

    _, archives = archiver(store)
    while archives.step():
        pass

    assert {f"v-{number}", f"v-{number + 1}"} <= set(ids(store))
