"""What the reader answers for every state of a row and its shard: never a bare None, never a silent zero."""

from datetime import UTC, date, datetime

import pytest
from online_world import (
    NOW_US,
    SLA_US,
    World,
    departures,
    item,
    legs,
    ratio,
    service,
    weather,
    withdraw_shards,
    write_shards,
)

from feature_store.errors import OnlineStoreError, UnknownNameError
from feature_store.online.keys import features_key, shard_of
from feature_store.online.packed import ERROR
from feature_store.online.ready import EXPIRY_SLACK_US
from feature_store.reader import FeatureReader, Provenance, Status
from feature_store.time_rule import HOUR_US, SECOND_US, from_us

JFK = {"origin": "JFK"}
BOTH = (item("departures", "count_1h"), item("departures", "mean_1h"))


@pytest.fixture
def world(valkey, environment):
    return World(valkey.url, environment)


@pytest.fixture
def reader(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        yield reader


def statuses(vector):
    return [status.name for status in vector.statuses]


def test_a_service_is_read_in_its_declared_order_with_times_and_provenance(world, reader):
    view = departures()
    world.publish(view, services=[service(*reversed(BOTH))])
    world.put(view, "JFK", 3, 12.5, age_us=90 * SECOND_US)
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert vector.to_dict() == {"departures:mean_1h": 12.5, "departures:count_1h": 3}
    assert vector.values == [12.5, 3]
    assert statuses(vector) == ["PRESENT", "PRESENT"]
    assert vector["departures:count_1h"] == (3, Status.PRESENT, from_us(NOW_US - 91 * SECOND_US))
    assert vector["departures@1:count_1h"].value == 3
    assert vector.provenance == {"departures@1": Provenance(1, 7, NOW_US, 0, NOW_US - 91 * SECOND_US)}


def test_a_value_decays_at_the_second_at_which_its_window_moves(world, reader):
    # from = now - 1 s; 5 until floor(from) + 61 s, then 2, then empty
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", [5, 61, 2, 121, None], [8.0, 121, None])
    start_us = (NOW_US - SECOND_US) // SECOND_US * SECOND_US

    seen = {}
    for second in (60, 61, 120, 121):
        world.clock.move_to(start_us + second * SECOND_US)
        world.ready()
        vector = reader.get_online_features("delay", JFK)
        seen[second] = (vector.values, statuses(vector))

    assert seen == {
        60: ([5, 8.0], ["PRESENT", "PRESENT"]),
        61: ([2, 8.0], ["PRESENT", "PRESENT"]),
        120: ([2, 8.0], ["PRESENT", "PRESENT"]),
        121: ([0, None], ["EMPTY", "EMPTY"]),
    }


def test_a_value_that_cannot_be_expressed_is_an_error_and_spoils_no_other(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", ERROR, 1.0)
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert (vector.values, statuses(vector)) == ([None, 1.0], ["ERROR", "PRESENT"])


@pytest.mark.parametrize("damaged", [b"", b"\xc1", b"\x91\x01", b"\x96\x01\x01\x01\x01\x01\xa1x"])
def test_damaged_bytes_are_an_error_of_that_view_alone(world, reader, damaged):
    view, other = departures(), weather()
    world.publish(view, other, services=[service(*BOTH, item("weather", "wind"))])
    world.put_bytes(view, "JFK", damaged)
    world.put(other, "JFK", 5.5)
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert (vector.values, statuses(vector)) == ([None, None, 5.5], ["ERROR", "ERROR", "PRESENT"])


def test_a_row_shorter_than_its_layout_is_an_error(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3)
    world.ready()

    assert statuses(reader.get_online_features("delay", JFK)) == ["ERROR", "ERROR"]


# --- missing rows


def test_a_missing_row_is_empty_only_under_a_valid_ready_record(world, reader):
    world.publish(departures(), services=[service(*BOTH)])
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert (vector.values, statuses(vector)) == ([0, None], ["EMPTY", "EMPTY"])
    assert vector.provenance["departures@1"] == Provenance(1, 9, NOW_US, 0, None)
    assert vector["departures:count_1h"].event_time is None


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": "of another store"},
        {"caught_up": False},
        {"evicts": True},
        {"views": {}},
        {"views": {"departures@1": 1}},
        {"beat_us": NOW_US - SLA_US - 1},
    ],
    ids=["other generation", "catching up", "evicts", "view not kept", "layout not kept", "silent"],
)
def test_a_missing_row_is_unknown_when_nobody_can_vouch_for_it(world, reader, changes):
    world.publish(departures(), services=[service(*BOTH, defaults={"departures:mean_1h": -1.0})])
    world.ready(**changes)

    vector = reader.get_online_features("delay", JFK)

    assert (vector.values, statuses(vector)) == ([None, -1.0], ["UNKNOWN", "UNKNOWN"])


