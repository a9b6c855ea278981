"""A view in a second role, and views of everything: one view read by other columns, or by none."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from feature_store_deploy.assets.training import default_spine
from feature_store_deploy.stack.example import example_command
from online_world import World, departures, item, legs, service
from online_world import ratio as ratio_item

from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureReader,
    FeatureService,
    FeatureStore,
    FeatureView,
    InputError,
    Registry,
    Settings,
    Status,
    UnknownNameError,
    agg,
    ratio,
)
from feature_store.changes import compare, meanings
from feature_store.online.layout import KeyedItem, ServiceLayout, service_layout

BAD_INPUT = (Path(__file__).parent.parent / "docs" / "bad-input.md").read_text()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Flight(pandera.DataFrameModel):
    flight: str
    origin: str = pandera.Field(nullable=True)
    dest: str = pandera.Field(nullable=True)
    delay: float
    left_at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def flights(start, end):
    rows = [row for row in FLIGHTS if start <= row["left_at"] < end]
    types = [("flight", pa.string()), ("origin", pa.string()), ("dest", pa.string()), ("delay", pa.float64())]
    return pa.Table.from_pylist(rows, schema=pa.schema([*types, ("left_at", pa.timestamp("us", "UTC"))]))


def flight(number, origin, dest, *, after=0, delay=10.0):
    at = NOON + timedelta(minutes=after)
    return {"flight": f"f{number}", "origin": origin, "dest": dest, "delay": delay, "left_at": at}


FLIGHTS = [
    flight(1, "JFK", "LAX"),
    flight(2, "JFK", "ORD", after=5),
    flight(3, "LAX", "JFK", after=10, delay=90.0),
    flight(4, None, "JFK", after=11),
]

departed = EventSource("departed", schema=Flight, event_time="left_at", event_id="flight", load=flights)
airport = FeatureView(
    "airport",
    entity=Entity("airport", join_keys=["origin"]),
    source=departed,
    features=[agg.count(over="1h"), agg.max("delay", over="1h")],
)
hourly = FeatureView(
    "hourly",
    entity=airport.entity,
    source=departed,
    features=[agg.count(over="6h")],
    online="batch",
    every="1h",
    freshness_sla="3h",
)
overall = FeatureView("overall", entity=None, source=departed, features=[agg.count(over="1h"), agg.latest("dest")])
there = airport.keyed(origin="dest", prefix="dest_")
delay = FeatureService(
    "delay",
    features=[
        airport,
        there,
        hourly.keyed(origin="dest", prefix="dest_"),
        ratio("pull", there["count_1h"], airport["count_1h"], empty=0.0),
        overall,
    ],
    defaults={"dest_airport:delay_max_1h": -1.0},
)
REGISTRY = Registry(views=[airport, hourly, overall], services=[delay])
LATER = NOON + timedelta(minutes=30)


@pytest.fixture
def store(tmp_path, valkey, environment):
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment.replace("-", "_"))
    with FeatureStore(REGISTRY, settings=settings) as made:
        midnight = NOON.replace(hour=0)
        made.load("departed", start=midnight, end=midnight + timedelta(days=1))
        made.materialize("hourly", start=midnight, end=midnight + timedelta(days=1))
        yield made


# --- values ---------------------------------------------------------------------------------------------------------


def test_both_roles_of_a_view_stand_side_by_side(replay):
    result = replay(REGISTRY, {"departed": FLIGHTS})

    vector = result.vector("delay", time=LATER, origin="JFK", dest="LAX")

    assert vector.to_dict() == {
        "airport:count_1h": 2,
        "airport:delay_max_1h": 10.0,
        "dest_airport:count_1h": 1,
        "dest_airport:delay_max_1h": 90.0,
        "dest_hourly:count_6h": 0,
        "pull": 0.5,
        "overall:count_1h": 4,
        "overall:dest_latest": "JFK",
    }
    assert result.at(there["count_1h"], time=LATER, dest="JFK") == 2
    assert result.at("overall:count_1h", time=LATER) == 4


def test_a_null_in_the_column_of_a_role_is_unknown_and_gets_the_default_of_that_role(replay):
    vector = replay(REGISTRY, {"departed": FLIGHTS}).vector("delay", time=LATER, origin="JFK", dest=None)

    assert vector["dest_airport:delay_max_1h"][:2] == (-1.0, Status.UNKNOWN)
    assert vector["airport:delay_max_1h"][:2] == (10.0, Status.PRESENT)
    assert vector["pull"].status is Status.UNKNOWN


def test_a_role_with_the_very_columns_of_the_view_is_the_same_entity(replay):
    same = airport.keyed(origin="origin", prefix="again_")

    vector = replay(airport, {"departed": FLIGHTS}).vector([airport, same], time=LATER, origin="JFK")

    assert vector.values[:2] == vector.values[2:] == [2, 10.0]


def test_a_training_set_has_a_column_for_each_role(store):
    spine = pd.DataFrame({"origin": ["JFK", "LAX", None], "dest": ["LAX", "JFK", "JFK"], "event_timestamp": LATER})

    found = store.get_historical_features(spine, "delay")

    assert list(found.feature_columns) == [
        "airport__count_1h",
        "airport__delay_max_1h",
        "dest_airport__count_1h",
        "dest_airport__delay_max_1h",
        "dest_hourly__count_6h",
        "pull",
        "overall__count_1h",
        "overall__dest_latest",
    ]
    table = found.to_arrow()
    assert table.column("airport__count_1h").to_pylist() == [2, 1, None]
    assert table.column("dest_airport__count_1h").to_pylist() == [1, 2, 2]
    assert table.column("dest_hourly__count_6h").to_pylist() == [0, 0, 0]
    assert table.column("overall__count_1h").to_pylist() == [4, 4, 4]
    assert found.manifest.features[2] == "dest_airport@1:count_1h"
    listed = store.get_historical_features(spine, [there["count_1h"], airport["count_1h"]])
    assert list(listed.feature_columns) == ["dest_airport__count_1h", "airport__count_1h"]
    everything = store.get_historical_features(spine[["event_timestamp"]], [overall])
    assert everything.to_arrow().column("overall__count_1h").to_pylist() == [4, 4, 4]


def test_the_default_spine_of_a_training_asset_and_the_printed_command_name_the_columns_of_roles(store):
    assert 'SELECT "dest", "origin", make_timestamptz' in default_spine(delay, store)
    assert example_command(store) == "feature-store get delay origin=LAX dest=JFK"


# --- what a reader is told ------------------------------------------------------------------------------------------


def keyed(view, feature, **columns):
    return KeyedItem(
        view=view, version=1, feature=feature, name=f"dest_{view}:{feature}", prefix="dest_", columns=columns
    )


class Counting:
    """A transport that counts round trips and keeps the commands."""

    def __init__(self, transport):
        self.transport, self.sent = transport, []

    def exchange(self, commands):
        self.sent.append(commands)
        return self.transport.exchange(commands)

    def close(self):
        self.transport.close()


def test_a_role_is_another_key_in_the_same_round_trip(valkey, environment):
    world = World(valkey.url, environment)
    here, far = item("departures", "count_1h"), keyed("departures", "count_1h", origin="dest")
    world.publish(
        departures(), legs(), services=[service(here, far, ratio_item("pull", far, here), item("legs", "count_1d"))]
    )
    world.put(departures(), "JFK", 4, 0)
    world.put(departures(), "LAX", 2, 0)
    world.put(legs(), "JFK|LAX", 3)
    world.ready()
    with FeatureReader(valkey.url, env=environment, clock=world.clock) as reader:
        reader.get_online_features("delay", {"origin": "JFK", "dest": "LAX"})
        reader._transport = counting = Counting(reader._transport)

        vector = reader.get_online_features("delay", {"origin": "JFK", "dest": "LAX"})

        assert vector.to_dict() == {
            "departures:count_1h": 4,
            "dest_departures:count_1h": 2,
            "pull": 0.5,
            "legs:count_1d": 3,
        }
        assert list(vector.provenance) == ["departures@1", "dest_departures@1", "legs@1"]
        [commands] = counting.sent
        assert [command[0] for command in commands].count("HMGET") == len(commands) - 1 == 3
        with pytest.raises(InputError) as caught:
            reader.get_online_features("delay", {"origin": "JFK"})
    assert str(caught.value) == (
        "service 'delay', role 'dest_': entity 'airport' needs the column `dest` for its join key `origin`, got `origin`"
    )
    assert f"``{caught.value} ``" in BAD_INPUT


def test_a_service_with_a_role_reads_itself_back_and_older_readers_refuse_it():
    layout = service_layout(delay, REGISTRY)

    content = msgspec.json.encode(layout)

    assert msgspec.json.decode(content, type=ServiceLayout) == layout
    kinds = {each["name"]: each["type"] for each in json.loads(content)["features"]}
    assert kinds["airport:count_1h"] == "stored"
    assert kinds["dest_airport:count_1h"] == "keyed", "a type of its own: nobody takes it for the view's own role"


# --- what is wrong --------------------------------------------------------------------------------------------------


def test_a_role_is_checked_where_it_is_declared():
    with pytest.raises(UnknownNameError, match="unknown join key of view 'airport' 'orign'; did you mean 'origin'"):
        airport.keyed(orign="dest", prefix="dest_")
    with pytest.raises(InputError, match="`prefix` must be letters, digits and _, as the beginning of a name, got ''"):
        airport.keyed(origin="dest", prefix="")
    with pytest.raises(InputError, match="`keyed` must name a column for at least one join key of view 'airport'"):
        airport.keyed(prefix="dest_")
    with pytest.raises(UnknownNameError, match="unknown feature of view 'airport' 'count_2h'"):
        there["count_2h"]


def test_two_items_of_one_name_are_refused():
    with pytest.raises(DeclarationError, match="service 's': feature 'dest_airport@1:count_1h' stands twice"):
        Registry(views=[airport], services=[FeatureService("s", features=[there, there["count_1h"]])])
    other = airport.keyed(origin="flight", prefix="dest_")
    with pytest.raises(DeclarationError) as caught:
        Registry(views=[airport], services=[FeatureService("s", features=[there["count_1h"], other["delay_max_1h"]])])
    assert (
        "service 's': 'dest_airport@1' is the name of two reads, view 'airport@1' (origin = dest) and view 'airport@1' "
        "(origin = flight); choose another `prefix`"
    ) in str(caught.value)
    namesake = replace(overall, name="dest_airport")
    with pytest.raises(DeclarationError, match=r"view 'airport@1' \(origin = dest\) and view 'dest_airport@1'; choose"):
        Registry(views=[airport, namesake], services=[FeatureService("s", features=[there["count_1h"], namesake])])


def test_a_spine_without_the_column_of_a_role_is_refused(store):
    spine = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [LATER]})

    with pytest.raises(InputError) as caught:
        store.get_historical_features(spine, "delay")

    beginning = (
        "spine: unknown column for the join key 'origin' of entity 'airport' in role 'dest_' of service 'delay' 'dest'"
    )
    assert str(caught.value).startswith(beginning)
    assert beginning in BAD_INPUT


def test_an_entity_without_join_keys_is_not_taken_for_everything():
    view = replace(airport, entity=Entity("airport", join_keys=[]))
    with pytest.raises(
        DeclarationError, match="entity 'airport' must have at least one join key; a view of everything"
    ):
        Registry(views=[view])
    with pytest.raises(DeclarationError, match="two different entity declarations are called 'global'"):
        Registry(views=[overall, replace(airport, entity=Entity("global", join_keys=["origin"]))])


def test_other_columns_for_a_role_are_a_change_of_the_service():
    moved = replace(delay, features=[airport, airport.keyed(origin="alternate", prefix="dest_")])
    before = meanings(Registry(views=[airport], services=[replace(delay, features=[airport, there])]))
    after = meanings(Registry(views=[airport], services=[moved]))

    [change] = compare(before, after)

    assert (change.kind, change.what, change.breaking) == ("changed", "service delay@1", True)
    assert before.services["delay@1"][2] == "airport@1:count_1h as dest_(origin=dest)"
    gone = meanings(Registry(views=[replace(airport, features=[agg.count(over="1h")])]))
    only_there = meanings(Registry(views=[airport], services=[FeatureService("s", features=[there["delay_max_1h"]])]))
    retired = {change.what: change.breaking for change in compare(only_there, gone)}
    assert retired["feature airport@1:delay_max_1h"], "a role is a use"
