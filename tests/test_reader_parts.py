"""Reads of many rows go to Redis in parts, all of them before the first is answered: nobody can tell from what comes back."""

import contextlib
import time

import pytest
from demanded import PLAN
from online_world import NOW_US, World, departures, item, ratio, service
from redis import Redis

from feature_store.errors import InputError, OnlineStoreError
from feature_store.reader import FeatureReader
from feature_store.reader import transport as reader_transport
from feature_store.reader.core import ROWS_AT_ONCE
from feature_store.reader.places import RowRefused
from feature_store.reader.route import part_of

MANY = 2 * ROWS_AT_ONCE
COUNT, MEAN = item("departures", "count_1h"), item("departures", "mean_1h")


@pytest.fixture
def world(valkey, environment):
    world = World(valkey.url, environment)
    view = departures()
    fails = service(COUNT, name="strict", on_stale="fail")
    world.publish(view, services=[service(COUNT, MEAN), fails, service(ratio("share", COUNT, MEAN), name="computed")])
    for number in range(0, 3 * MANY, 2):  # every other one: the rest is EMPTY
        world.put(view, f"A{number}", [number, 90, -number], 1.0, from_us=NOW_US - number * 1_000_000)
    world.ready()
    return world


@pytest.fixture
def reader(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        reader.get_online_features("delay", {"origin": "A0"})
        yield reader


@pytest.fixture
def steps(monkeypatch):
    """What connections were told to do, and for how many commands or replies."""
    done = []

    class Told(reader_transport._Connection):
        def send(self, commands):
            done.append(("send", len(commands)))
            super().send(commands)

        def receive(self, missing):
            done.append(("receive", missing))
            return super().receive(missing)

    monkeypatch.setattr(reader_transport, "_Connection", Told)
    return done


def rows(count, first=0):
    return [{"origin": f"A{number}"} for number in range(first, first + count)]


def told(vectors):
    return [(vector.values, vector.statuses, vector.provenance) for vector in vectors]


def one_by_one(reader, asked, **options):
    return [vector for row in asked for vector in reader.get_online_features_batch("delay", [row], **options)]


@pytest.mark.parametrize("count", [MANY - 1, MANY, MANY + 1, 3 * MANY])
def test_many_rows_are_read_as_each_of_them_alone(reader, count):
    asked = rows(count, first=7)

    found = reader.get_online_features_batch("delay", asked)

    assert told(found) == told(one_by_one(reader, asked))
    assert len({tuple(values) for values, _, _ in told(found)}) > count // 3


def test_each_row_has_its_own_time(reader):
    asked, times = rows(MANY), [NOW_US - number * 1_000_000 for number in range(MANY)]

    found = reader.get_online_features_batch("delay", asked, as_of=times)

    alone = [reader.get_online_features("delay", row, as_of=at) for row, at in zip(asked, times, strict=True)]
    assert told(found) == told(alone)


def test_rows_without_keys_are_among_the_others(reader):
    asked = [*rows(MANY), *[{"origin": None}] * MANY]

    found = reader.get_online_features_batch("delay", asked)

    assert told(found) == told(one_by_one(reader, asked))


def test_everything_is_sent_before_anything_is_waited_for(world, steps):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        reader.get_online_features("delay", {"origin": "A0"})
        steps.clear()
        reader.get_online_features_batch("delay", rows(MANY))

    part = ROWS_AT_ONCE + 1  # the rows, and the generation
    assert steps == [("send", part), ("send", part), ("receive", part), ("receive", part)]


@pytest.mark.parametrize(
    ("features", "count"), [("delay", MANY - 1), ("strict", MANY), ("computed", MANY), ("delay@1", MANY)]
)
def test_what_must_be_read_as_a_whole_is_one_request(world, steps, features, count):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        if features != "delay@1":  # which nobody has read before
            reader.get_online_features(features, {"origin": "A0"})
        steps.clear()
        reader.get_online_features_batch(features, rows(count))

    assert steps[-2:] == [("send", steps[-1][1]), ("receive", steps[-1][1])]
    assert steps[-1][1] > count
    assert steps[-3:-2] in ([], [("receive", 2)])


def test_a_client_of_redis_py_has_one_round_trip(world):
    trips = []
    with Redis.from_url(world.url) as client, FeatureReader(client, env=world.env, clock=world.clock) as reader:
        reader.get_online_features("delay", {"origin": "A0"})
        exchange = reader._transport.exchange
        reader._transport.exchange = lambda commands: trips.append(len(commands)) or exchange(commands)
        found = reader.get_online_features_batch("delay", rows(MANY))
        assert trips == [MANY + 2]
        assert told(found) == told(one_by_one(reader, rows(MANY)))


@pytest.mark.parametrize("answered", [0, 1])
def test_a_connection_that_is_lost_half_way_is_made_anew_and_nothing_is_believed_of_before(
    world, reader, monkeypatch, answered
):
    expected = told(reader.get_online_features_batch("delay", rows(MANY)))
    [connection] = reader._transport._idle
    left, receive = [answered], connection.receive

    def cut(missing):
        if not left[0]:
            raise ConnectionResetError("the server closed the connection")
        left[0] -= 1
        return receive(missing)

    monkeypatch.setattr(connection, "receive", cut)
    lost, forget = [], reader._core.connection_lost
    monkeypatch.setattr(reader._transport, "_on_lost", lambda: lost.append(1) or forget())

    found = reader.get_online_features_batch("delay", rows(MANY))

    # Whoever answers now may have lost what was vouched for: what is missing is not EMPTY until the next record.
    assert len(lost) == 1
    assert [values for values, _, _ in told(found)][::2] == [values for values, _, _ in expected][::2]
    assert connection not in reader._transport._idle
    world.ready(beat_us=NOW_US + 1)
    world.clock.move_to(NOW_US + 2_000_000)
    assert told(reader.get_online_features_batch("delay", rows(MANY))) == told(one_by_one(reader, rows(MANY)))


def test_a_row_without_its_key_among_many_leaves_no_answers_to_the_next_read(reader):
    expected = told(one_by_one(reader, rows(MANY)))

    with pytest.raises(InputError, match="entity 'airport' needs the join key `origin`, got `dest`"):
        reader.get_online_features_batch("delay", [*rows(MANY), {"dest": "LAX"}])

    assert told(reader.get_online_features_batch("delay", rows(MANY))) == expected


def test_a_read_that_is_interrupted_leaves_no_answers_to_the_next(reader, monkeypatch):
    expected = told(reader.get_online_features_batch("delay", rows(MANY)))

    class Interrupted(BaseException):
        pass

    def interrupted(*_args, **_options):
        raise Interrupted

    with monkeypatch.context() as patched, contextlib.suppress(Interrupted):
        patched.setattr("feature_store.reader.core.decode_vectors", interrupted)
        reader.get_online_features_batch("delay", rows(MANY))

    assert told(reader.get_online_features_batch("delay", rows(MANY))) == expected


def test_a_server_that_answers_late_is_named_and_its_late_answers_are_nobodys(world):
    with (
        Redis.from_url(world.url) as client,
        FeatureReader(world.url, env=world.env, clock=world.clock, timeout_s=0.2) as reader,
    ):
        expected = told(reader.get_online_features_batch("delay", rows(MANY)))
        client.client_pause(600)
        with pytest.raises(OnlineStoreError, match=r"cannot be reached: no answer within 0\.2 s"):
            reader.get_online_features_batch("delay", rows(MANY, first=MANY))
        client.client_unpause()
        time.sleep(0.05)

        found = reader.get_online_features_batch("delay", rows(MANY))
        assert [values for values, _, _ in told(found)][::2] == [values for values, _, _ in expected][::2]


def test_a_wrong_row_of_those_that_another_version_serves_has_its_place_in_the_request():
    with pytest.raises(RowRefused, match="needs the join key `customer`") as refused:
        part_of(PLAN, [4, 7], [{"customer": "ada"}, {}])

    assert refused.value.row == 7