def test_a_missing_row_is_unknown_when_the_record_was_withdrawn_or_never_written(world, reader):
    world.publish(departures(), services=[service(*BOTH)])

    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"] * 2
    world.ready()
    world.clock.move_to(NOW_US + SECOND_US)
    assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"] * 2
    withdraw_shards(world.client, world.env)
    world.clock.move_to(NOW_US + 2 * SECOND_US)
    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"] * 2


def test_an_emptied_store_answers_unknown_even_if_the_old_flow_beats_on(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0)
    world.ready()
    assert statuses(reader.get_online_features("delay", JFK)) == ["PRESENT"] * 2

    world.client.delete(features_key(world.env, "airport", "JFK"), f"ready:{world.env}", f"generation:{world.env}")
    world.clock.move_to(NOW_US + SECOND_US)
    world.ready()

    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"] * 2


def test_every_entity_is_judged_by_its_own_shard(world, reader):
    world.publish(departures(), services=[service(*BOTH)])
    write_shards(world.client, world.env, 4)
    ready_shard = shard_of("airport", "JFK", shards=4)
    other = next(key for key in map(str, range(99)) if shard_of("airport", key, shards=4) != ready_shard)
    world.ready(str(ready_shard))

    vectors = reader.get_online_features_batch("delay", [JFK, {"origin": other}])

    assert [statuses(vector)[0] for vector in vectors] == ["EMPTY", "UNKNOWN"]
    assert vectors[0].provenance["departures@1"].shard == ready_shard


def test_a_missing_row_of_a_long_past_may_have_expired_so_it_is_not_taken_for_empty(world, reader):
    world.publish(departures(), services=[service(*BOTH)])
    world.ready()

    near, far = reader.get_online_features_batch(
        "delay", [JFK, JFK], as_of=[NOW_US - EXPIRY_SLACK_US, NOW_US - EXPIRY_SLACK_US - 1]
    )

    assert (statuses(near)[0], statuses(far)[0]) == ("EMPTY", "AHEAD")


# --- freshness


def test_a_stream_value_is_stale_when_the_oldest_unread_record_is_older_than_the_sla(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0)

    world.ready(oldest_unread_us=NOW_US - SLA_US)
    fresh = reader.get_online_features("delay", JFK)
    world.ready(oldest_unread_us=NOW_US - SLA_US, beat_us=NOW_US + 1)
    world.clock.move_to(NOW_US + SECOND_US)
    stale = reader.get_online_features("delay", JFK)

    assert (statuses(fresh), statuses(stale)) == (["PRESENT"] * 2, ["STALE"] * 2)
    assert stale.values == [3, 1.0]


def test_a_quiet_entity_is_not_stale_while_its_shard_beats(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0, from_us=NOW_US - 10 * HOUR_US)
    world.ready()

    assert statuses(reader.get_online_features("delay", JFK)) == ["PRESENT"] * 2


@pytest.mark.parametrize("silence", ["an old beat", "no record"])
def test_a_stream_value_without_a_heartbeat_is_stale(world, reader, silence):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0)
    if silence == "an old beat":
        world.ready(beat_us=NOW_US - SLA_US - 1)

    assert statuses(reader.get_online_features("delay", JFK)) == ["STALE"] * 2


def test_a_value_past_the_end_of_its_validity_is_stale(world, reader):
    # valid for 1 s after the whole second before from_us
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0, until_s=1)
    world.ready()

    asked = [NOW_US - 500_001, NOW_US - 500_000]
    before, after = reader.get_online_features_batch("delay", [JFK, JFK], as_of=asked)

    assert (statuses(before), statuses(after)) == (["PRESENT"] * 2, ["STALE"] * 2)


