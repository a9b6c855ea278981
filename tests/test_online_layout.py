"""Layouts say what a reader needs, change their id with what decoding depends on, and survive the way through Redis."""

from typing import Annotated

import msgspec
import pandas as pd
import pandera.pandas as pa
import pytest
from online_world import World, departures, item, ratio, service, weather
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, agg
from feature_store import ratio as ratio_of
from feature_store.online.keys import features_key, layouts_key, services_key, shard_of
from feature_store.online.layout import (
    FeatureLayout,
    RatioItem,
    StoredItem,
    layout_fields,
    parse_layout,
    parse_service,
    service_fields,
    service_layout,
    view_layout,
    with_id,
)
from feature_store.transforms.compiled import compile_registry


class Flight(pa.DataFrameModel):
    uid: Series[str]
    origin: Series[str]
    tail: Series[str] = pa.Field(nullable=True)
    left_at: Series[Annotated[pd.DatetimeTZDtype, "us", "UTC"]]
    delay: Series[float] = pa.Field(nullable=True)


def view(**options):
    return FeatureView(
        "airport_now",
        entity=Entity("airport", join_keys=["origin"]),
        source=EventSource("flights", schema=Flight, event_time="left_at", event_id="uid"),
        features=[
            agg.count(over="1h"),
            agg.mean("delay", over="1h"),
            agg.last("left_at", name="last_at"),
            agg.last_n("tail", n=3, name="tails"),
        ],
        **options,
    )


def test_the_layout_of_a_view_says_types_empty_values_and_how_fresh_it_must_be():
    declared = view(freshness_sla="2m", tags={"pii": "name"})
    plan = compile_registry(Registry(views=[declared])).plan(declared)

    layout = view_layout(plan)

    assert (layout.id, layout.entity, layout.join_keys) == ("airport_now@1", "airport", ["origin"])
    assert (layout.online, layout.sla_us, layout.personal) == ("stream", 120_000_000, True)
    assert layout.features == [
        FeatureLayout(name="count_1h", dtype="int", empty=0),
        FeatureLayout(name="delay_mean_1h", dtype="float"),
        FeatureLayout(name="last_at", dtype="timestamp"),
        FeatureLayout(name="tails", dtype="str", is_list=True, empty=[]),
    ]


def test_a_view_for_training_only_has_no_layout():
    declared = view(online=None)
    plan = compile_registry(Registry(views=[declared])).plan(declared)

    with pytest.raises(ValueError, match=r"view 'airport_now' is for training only \(`online=None`\)"):
        view_layout(plan)


def test_a_service_is_pinned_to_versions_in_its_order():
    new = view(version=2)
    declared = FeatureService(
        "delay",
        features=[
            "airport_now@1:count_1h",
            ratio_of("load", "airport_now:count_1h", "airport_now@1:count_1h"),
            new["tails"],
        ],
        defaults={"load": 0.5},
        on_stale="fail",
    )
    registry = Registry(views=[view(), new], services=[declared])

    layout = service_layout(declared, registry)

    old_count = StoredItem(view="airport_now", version=1, feature="count_1h", name="airport_now:count_1h")
    new_count = StoredItem(view="airport_now", version=2, feature="count_1h", name="airport_now:count_1h")
    assert layout.features == [
        old_count,
        RatioItem(name="load", numerator=new_count, denominator=old_count),
        StoredItem(view="airport_now", version=2, feature="tails", name="airport_now:tails"),
    ]
    assert (layout.id, layout.defaults, layout.on_stale, layout.on_ahead) == ("delay@1", {"load": 0.5}, "fail", "serve")


def test_two_versions_of_a_feature_in_one_service_have_different_names():
    new = view(version=2)
    declared = FeatureService("delay", features=["airport_now@1:count_1h", new["count_1h"]])

    layout = service_layout(declared, Registry(views=[view(), new], services=[declared]))

    assert [feature.name for feature in layout.features] == ["airport_now:count_1h", "airport_now@2:count_1h"]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (departures(), True),
        (with_id(msgspec.structs.replace(departures(), sla_us=1, personal=True)), True),
        (departures(features=["mean_1h", "count_1h"]), False),
        (departures(features=["count_1h"]), False),
        (departures(version=2), False),
        (departures(name="arrivals"), False),
    ],
)
def test_the_layout_id_changes_with_what_decoding_depends_on(other, same):
    layout = departures()

    assert (other.layout_id == layout.layout_id) is same
    assert 0 <= layout.layout_id < 2**31


def test_what_is_published_parses_back(valkey, environment):
    world = World(valkey.url, environment)
    old, new = departures(features=["count_1h"]), departures()
    load = ratio("load", item("departures", "count_1h"), item("departures", "mean_1h"), empty=1.0)
    services = [service(load, version=2), service(load), service(load, version=10)]
    world.publish(old)
    world.publish(new, weather(), services=services)

    layouts = world.client.hgetall(layouts_key(environment))
    published = world.client.hgetall(services_key(environment))

    assert parse_layout(layouts[b"departures@1"]) == new
    assert parse_layout(layouts[f"departures@1#{old.layout_id}".encode()]) == old
    assert {parse_service(published[f"delay@{s.version}".encode()]).version for s in services} == {1, 2, 10}
    assert parse_service(published[b"delay@2"]) == services[0]
    assert published[b"delay"] == b"10"


def test_publishing_nothing_asks_nothing_of_redis():
    assert layout_fields([]) == {}
    assert service_fields([]) == {}


def test_keys_carry_the_environment_and_personal_data_has_its_own():
    assert features_key("dev", "airport", "JFK") == "features:dev:{airport:JFK}"
    assert features_key("dev", "airport", "JFK", personal=True) == "features-pii:dev:{airport:JFK}"


def test_the_shard_of_an_entity_never_changes():
    assert [shard_of("airport", key, shards=8) for key in ("JFK", "LGA", "EWR")] == [4, 1, 1]
