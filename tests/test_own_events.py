"""Event-driven scoring: what a value was just before the newest event, while that event counts already.

  e1      e2      e3 (newest)
---|-------|-------|------------------> time
           (.......]                     as_of e3: windows with e1 and e2
                   (.............        as_of anything later: with e3
"""

import dataclasses
import functools
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pytest
from demanded import spending, times_usual
from hypothesis import given, settings
from hypothesis import strategies as st
from online_world import NOW_US as ONLINE_US
from online_world import World as OnlineWorld
from online_world import departures, item, service, weather
from strategies import splits
from stream_world import NOW_US, PLANS, SOURCE, World, accepted, kinds, rows, sites

from feature_store import DeclarationError, FeatureReader, FeatureService, FeatureStore, Registry, Settings, Status
from feature_store.clock import ManualClock
from feature_store.decoders import json as json_decoder
from feature_store.errors import ValueRefused
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.rebuild import rebuild_shards, resolve_origin
from feature_store.fold.run import LocalStream
from feature_store.fold.shard import Shard
from feature_store.fold.split import Splitter
from feature_store.log.protocol import Record
from feature_store.online.packed import decode_row, item_at, own_row, seconds_since
from feature_store.proof.served_archive import ServedArchiver
from feature_store.proof.verify import verify
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, SECOND_US, from_us, to_us
from feature_store.transforms.compiled import compile_registry
from feature_store.transforms.project import TIME

OWN = compile_registry(Registry(views=[dataclasses.replace(view, score_own_event=True) for view in (sites, kinds)]))
OWN_PLANS = list(OWN.plans_of(SOURCE))
SLACK_US = HOUR_US // 8
"""For so long rows are kept that the shortest window does not hold any more."""


def recent(count, seed):
    """Readings, more than half of them of the last minutes."""
    some = rows(count, seed=seed)
    for number, row in enumerate(some):
        if number % 5 < 3:
            ago_us = 1 + number * 7_919_993 % (5 * MINUTE_US)
            row["at"] = from_us(
                (NOW_US - ago_us) // (SECOND_US if number % 2 else 1) * (SECOND_US if number % 2 else 1)
            )
    return some


ALL = accepted(recent(80, 3))


def batches(events, plans):
    return Splitter(SOURCE, plans, shards=1).split(events, {0: events.num_rows})


def shard_of(plans):
    return Shard(plans, env="test", shard=0, run=1)


def everything(shard, now_us=NOW_US):
    """(key, view) -> the row of each entity, written at once."""
    shard.start_at(shard.positions)
    return {(write.key, write.field): decode_row(write.value) for write in shard.fold([], now_us).values}


def at(row, time_us):
    return [item_at(item, seconds_since(row.from_us, time_us)) for item in row.items]


@functools.cache
def before(time_us):
    """What shards that keep nothing say at a time, of the events before it."""
    events = ALL
    shard = shard_of(PLANS)
    times = events.column(TIME).to_numpy()
    shard.fold(batches(events.filter(times < time_us), PLANS), time_us)
    return {place: at(row, time_us) for place, row in everything(shard, time_us).items() if row.from_us <= time_us}


def empty(row):
    """What a missing row means: no window has an event."""
    return [[None] if type(item) is list else None for item in row]


@settings(max_examples=12)
@given(data=st.data())
def test_the_value_before_the_newest_event_is_that_of_the_events_before_it(data):
    shard, place = shard_of(OWN_PLANS), 0
    sizes = data.draw(splits(ALL.num_rows))
    times = sorted(data.draw(st.lists(st.integers(0, DAY_US), min_size=len(sizes), max_size=len(sizes))), reverse=True)
    for size, ago in zip(sizes, times, strict=True):
        shard.fold(batches(ALL.slice(place, size), OWN_PLANS) if size else [], NOW_US - ago)
        place += size

    found = everything(shard)

    kept = 0
    for key, row in found.items():
        if row.age_us is None:
            continue
        newest_us = row.from_us - row.age_us
        own = own_row(row, newest_us)
        if own is None:
            assert newest_us < NOW_US - SLACK_US  # what its windows held may be forgotten
            continue
        kept += 1
        items = [item[0] if type(item) is list else item for item in own.items]
        expected = before(newest_us).get(key)
        if expected is None:
            assert set(map(str, items)) <= {"None", "0"}, (key, items)
        else:
            assert items == expected, key
        assert own_row(row, newest_us + 1) is None
        assert own_row(row, newest_us - 1) is None
    assert kept >= 5


