"""Vectors as what a model takes: NumPy rows with their problems, Arrow and pandas columns, of several entities at once."""

import math

import numpy as np
import pyarrow as pa
import pytest
from online_world import NOW_US, World, departures, item, legs, ratio, service, weather

from feature_store.errors import InputError
from feature_store.reader import FeatureReader, Status
from feature_store.time_rule import from_us

COUNT, MEAN = item("departures", "count_1h"), item("departures", "mean_1h")


@pytest.fixture
def world(valkey, environment):
    return World(valkey.url, environment)


@pytest.fixture
def reader(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        yield reader


def test_a_vector_is_a_row_of_numbers_and_says_what_to_doubt_of_it(world, reader):
    view, wind = departures(), weather()
    services = [
        service(COUNT, MEAN, item("weather", "wind"), ratio("share", COUNT, MEAN), defaults={"weather:wind": 7})
    ]
    world.publish(view, wind, services=services)
    world.put(view, "JFK", 3, 12.0)
    world.ready()

    vector = reader.get_online_features("delay", {"origin": "JFK"})

    row = vector.to_numpy()
    assert (row.dtype, row.tolist()) == (np.float64, [3.0, 12.0, 7.0, 0.25])
    assert vector.problems == {"weather:wind": Status.UNKNOWN}
    assert vector.kinds == {
        "departures:count_1h": "int", "departures:mean_1h": "float", "weather:wind": "float", "share": "float"
    }  # fmt: skip


def test_many_rows_are_columns_for_a_model_with_the_types_that_were_declared(world, reader):
    features = ("count_1h", "mean_1h", "last_tail", "last_at", "day", "tails")
    view, route = departures(features=features), legs()
    items = [*(item("departures", name) for name in features), item("legs", "count_1d")]
    world.publish(view, route, services=[service(*items)])
    world.put(view, "JFK", 3, 12.5, "N1", NOW_US, 19_723, [["N1", "N2"]])
    world.put(route, "JFK|LAX", 2)
    world.ready()

    batch = reader.get_online_features_batch(
        "delay", [{"origin": "JFK", "dest": "LAX"}, {"origin": None, "dest": "LAX"}, {"origin": "EWR", "dest": "LAX"}]
    )

    table = batch.to_arrow(statuses=True)
    assert table.schema.field("departures__count_1h").type == pa.int64()
    plain = batch.to_arrow()
    assert plain.column_names == [f"departures__{name}" for name in features] + ["legs__count_1d"]
    assert [str(kind) for kind in plain.schema.types] == [
        "int64", "double", "string", "timestamp[us, tz=UTC]", "date32[day]", "list<item: string>", "int64"
    ]  # fmt: skip
    assert plain.column("departures__count_1h").to_pylist() == [3, None, 0]
    assert plain.column("departures__last_at").to_pylist() == [from_us(NOW_US), None, None]
    assert plain.column("departures__tails").to_pylist() == [["N1", "N2"], None, []]
    assert table.column("legs__count_1d__status").to_pylist() == [Status.PRESENT, Status.UNKNOWN, Status.EMPTY]
    assert [(row, name) for row, name, _ in batch.problems] == [(1, each.name) for each in items]
    assert list(batch.to_pandas()["legs__count_1d"].dropna()) == [2.0, 0.0]


def test_many_rows_are_a_matrix_with_nan_for_null(world, reader):
    view = departures()
    world.publish(view, services=[service(COUNT, MEAN)])
    world.put(view, "JFK", 3, 12.5)
    world.ready()

    matrix = reader.get_online_features_batch("delay", [{"origin": "JFK"}, {"origin": "EWR"}]).to_numpy()

    assert matrix[0].tolist() == [3.0, 12.5]
    assert matrix[1, 0] == 0.0
    assert math.isnan(matrix[1, 1])
    assert reader.get_online_features_batch("delay", []).to_numpy().shape == (0, 0)


def test_a_feature_that_is_listed_twice_moves_no_other(world, reader):
    view, names = departures(), ["departures:count_1h", "departures:count_1h", "departures:mean_1h"]
    world.publish(view)
    world.put(view, "JFK", 3, 12.5)
    world.ready()

    batch = reader.get_online_features_batch(names, [{"origin": "JFK"}])

    assert batch.to_arrow().to_pydict() == {"departures__count_1h": [3], "departures__mean_1h": [12.5]}
    assert batch.to_numpy().tolist() == [[3.0, 3.0, 12.5]]


def test_what_is_no_number_is_refused_by_name(world, reader):
    world.publish(
        departures(features=("count_1h", "last_tail")), services=[service(COUNT, item("departures", "last_tail"))]
    )
    batch = reader.get_online_features_batch("delay", [{"origin": "JFK"}])

    expected = r"only numbers fit into an array, got 'departures:last_tail' \(str\); take `to_dict` or `to_arrow`"
    with pytest.raises(InputError, match=expected):
        batch.to_numpy()
    with pytest.raises(InputError, match=expected):
        batch[0].to_numpy()


def test_a_default_of_another_type_than_its_feature_is_named(world, reader):
    world.publish(departures(), services=[service(COUNT, defaults={"departures:count_1h": "none"})])
    batch = reader.get_online_features_batch("delay", [{"origin": "JFK"}])

    with pytest.raises(InputError, match=r"feature 'departures:count_1h' is declared as int, and its default is not"):
        batch.to_arrow()


def test_rows_of_two_versions_have_no_common_columns(world, reader):
    world.publish(departures(), services=[service(COUNT), service(MEAN, version=2)])
    one, two = (reader.get_online_features_batch(f"delay@{version}", [{"origin": "JFK"}]) for version in (1, 2))
    one.extend(two)

    with pytest.raises(InputError, match=r"served by delay@1 and delay@2, so they have no common columns"):
        one.to_arrow()
