"""A new version of a service beside the one that is served: who gets what, and when."""

import pytest
from online_world import NOW_US, World, departures, item, legs, service

from feature_store.changes import Meanings
from feature_store.changing.applied import Applied, publish, read_applied, record
from feature_store.changing.rollout import begin, promote, rollback, take
from feature_store.errors import ApplyConflict, InputError, UnknownNameError
from feature_store.lake import Lake
from feature_store.online.keys import services_key
from feature_store.online.rollout import Rollout, is_in_share, settle
from feature_store.reader import FeatureReader
from feature_store.reader.core import ReaderCore
from feature_store.reader.plan import HASHES
from feature_store.reader.sample import is_chosen
from feature_store.reader.transport import SocketTransport

AIRPORTS = [f"A{number}" for number in range(200)]
OLD, NEW = service(item("departures", "count_1h")), service(item("departures", "mean_1h"), version=2)
SECOND_US = 1_000_000


class Rolled(World):
    """Two versions of a service that are applied and published, the first one served."""

    def __init__(self, url, env, home):
        super().__init__(url, env)
        self.lake = Lake.open(home / "lake", env=env, clock=self.clock)
        view = departures()
        self.views = {view.id: view}
        applied = Applied(
            meanings=Meanings(features={}, services={"delay@1": [], "delay@2": []}),
            rollouts={"delay": Rollout(serve=1)},
        )
        record(self.lake, read_applied(self.lake), applied, at_us=NOW_US)
        publish(self.client, env, self.lake, views=[view], services=[OLD, NEW])
        self.ready()
        for airport in AIRPORTS:
            self.put(view, airport, 3, 12.5)

    def take(self, step):
        return take(step, "delay", lake=self.lake, client=self.client, env=self.env, clock=self.clock)

    def a_second_later(self):
        self.clock.move_to(self.clock.now_us() + SECOND_US)
        self.ready()


@pytest.fixture
def world(valkey, environment, tmp_path):
    world = Rolled(valkey.url, environment, tmp_path)
    yield world
    world.lake.close()