def test_what_is_kept_apart_changes_no_value():
    plain, own = shard_of(PLANS), shard_of(OWN_PLANS)
    for start in range(0, ALL.num_rows, 7):
        part = ALL.slice(start, 7)
        plain.fold(batches(part, PLANS), NOW_US - HOUR_US)
        own.fold(batches(part, OWN_PLANS), NOW_US - HOUR_US)

    expected, found = everything(plain), everything(own)

    assert found.keys() == expected.keys()
    for key, row in expected.items():
        mine = found[key]
        assert (mine.age_us is None, mine.items[: len(row.items)] == row.items or at(mine, NOW_US)[:-1] == at(row, NOW_US)) == (
            row.age_us is None, True
        )  # fmt: skip


def test_a_state_rebuilt_from_the_lake_keeps_the_same_events_apart(valkey, tmp_path, environment):
    world = World(valkey.url, tmp_path, environment)
    some = recent(60, 9)
    world.publish(some)
    world.archive()
    live = shard_of(OWN_PLANS)
    events = accepted(some)
    live.fold(batches(events, OWN_PLANS), NOW_US)

    again = shard_of(OWN_PLANS)
    rebuild_shards(OWN, world.lake, resolve_origin(OWN, world.lake), shards=[again], count=1, now_us=NOW_US)

    expected, found = everything(live), everything(again)
    expected = {key: row for key, row in expected.items() if row.age_us is not None}
    assert expected.keys() <= found.keys()
    for key, row in expected.items():
        assert at(found[key], NOW_US)[: len(row.items) - 1] == at(row, NOW_US)[:-1], key
        newest_us = row.from_us - row.age_us
        mine, theirs = own_row(found[key], newest_us), own_row(row, newest_us)
        assert (mine is None) == (theirs is None), key
        assert mine is None or mine.items == theirs.items, key
    world.close()


# ---- a payment is published, and scored

BEGIN = datetime(2026, 3, 1, 6, tzinfo=UTC)


class Shop:
    """A store whose payments are scored after they were published; every read is logged."""

    def __init__(self, url, home, environment, **policies):
        scored = dataclasses.replace(spending, score_own_event=True)
        plain = dataclasses.replace(spending, version=2)
        self.clock = ManualClock(to_us(BEGIN))
        features = {
            "scored": [scored, times_usual.given("times_usual", usual=scored["amount_mean_24h"])],
            "plain": [plain],
        }
        services = [FeatureService(name, features=each, log_rate=1.0, **policies) for name, each in features.items()]
        settings_ = Settings(home=home, redis_url=url, environment=environment)
        self.store = FeatureStore(
            Registry(views=[scored, plain], services=services), settings=settings_, clock=self.clock
        )
        self.store.apply()
        self.stream = LocalStream(
            self.store.compiled, self.store.lake, self.store.redis, env=environment, clock=self.clock
        )
        self.reader, self.count = self.store.reader(), 0

    def pay(self, customer, amount, *, after_s=60):
        """A payment is published and counts; returns its time."""
        self.clock.move_to(self.clock.now_us() + after_s * SECOND_US)
        time_us, self.count = self.clock.now_us(), self.count + 1
        row = {"payment_id": f"p{self.count}", "customer": customer, "merchant": f"m{self.count}", "amount": amount,
               "home": True, "paid_at": from_us(time_us)}  # fmt: skip
        self.store.log("payments").publish([Record(row["payment_id"], json_decoder().encode([row])[0], time_us)])
        self.clock.move_to(time_us + 250_000)
        self.stream.step()
        return time_us

    def score(self, service, customer, time_us):
        return self.reader.get_online_features(service, {"customer": customer, "amount": 50.0}, as_of=time_us)

    def close(self):
        self.reader.close()
        self.store.close()


@pytest.fixture(scope="module")
def shop(valkey, tmp_path_factory, module_environment):
    """One for all tests; each has customers of its own."""
    made = Shop(valkey.url, tmp_path_factory.mktemp("own"), module_environment)
    yield made
    made.close()


def test_the_payment_that_is_scored_does_not_count_itself(shop):
    shop.pay("ada", 10.0)
    shop.pay("ada", 30.0)
    time_us = shop.pay("ada", 500.0)

    own, later = shop.score("scored", "ada", time_us), shop.score("scored", "ada", time_us + 1)

    assert own["spending:count_24h"] == (2, Status.PRESENT, None)
    assert own["spending:amount_mean_24h"].value == 20.0
    assert own["spending:merchant_last"].value == f"m{shop.count - 1}"
    assert own["spending:amount_last_3_24h"].value == [10.0, 30.0]
    assert own["times_usual"].value == 5.0
    assert later["spending:count_24h"].value == 3
    assert shop.score("scored", "ada", time_us - 1)["spending:count_24h"].status is Status.AHEAD
    assert shop.score("scored", "ada", None)["spending:count_24h"].value == 3


def test_a_view_that_keeps_nothing_says_that_it_is_ahead(shop):
    time_us = shop.pay("cleo", 10.0)

    assert shop.score("plain", "cleo", time_us)["spending@2:count_24h"][:2] == (1, Status.AHEAD)