def test_the_age_of_a_batch_row_decides_whether_it_is_stale(world, reader):
    view = weather()
    world.publish(view, services=[service(item("weather", "wind"))])
    world.put(view, "JFK", 7.5, from_us=NOW_US - 2 * HOUR_US)

    fresh = reader.get_online_features("delay", JFK)
    stale = reader.get_online_features("delay", JFK, as_of=NOW_US + 1)

    assert (fresh.values, statuses(fresh)) == ([7.5], ["PRESENT"])
    assert (stale.values, statuses(stale)) == ([7.5], ["STALE"])


def test_a_missing_batch_row_is_judged_by_the_record_of_its_view(world, reader):
    world.publish(weather(), services=[service(item("weather", "wind"))])
    world.ready()  # a shard's record says nothing about a batch view
    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"]

    world.ready("weather@1", beat_us=NOW_US - HOUR_US)
    world.clock.move_to(NOW_US + SECOND_US)

    assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"]
    assert statuses(reader.get_online_features("delay", JFK, as_of=NOW_US - HOUR_US - 1)) == ["AHEAD"]


# --- the time asked


def test_asked_for_a_time_before_the_value_began_it_is_ahead(world, reader):
    #      as_of       from_us     now
    # -------|------------|---------|
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", [3, 1, 2], 1.0)
    world.ready()

    begun = NOW_US - SECOND_US
    at, before = reader.get_online_features_batch("delay", [JFK, JFK], as_of=[begun, begun - 1])

    assert (statuses(at), statuses(before)) == (["PRESENT"] * 2, ["AHEAD"] * 2)
    assert before.values == [3, 1.0]
    assert before.provenance["departures@1"].as_of_us == begun


def test_without_a_time_asked_a_value_that_begins_later_answers_for_its_beginning(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0, from_us=NOW_US + 4)
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert statuses(vector) == ["PRESENT"] * 2
    assert vector.provenance["departures@1"].as_of_us == NOW_US + 4


def test_the_time_asked_may_be_an_aware_datetime_or_microseconds_one_or_many(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0)
    world.ready()

    moment = datetime.fromtimestamp(1_700_000_000, tz=UTC)
    one = reader.get_online_features("delay", JFK, as_of=moment)
    many = reader.get_online_features_batch("delay", [JFK, JFK, JFK], as_of=[moment, None, NOW_US])

    assert one.provenance["departures@1"].as_of_us == 1_700_000_000_000_000
    assert [v.provenance["departures@1"].as_of_us for v in many] == [1_700_000_000_000_000, NOW_US, NOW_US]


# --- policies


@pytest.mark.parametrize("state", ["stale", "ahead"])
@pytest.mark.parametrize(("policy", "values"), [("serve", [3, 1.0]), ("default", [None, -1.0])])
def test_the_service_says_what_stale_and_ahead_give(world, reader, state, policy, values):
    view = departures()
    options = {"defaults": {"departures:mean_1h": -1.0}, f"on_{state}": policy}
    world.publish(view, services=[service(*BOTH, **options)])
    world.put(view, "JFK", 3, 1.0)
    world.ready(beat_us=NOW_US - (SLA_US + 1 if state == "stale" else 0))

    vector = reader.get_online_features("delay", JFK, as_of=NOW_US if state == "stale" else NOW_US - HOUR_US)

    assert (vector.values, statuses(vector)) == (values, [state.upper()] * 2)


@pytest.mark.parametrize("state", ["stale", "ahead"])
def test_a_service_may_say_that_stale_and_ahead_fail(world, reader, state):
    view = departures()
    world.publish(view, services=[service(*BOTH, **{f"on_{state}": "fail"})])
    world.put(view, "JFK", 3, 1.0)
    world.ready(beat_us=NOW_US - (SLA_US + 1 if state == "stale" else 0))

    with pytest.raises(OnlineStoreError) as error:
        reader.get_online_features("delay", JFK, as_of=NOW_US if state == "stale" else NOW_US - HOUR_US)

    assert str(error.value) == (
        f"feature 'departures:count_1h' is {state.upper()}, and service 'delay@1' says on_{state}='fail'"
    )


# --- many entities, ratios, types


def test_an_entity_with_a_null_key_is_unknown_and_the_others_are_read(world, reader):
    airports, routes = departures(), legs()
    world.publish(airports, routes, services=[service(*BOTH, item("legs", "count_1d"))])
    world.put(airports, "JFK", 3, 1.0)
    world.put(routes, "JFK|LAX", 8)
    world.ready()

    rows = [{"origin": "JFK", "dest": dest} for dest in (None, "LAX", float("nan"))]
    vectors = reader.get_online_features_batch("delay", rows)

    assert [vector.values for vector in vectors] == [[3, 1.0, None], [3, 1.0, 8], [3, 1.0, None]]
    assert [vector.statuses[2].name for vector in vectors] == ["UNKNOWN", "PRESENT", "UNKNOWN"]