@pytest.fixture
def reader(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        yield reader


def served(reader, name="delay"):
    """Airport -> which version it was given."""
    vectors = reader.get_online_features_batch(name, [{"origin": airport} for airport in AIRPORTS])
    wanted = {"delay@1": {"departures:count_1h": 3}, "delay@2": {"departures:mean_1h": 12.5}}
    assert all(vector.to_dict() == wanted[vector.service] for vector in vectors)
    return {airport: vector.service for airport, vector in zip(AIRPORTS, vectors, strict=True)}


def test_running_readers_follow_each_step_within_a_second_and_pinned_ones_stay(world, reader):
    seen = [set(served(reader).values())]
    for step in (begin("split", 2, 100), rollback(), promote(2), rollback()):
        world.take(step)
        world.a_second_later()
        seen.append(set(served(reader).values()))
        assert set(served(reader, "delay@1").values()) == {"delay@1"}

    assert seen == [{"delay@1"}, {"delay@2"}, {"delay@1"}, {"delay@2"}, {"delay@1"}]


def test_a_share_of_the_entities_is_stable_while_it_grows(world, reader):
    shares = {}
    for share in (10, 40, 40.5, 100):
        world.take(begin("split", 2, share))
        world.a_second_later()
        given = served(reader)
        shares[share] = {airport for airport in AIRPORTS if given[airport] == "delay@2"}
        assert shares[share] == {airport for airport in AIRPORTS if is_in_share("delay", airport, share)}

    assert 5 <= len(shares[10]) <= 40
    assert shares[10] < shares[40] <= shares[40.5] < shares[100] == set(AIRPORTS)


def test_rows_of_one_request_keep_their_order_and_a_null_key_is_served_the_old_version(world, reader):
    world.take(begin("split", 2, 50))

    vectors = reader.get_online_features_batch("delay", [{"origin": None}, {"origin": "A1"}, {"origin": "A2"}])

    expected = ["delay@2" if is_in_share("delay", airport, 50) else "delay@1" for airport in ("A1", "A2")]
    assert [vector.service for vector in vectors] == ["delay@1", *expected]


def test_a_rollout_costs_no_round_trip(world, reader):
    served(reader)
    world.take(begin("split", 2, 50))
    world.a_second_later()
    trips = []
    exchange = reader._transport.exchange

    def counted(commands):
        if commands[0][0] != "XADD":  # the sample is pushed behind the reads
            trips.append(len(commands))
        return exchange(commands)

    reader._transport.exchange = counted

    served(reader)
    changed, trips[:] = list(trips), []
    served(reader)
    world.a_second_later()
    served(reader)

    assert changed == [204, 2, 201]  # found with the values of the old version, looked up, read again
    assert trips == [201, 204]


class Recorder:
    def __init__(self):
        self.noted = []

    def note(self, plan, rows, kept, *, requests, as_of, now_us, vectors):
        assert len({len(rows), len(as_of), len(vectors)}) == 1
        assert requests == []
        assert now_us >= NOW_US
        every = len(kept) == len(rows)
        self.noted.append((plan.service.id, every, [row["origin"] for row in rows], [v.service for v in vectors]))


def read_with(core, world, rows):
    transport = SocketTransport(world.url, timeout_s=5.0)
    read = core.read("delay", rows, [None] * len(rows))
    try:
        commands, trips = next(read), 0
        while True:
            trips += 1
            commands = read.send(transport.exchange(commands))
    except StopIteration as done:
        return done.value, trips
    finally:
        transport.close()


def test_a_shadow_is_read_in_the_same_round_trip_and_recorded_but_not_served(world):
    world.take(begin("shadow", 2, 30))
    recorder = Recorder()
    core = ReaderCore(world.env, world.clock, recorder)
    rows = [{"origin": airport} for airport in AIRPORTS]
    read_with(core, world, rows)
    recorder.noted.clear()

    vectors, trips = read_with(core, world, rows)

    assert trips == 1
    assert {vector.service for vector in vectors} == {"delay@1"}
    chosen = [airport for airport in AIRPORTS if is_in_share("delay", airport, 30)]
    assert recorder.noted == [
        ("delay@1", False, AIRPORTS, ["delay@1"] * 200),
        ("delay@2", True, chosen, ["delay@2"] * len(chosen)),
    ]


def test_a_shadow_that_needs_more_than_the_request_has_or_fails_disturbs_nobody(world):
    view = legs()
    world.views[view.id] = view
    asks_more = service(item("departures", "count_1h"), item("legs", "count_1d"), version=2)
    fails = service(item("departures", "count_1h"), version=3, on_stale="fail")
    publish(world.client, world.env, world.lake, views=[view], services=[asks_more, fails])
    rollouts = {to: Rollout(serve=1, mode="shadow", to=to, share=100) for to in (2, 3, 4)}  # there is no version 4
    in_the_sample, seen = next(key for key in AIRPORTS if is_chosen(key, HASHES // 100)), []
    for rollout in rollouts.values():
        record(
            world.lake,
            read_applied(world.lake),
            Applied(meanings=Meanings(features={}, services={}), rollouts={"delay": rollout}),
            at_us=NOW_US,
        )
        publish(world.client, world.env, world.lake)
        recorder = Recorder()
        world.clock.move_to(world.clock.now_us() + 3_600 * SECOND_US)  # long past what is fresh
        vectors, _ = read_with(ReaderCore(world.env, world.clock, recorder), world, [{"origin": in_the_sample}])
        seen.append(([vector.service for vector in vectors], [name for name, *_ in recorder.noted]))

    assert seen == [(["delay@1"], ["delay@1"])] * 3


def test_an_emptied_store_keeps_what_a_reader_knows_and_publishing_again_restores_the_rollout(world, reader):
    world.take(promote(2))
    assert set(served(reader).values()) == {"delay@2"}
    world.client.delete(services_key(world.env))
    world.a_second_later()
    assert set(served(reader).values()) == {"delay@2"}

    publish(world.client, world.env, world.lake, services=[OLD, NEW])

    with FeatureReader(world.url, env=world.env, clock=world.clock) as fresh:
        assert set(served(fresh).values()) == {"delay@2"}


def test_of_two_who_roll_out_at_once_the_second_is_told_who_was_first(world):
    def slow(rollout):
        world.take(begin("shadow", 2, 5))
        return promote(2)(rollout)

    with pytest.raises(ApplyConflict, match=r"was at version 1 .* at 2 now; nothing was written") as error:
        world.take(slow)

    assert "version 1 is served, version 2 is also read and recorded for 5 % of the entities" in str(error.value)
    assert read_applied(world.lake).rollouts["delay"].mode == "shadow"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: begin("split", 2, 0), InputError, "`share` must be per cent, more than 0 and at most 100, got 0"),
        (lambda: begin("shadow", 2, 101), InputError, "at most 100, got 101"),
        (lambda: begin("shadow", 1, 10), InputError, "version 1 is served already"),
        (lambda: begin("shadow", 7, 10), UnknownNameError, "unknown service 'delay@7'.*known: delay@1, delay@2"),
        (promote, InputError, "version 1 is served and none is rolled out beside it; name one with `--to`"),
        (rollback, InputError, "there is nothing to roll back: version 1 was never promoted"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(world, make, error, message):
    with pytest.raises(error, match=message):
        world.take(make())
    assert read_applied(world.lake).version == 1


def test_a_version_that_is_still_declared_goes_on_being_served():
    served_one = {"delay": Rollout(serve=1, mode="split", to=2, share=10, previous=None)}

    assert settle({}, {"delay": [1, 2]}) == {"delay": Rollout(serve=2)}
    assert settle(served_one, {"delay": [1, 2, 3]}) == served_one
    assert settle(served_one, {"delay": [1, 3]}) == {"delay": Rollout(serve=1)}
    assert settle(served_one, {"delay": [3]}) == {"delay": Rollout(serve=3)}
    assert settle(served_one, {}) == served_one