def test_only_the_newest_event_can_be_scored(shop):
    first = shop.pay("dora", 10.0)
    shop.pay("emil", 20.0)
    assert shop.score("scored", "dora", first)["spending:count_24h"][:2] == (0, Status.EMPTY)

    shop.pay("dora", 30.0)

    assert shop.score("scored", "dora", first)["spending:count_24h"].status is Status.AHEAD


def test_the_first_event_of_an_entity_finds_empty_windows(shop):
    time_us = shop.pay("new", 10.0)

    vector = shop.score("scored", "new", time_us)

    assert (vector["spending:count_24h"].value, vector["spending:amount_mean_24h"].value) == (0, None)
    assert {vector[name].status for name in vector.names} == {Status.EMPTY}


def test_what_is_scored_is_the_training_row_of_the_event_and_is_proved(valkey, tmp_path, environment):
    shop = Shop(valkey.url, tmp_path, environment)
    scored = [(name, shop.pay(name, 10.0 * i)) for i, name in enumerate(["ada", "bob", "ada", "ada", "bob"], start=1)]
    vectors = {}
    for i in range(6, 12):
        name = "ada" if i % 2 else "bob"
        scored.append((name, shop.pay(name, 10.0 * i)))
        vectors[scored[-1]] = shop.score("scored", *scored[-1])
    shop.reader.close()
    store, environment = shop.store, shop.store.settings.environment
    Archiver(store.compiled, store.lake, store.log("payments"), source="payments").step()
    CommitArchiver(store.lake, store.redis, environment).step()
    served = ServedArchiver(store.compiled, store.lake, store.redis, environment)
    while served.step():
        pass
    times = pa.array([time_us for _, time_us in vectors], pa.timestamp("us", tz="UTC"))
    spine = pa.table({"customer": [name for name, _ in vectors], "amount": [50.0] * 6, "event_timestamp": times})

    trained = store.get_historical_features(spine, "scored", allow_incomplete=True)

    for place, name in enumerate(trained.feature_columns):
        column = [v.astimezone(UTC) if isinstance(v, datetime) else v for v in trained.table.column(name).to_pylist()]
        assert column == [vector.values[place] for vector in vectors.values()], name
    [verdict] = [each for each in verify(store.compiled, store.lake) if each.service == "scored@1"]
    assert (verdict.vectors, verdict.unequal, verdict.defects, verdict.unknown) == (6, 0, 0, 0)
    assert verdict.oracle_values > 0
    store.close()


def test_the_policy_decides_of_what_is_ahead(valkey, tmp_path, environment):
    shop = Shop(valkey.url, tmp_path, environment, on_ahead="fail")
    first = shop.pay("ada", 10.0)
    assert shop.score("scored", "ada", first).problems == {}
    with pytest.raises(ValueRefused, match="is AHEAD, and service 'plain@1' says on_ahead='fail'"):
        shop.score("plain", "ada", first)
    shop.close()


def test_a_stream_that_is_dead_serves_the_value_as_stale(shop):
    shop.pay("fritz", 10.0)
    time_us = shop.pay("fritz", 30.0)
    shop.store.redis.delete(f"ready:{shop.store.settings.environment}")

    with shop.store.reader() as reader:
        vector = reader.get_online_features("scored", {"customer": "fritz", "amount": 1.0}, as_of=time_us)

    assert vector["spending:count_24h"][:2] == (1, Status.STALE)


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\x90", b"\x01", b""], ids=["no MessagePack", "no items", "no array", "nothing"]
)
def test_damaged_bytes_are_an_error_of_their_view_alone(valkey, environment, data):
    world = OnlineWorld(valkey.url, environment)
    view = departures()
    world.publish(view, weather(), services=[service(item("departures", "count_1h"), item("weather", "wind"))])
    world.put(view, "JFK", 3, 1.5, msgspec.msgpack.Ext(2, data), age_us=SECOND_US)
    world.ready()

    with FeatureReader(valkey.url, env=environment, clock=world.clock) as reader:
        vector = reader.get_online_features("delay", {"origin": "JFK"}, as_of=ONLINE_US - 2 * SECOND_US)

    assert [status.name for status in vector.statuses] == ["ERROR", "UNKNOWN"]


@pytest.mark.parametrize("online", ["batch", None])
def test_only_stream_views_can_keep_it(online):
    with pytest.raises(DeclarationError, match=r"view 'spending': `score_own_event` is for views with online='stream'"):
        Registry(views=[dataclasses.replace(spending, score_own_event=True, online=online)])


def test_a_flow_that_runs_is_told_when_a_view_begins_to_keep_it():
    from feature_store.fold.drive import stream_fingerprint

    plain = compile_registry(Registry(views=[spending]))
    scored = compile_registry(Registry(views=[dataclasses.replace(spending, score_own_event=True)]))

    assert stream_fingerprint(plain) != stream_fingerprint(scored)