def test_all_keys_null_needs_no_answer_from_the_store(world, reader):
    world.publish(departures(), services=[service(*BOTH)])

    assert statuses(reader.get_online_features("delay", {"origin": None})) == ["UNKNOWN"] * 2
    assert statuses(reader.get_online_features("delay", {"origin": None})) == ["UNKNOWN"] * 2


def test_keys_are_escaped_as_they_were_written(world, reader):
    view = legs()
    world.publish(view, services=[service(item("legs", "count_1d"))])
    world.put(view, "a%7Cb%25|%7Bx%7D", 5)
    world.ready()

    assert reader.get_online_features("delay", {"origin": "a|b%", "dest": "{x}"}).values == [5]


def test_personal_data_lives_under_keys_of_its_own_and_is_read_in_the_same_round_trip(world, reader):
    plain, private = departures(), departures(name="guests", features=["count_1h"], personal=True)
    world.publish(plain, private, services=[service(*BOTH, item("guests", "count_1h"))])
    world.put(plain, "JFK", 3, 1.0)
    world.put(private, "JFK", 4)
    world.ready()

    assert reader.get_online_features("delay", JFK).values == [3, 1.0, 4]
    assert world.client.exists(f"features-pii:{world.env}:{{airport:JFK}}") == 1


def test_times_dates_and_lists_come_back_as_what_they_are(world, reader):
    view = departures(features=["last_at", "day", "tails", "last_tail"])
    world.publish(view, services=[service(*(item("departures", f.name) for f in view.features))])
    world.put(view, "JFK", 1_357_041_600_000_001, [15706, 9, 15707], [["N1", "N2"], 60, None], "N2")
    world.put(view, "LGA", None, None, [None], None)
    world.ready()

    full, empty = reader.get_online_features_batch("delay", [JFK, {"origin": "LGA"}])

    assert full.values == [datetime(2013, 1, 1, 12, 0, 0, 1, tzinfo=UTC), date(2013, 1, 1), ["N1", "N2"], "N2"]
    assert (empty.values, statuses(empty)) == ([None, None, [], None], ["EMPTY"] * 4)


def test_a_ratio_divides_what_is_stored_also_what_is_not_served(world, reader):
    view = departures(features=["count_1h", "count_24h"])
    load = ratio("load", item("departures", "count_1h"), item("departures", "count_24h"), empty=0.5)
    world.publish(view, services=[service(load, item("departures", "count_1h"), defaults={"load": 9.0})])
    world.put(view, "JFK", 3, 4)
    world.put(view, "LGA", 3, None)
    world.put(view, "EWR", 3, ERROR)
    world.ready()

    rows = [{"origin": origin} for origin in ("JFK", "LGA", "EWR", None)]
    vectors = reader.get_online_features_batch("delay", rows)

    assert [vector.values for vector in vectors] == [[0.75, 3], [0.5, 3], [None, 3], [9.0, None]]
    assert [vector.statuses[0].name for vector in vectors] == ["PRESENT", "EMPTY", "ERROR", "UNKNOWN"]
    assert vectors[0]["load"] == (0.75, Status.PRESENT, None)


def test_a_list_of_features_is_read_in_its_newest_version_unless_one_is_named(world, reader):
    old, new = departures(), departures(version=2)
    world.publish(old, new)
    world.put(old, "JFK", 3, 1.0)
    world.put(new, "JFK", 4, 2.0)
    world.ready()

    vector = reader.get_online_features(["departures:count_1h", "departures@1:mean_1h"], JFK)

    assert vector.to_dict() == {"departures:count_1h": 4, "departures@1:mean_1h": 1.0}


# --- versions


def test_rows_written_before_a_feature_was_added_are_still_read(world, reader):
    old = departures(features=["count_1h"])
    world.publish(old)
    world.put(old, "JFK", 3)
    world.publish(departures(features=["mean_1h", "count_1h"]), services=[service(*BOTH)])
    world.ready()

    vector = reader.get_online_features("delay", JFK)

    assert (vector.values, statuses(vector)) == ([3, None], ["PRESENT", "UNKNOWN"])


