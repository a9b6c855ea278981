"""The proof, end to end: a deployment lives, with late, early and out-of-order events and restarts; then every vector
that was served is computed again. It must find nothing, and must find whatever is made wrong.
"""

import numpy as np
import proof_world
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
import pytest
from proof_world import SERVICE, World, lived

from feature_store.errors import InputError
from feature_store.online.packed import decode_row
from feature_store.proof import ServedLog, append_served, prove, read_served
from feature_store.proof.compare import compare
from feature_store.proof.faults import changed_bytes
from feature_store.proof.layout import conform, served_layout
from feature_store.proof.recompute import recompute
from feature_store.reader import Status
from feature_store.time_rule import MINUTE_US, SECOND_US


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    made = World(valkey.url, tmp_path_factory.mktemp("proof"), module_environment, seed=7)
    made.table = lived(made, hours=4)
    yield made
    made.close()


@pytest.fixture(scope="module")
def proof(world):
    return prove(world.store.compiled, world.store.lake, world.table, sample=100)


def again(world, table):
    """The report on an altered record, without oracle and controls."""
    compiled, lake = world.store.compiled, world.store.lake
    layout = served_layout(compiled, SERVICE)
    record = conform(layout, table)
    return compare(layout, record, recompute(compiled, lake, layout, record, snapshot=lake.snapshot()))


def changed(table, column, row, value):
    """The record with one cell changed."""
    values = table.column(column).to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field, arrow.array(values, type=field.type))


def first_row(table, feature, status=Status.PRESENT):
    """The first vector in which a feature has a status."""
    return table.column(f"{feature}__status").to_pylist().index(int(status))


def test_every_served_value_is_recomputed_to_the_last_bit(world, proof):
    assert proof.unequal == 0, proof.report.differences[:5]
    assert proof.vectors == len(world.served) == world.table.num_rows
    assert proof.values > 20 * proof.vectors
    assert proof.report.unknown == 0
    assert proof.report.stale_unequal == 0


def test_the_record_holds_every_kind_of_value(world):
    statuses = {status for name in world.table.schema.names if name.endswith("__status") for status in
                world.table.column(name).to_pylist()}  # fmt: skip

    assert {Status.PRESENT, Status.EMPTY, Status.UNKNOWN, Status.AHEAD, Status.ERROR} <= statuses
    assert set(world.table.column("every_v1__shard").to_pylist()) == {0, 1, None}
    assert len(set(world.table.column("every_v1__run").to_pylist()) - {0}) == 2  # one restart


def test_sql_that_shares_no_code_says_the_same(proof):
    assert (proof.oracle_vectors, proof.oracle_unequal) == (100, 0), proof.oracle.differences[:5]
    assert proof.oracle.values > 2000


def test_the_three_planted_faults_are_found(proof):
    assert [(control.fault, control.found) for control in proof.faults] == [
        ("changed byte", True),
        ("shifted tail", True),
        ("event twice", True),
    ], proof.faults
    assert proof.controls == 3


def test_vectors_were_served_before_some_of_their_events_arrived(world):
    """With the knowledge of the newest commit of its run, many a vector would have been another."""
    table = world.table
    for view in ("every_v1", "pairs_v1"):
        run, n = (np.array(table.column(f"{view}__{name}").to_pylist()) for name in ("run", "n"))
        newest = {each: int(n[run == each].max()) for each in set(run.tolist())}
        column = arrow.array([newest[each] for each in run.tolist()])
        name = f"{view}__n"
        table = table.set_column(table.schema.get_field_index(name), name, column)

    report = again(world, table)

    assert report.unequal > 50
    assert "every:count_1h" in report.by_feature


def test_a_changed_value_is_named_with_its_vector_and_feature(world):
    row = first_row(world.table, "every__fare_mean_3h")
    value = world.table.column("every__fare_mean_3h")[row].as_py()

    report = again(world, changed(world.table, "every__fare_mean_3h", row, np.nextafter(value, np.inf).item()))

    [difference] = report.differences
    assert (difference.vector, difference.feature) == (
        world.table.column("vector_id")[row].as_py(),
        "every:fare_mean_3h",
    )
    assert difference.recomputed == value
    assert difference.served != value
    assert report.unequal == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("every__fare_last_3_6h", [1.0]),
        ("every__driver_last_2", []),
        ("every__driver_last_1h", "zoe"),
        ("every__shared_last_6h", None),
        ("share", 0.123),
    ],
)
def test_a_changed_list_text_or_ratio_is_found(world, column, value):
    row = first_row(world.table, column)

    report = again(world, changed(world.table, column, row, value))

    assert report.unequal == 1


def test_a_byte_changed_in_redis_is_found_in_what_is_served_from_then_on(world):
    redis, row = world.store.redis, {"city": "york", "kind": 1, "rival": None}
    key = f"features:{world.environment}:{{city:york}}"
    packed = redis.hget(key, "every@1")
    as_of = decode_row(packed).from_us
    true = world.reader.get_online_features(SERVICE, row, as_of=as_of)
    for damaged in changed_bytes(packed):
        redis.hset(key, "every@1", damaged)
        served = world.reader.get_online_features(SERVICE, row, as_of=as_of)
        if served.values != true.values:
            break
    redis.hset(key, "every@1", packed)
    log = ServedLog()
    log.add(row, served, as_of_us=as_of)

    report = again(world, log.table())

    wrong = [name for name, a, b in zip(true.names, true.values, served.values, strict=True) if a != b]
    assert list(report.by_feature) == wrong != []