def test_a_reader_that_runs_on_takes_up_a_new_layout(world, reader):
    old = departures()
    world.publish(old, services=[service(*BOTH)])
    world.ready()
    assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"] * 2

    new = departures(features=["count_24h", "count_1h", "mean_1h"])
    world.publish(new, services=[service(*BOTH)])
    world.ready()
    world.put(new, "JFK", 9, 3, 1.0)
    for second in (1, 2):
        world.clock.move_to(NOW_US + second * SECOND_US)
        assert reader.get_online_features("delay", JFK).values == [3, 1.0]
    assert reader.get_online_features("delay", {"origin": "LGA"}).statuses == [Status.EMPTY] * 2


def test_a_service_keeps_its_version_for_as_long_as_the_reader_lives(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH), service(BOTH[1], version=2)])
    world.put(view, "JFK", 3, 1.0)
    world.ready()

    assert reader.get_online_features("delay", JFK).values == [1.0]
    world.publish(view, services=[service(BOTH[0], version=3)])

    assert reader.get_online_features("delay", JFK).values == [1.0]
    assert reader.get_online_features("delay@3", JFK).values == [3]
    assert reader.get_online_features("delay@1", JFK).values == [3, 1.0]


def test_an_unknown_name_in_a_vector_lists_what_there_is(world, reader):
    world.publish(departures(), services=[service(*BOTH)])

    with pytest.raises(UnknownNameError, match=r"did you mean 'departures:count_1h'\?"):
        reader.get_online_features("delay", JFK)["departures:count_2h"]


def test_two_environments_on_one_server_never_meet(valkey, environment):
    one, two = World(valkey.url, f"{environment}-a"), World(valkey.url, f"{environment}-b")
    view = departures()
    for world in (one, two):
        world.publish(view, services=[service(*BOTH)])
        world.ready()
    one.put(view, "JFK", 3, 1.0)

    with FeatureReader(two.url, env=two.env, clock=two.clock) as reader:
        assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"] * 2


def test_the_cached_record_is_read_again_after_a_second(world, reader):
    world.publish(departures(), services=[service(*BOTH)])
    world.ready()
    assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"] * 2
    withdraw_shards(world.client, world.env)

    world.clock.move_to(NOW_US + SECOND_US - 1)
    cached = statuses(reader.get_online_features("delay", JFK))
    world.clock.move_to(NOW_US + SECOND_US)

    assert cached == ["EMPTY"] * 2
    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"] * 2


def test_a_record_that_went_back_is_not_believed_until_it_is_ahead_again(world, reader):
    world.publish(departures(), services=[service(*BOTH)])

    def after(seconds, **changes):
        world.clock.move_to(NOW_US + seconds * SECOND_US)
        world.ready(beat_us=NOW_US, **changes)
        return set(statuses(reader.get_online_features("delay", JFK)))

    assert after(0, run=1, n=9) == {"EMPTY"}
    assert after(2, run=1, n=8) == {"UNKNOWN"}
    assert after(4, run=1, n=9) == {"UNKNOWN"}
    assert after(6, run=1, n=10) == {"EMPTY"}
    assert after(8, run=2, n=1) == {"EMPTY"}


def test_after_a_lost_connection_the_shards_must_vouch_again(world, reader):
    view = departures()
    world.publish(view, services=[service(*BOTH)])
    world.put(view, "JFK", 3, 1.0)
    world.ready()
    request = [JFK, {"origin": "LGA"}]
    assert [statuses(v)[0] for v in reader.get_online_features_batch("delay", request)] == ["PRESENT", "EMPTY"]

    world.client.client_kill_filter(_type="normal", skipme=True)
    assert [statuses(v)[0] for v in reader.get_online_features_batch("delay", request)] == ["STALE", "UNKNOWN"]
    world.clock.move_to(NOW_US + SECOND_US)
    world.ready(n=10)

    assert [statuses(v)[0] for v in reader.get_online_features_batch("delay", request)] == ["PRESENT", "EMPTY"]


def test_a_store_that_is_emptied_between_two_reads_is_noticed_at_once(world, reader):
    world.publish(departures(), services=[service(*BOTH)])
    world.ready()
    assert statuses(reader.get_online_features("delay", JFK)) == ["EMPTY"] * 2

    world.client.delete(f"ready:{world.env}", f"generation:{world.env}")

    assert statuses(reader.get_online_features("delay", JFK)) == ["UNKNOWN"] * 2