def test_a_changed_status_is_found(world):
    row = first_row(world.table, "every__count_1h")

    report = again(world, changed(world.table, "every__count_1h__status", row, int(Status.EMPTY)))

    assert set(report.by_feature) <= {"every:count_1h", "share"}
    assert "every:count_1h" in report.by_feature


def test_a_value_for_a_null_key_is_found(world):
    row = world.table.column("city").to_pylist().index(None)
    table = changed(world.table, "every__count_1h", row, 5)

    report = again(world, changed(table, "every__count_1h__status", row, int(Status.PRESENT)))

    assert report.by_feature["every:count_1h"] == 1


def test_a_whole_number_where_a_float_is_declared_is_found(world):
    column = "every__fare_mean_3h"
    values = [None if value is None else int(value) for value in world.table.column(column).to_pylist()]
    place = world.table.schema.get_field_index(column)

    report = again(world, world.table.set_column(place, column, arrow.array(values, arrow.int64())))

    present = world.table.column(f"{column}__status").to_pylist().count(int(Status.PRESENT))
    assert set(report.by_feature) == {"every:fare_mean_3h"}
    assert report.unequal >= present


def test_a_value_whose_commit_is_not_in_the_lake_is_no_proof(world):
    row = first_row(world.table, "pairs__count_15m")

    report = again(world, changed(world.table, "pairs_v1__n", row, 10**6))

    assert {difference.recomputed_status for difference in report.differences} == {"UNPROVABLE"}
    assert set(report.by_feature) == {"pairs:count_15m", "pairs:seats_sum_1d", "pairs:fare_max_1h", "mixed"}


def test_a_value_that_is_stale_does_not_count_as_unequal(world):
    row = first_row(world.table, "pairs__count_15m")
    table = changed(world.table, "pairs__count_15m", row, 10**9)

    report = again(world, changed(table, "pairs__count_15m__status", row, int(Status.STALE)))

    assert (report.unequal, report.stale_unequal) == (0, 1)


def test_an_event_ahead_of_the_clock_is_read_but_not_known_until_its_time(world):
    """It waits in the shard; a vector asked for a later time, served before that, does not hold it."""
    now = world.clock.now_us()
    row = world._rows(now, now + 1, count=1, name="early")[0] | {"city": "york", "kind": 1, "seats": 1}
    row["begun"] = proof_world.from_us(now + 30 * SECOND_US)
    world.coming.append(proof_world.Arriving(now + SECOND_US, row))
    served, world.served = world.served, ServedLog()
    world.step(by_us=SECOND_US, reads=0)
    before = world.read({"city": "york", "kind": 1, "rival": None}, as_of_us=now + 40 * SECOND_US)
    world.step(by_us=MINUTE_US, reads=0)
    after = world.read({"city": "york", "kind": 1, "rival": None}, as_of_us=now + 61 * SECOND_US)
    world.archive()

    report = again(world, world.served.table())

    world.served = served
    assert after["every:count_1h"].value == before["every:count_1h"].value + 1
    assert report.unequal == 0, report.differences[:3]


def test_what_was_known_before_the_clock_went_back_stays_known(world):
    served, world.served = world.served, ServedLog()
    now = world.clock.now_us()
    world.happen(40, over_us=10 * MINUTE_US)
    world.step(by_us=15 * MINUTE_US, reads=0)
    for back_us in (5 * MINUTE_US, -2 * MINUTE_US, 3 * MINUTE_US):
        then = world.clock.now_us() - back_us
        for city, row in zip(
            proof_world.CITIES, world._rows(then - MINUTE_US, then, count=4, name=f"b{then}"), strict=True
        ):
            world.coming.append(proof_world.Arriving(then, row | {"city": city, "kind": 1, "seats": 1}))
        world.step(by_us=-back_us, reads=0)
        for city in proof_world.CITIES:
            world.read({"city": city, "kind": 1, "rival": "bath"}, as_of_us=None)
    world.archive()
    table, world.served = world.served.table(), served

    found = prove(world.store.compiled, world.store.lake, table, sample=100)

    world.clock.move_to(now + 30 * MINUTE_US)
    assert (found.unequal, found.oracle_unequal) == (0, 0)


def test_a_record_goes_to_the_lake_once_and_comes_back_whole(world):
    compiled, lake = world.store.compiled, world.store.lake

    first, second = append_served(compiled, lake, world.table), append_served(compiled, lake, world.table)
    back = read_served(compiled, lake, SERVICE)

    assert (first.rows, second) == (world.table.num_rows, None)
    wanted = conform(served_layout(compiled, SERVICE), world.table).sort_by("vector_id")
    assert back.equals(wanted)


def test_a_record_of_something_else_is_refused(world):
    compiled, lake = world.store.compiled, world.store.lake

    with pytest.raises(InputError, match="has no column 'every__count_1h'"):
        prove(compiled, lake, world.table.drop_columns(["every__count_1h"]))
    with pytest.raises(InputError, match="must be of one service, got no vectors"):
        prove(compiled, lake, world.table.slice(0, 0))
    with pytest.raises(InputError, match="a record of served vectors has a column 'service'"):
        prove(compiled, lake, arrow.table({"a": [1]}))
