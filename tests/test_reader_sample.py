"""The sample of served vectors beside the reads: by entity, at its rate, never in the way of a read."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from online_world import NOW_US, World, departures, item, legs, ratio, service
from redis import Redis

from feature_store import FeatureService, Registry
from feature_store.clock import ManualClock
from feature_store.errors import DeclarationError
from feature_store.online.keys import served_key
from feature_store.reader import AsyncFeatureReader, FeatureReader
from feature_store.reader import sample as sample_module
from feature_store.reader.plan import HASHES
from feature_store.reader.sample import ServedRecord, is_chosen

PATIENCE_S = 120


@pytest.fixture
def world(valkey, environment):
    world = World(valkey.url, environment)
    views = departures(), legs()
    counted = item("departures", "count_1h")
    world.publish(
        *views,
        services=[
            service(counted, item("departures", "mean_1h"), name="all", log_rate=1.0),
            service(counted, name="tenth", log_rate=0.1),
            service(counted, name="none", log_rate=0.0),
            service(counted, item("legs", "count_1d"), ratio("share", counted, counted), name="both", log_rate=1.0),
        ],
    )
    world.put(views[0], "JFK", [3], [2.5])
    world.ready()
    return world


def logged(world, *, personal=False):
    entries = world.client.xrange(served_key(world.env, personal=personal))
    return [msgspec.msgpack.decode(fields[b"v"], type=ServedRecord) for _, fields in entries]


def reader_of(world, **options):
    return FeatureReader(world.url, env=world.env, clock=world.clock, **options)


def test_a_logged_vector_is_the_one_that_was_served(world):
    with reader_of(world) as reader:
        row = {"origin": "JFK", "amount": 12.5}
        now, earlier = reader.get_online_features("all", row), reader.get_online_features("all", row, as_of=NOW_US - 9)

    first, second = logged(world)
    assert (first.service, first.request, first.views) == ("all@1", {"origin": "JFK"}, ("departures@1",))
    assert (first.features, first.values, first.statuses) == (now.names, now.values, [int(s) for s in now.statuses])
    assert first.sources == now.sources
    assert (first.requested_us, first.served_us) == (None, NOW_US)
    assert (second.requested_us, second.values) == (NOW_US - 9, earlier.values)
    assert len({first.id, second.id}) == 2


def test_a_vector_of_several_entities_names_them_all_and_keeps_ratios(world):
    with reader_of(world) as reader:
        reader.get_online_features("both", {"origin": "JFK", "dest": None})

    [record] = logged(world)
    assert record.request == {"origin": "JFK", "dest": None}
    assert record.features == ("departures:count_1h", "legs:count_1d", "share")


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_rate_is_that_of_the_entities(rate):
    below = round(rate * HASHES)

    for names in ([str(i) for i in range(50_000)], [f"customer-{i:08}" for i in range(50_000)]):
        share = sum(is_chosen(name, below) for name in names) / len(names)
        assert share == pytest.approx(rate, rel=0.12)


def test_the_same_entities_are_chosen_whoever_reads_and_more_at_a_higher_rate(world):
    rows = [{"origin": f"A{i}"} for i in range(300)]
    for read in (lambda r: r.get_online_features_batch("tenth", rows), lambda r: [r.get_online_features("tenth", row) for row in rows]):  # fmt: skip
        with reader_of(world) as reader:
            read(reader)

    names = [record.request["origin"] for record in logged(world)]
    together, alone = names[: len(names) // 2], names[len(names) // 2 :]
    assert together == alone
    assert 15 <= len(together) <= 50
    assert all(is_chosen(name, round(0.2 * HASHES)) for name in together)


def test_a_client_of_redis_py_and_a_reader_for_asyncio_choose_alike(world):
    rows = [{"origin": f"A{i}"} for i in range(200)]

    async def wait():
        async with AsyncFeatureReader(world.url, env=world.env, clock=world.clock) as reader:
            await reader.get_online_features_batch("tenth", rows)

    for url in (world.url, world.client):
        with FeatureReader(url, env=world.env, clock=world.clock) as reader:
            reader.get_online_features_batch("tenth", rows)
    asyncio.run(wait())

    names = [record.request["origin"] for record in logged(world)]
    third = len(names) // 3
    assert names[:third] == names[third : 2 * third] == names[2 * third :]
    assert names[:third] == [row["origin"] for row in rows if is_chosen(row["origin"], HASHES // 10)]


def test_rows_without_any_key_are_chosen_by_the_second(world):
    clock = ManualClock(NOW_US)
    with FeatureReader(world.url, env=world.env, clock=clock) as reader:
        for second in range(200):
            clock.move_to(NOW_US + second * 1_000_000)
            reader.get_online_features("tenth", {"origin": None})
        counts = reader.sampled

    assert 5 <= counts.waiting + counts.pushed <= 45


def test_a_rate_of_0_a_list_of_features_and_a_reader_that_shall_not_log_log_nothing(world):
    with reader_of(world) as reader:
        reader.get_online_features("none", {"origin": "JFK"})
        reader.get_online_features(["departures:count_1h"], {"origin": "JFK"})
    with reader_of(world, log_served=False) as silent:
        silent.get_online_features("all", {"origin": "JFK"})

    assert logged(world) == []


@pytest.mark.parametrize("rate", [-0.1, 1.5, "all", True, float("nan")])
def test_a_rate_that_is_no_share_is_refused_when_it_is_declared(rate):
    with pytest.raises(DeclarationError, match="service 'delay': `log_rate` must be a share from 0 to 1, got"):
        Registry(views=[], services=[FeatureService("delay", features=["departures:count_1h"], log_rate=rate)])


def test_what_is_read_is_logged_soon_without_closing_the_reader(world):
    with reader_of(world) as reader:
        reader.get_online_features("all", {"origin": "JFK"})
        deadline = time.monotonic() + PATIENCE_S
        while not logged(world) and time.monotonic() < deadline:
            time.sleep(0.05)

        assert len(logged(world)) == 1
        assert reader.sampled == (0, 1, 0, 0)


def test_a_read_is_still_one_round_trip(world, monkeypatch):
    with reader_of(world) as reader:
        reader.get_online_features("all", {"origin": "JFK"})
        trips, exchange = [], reader._transport.exchange
        monkeypatch.setattr(reader._pusher, "wake", lambda: None)
        monkeypatch.setattr(
            reader._transport, "exchange", lambda commands: trips.append(commands) or exchange(commands)
        )
        reader.get_online_features("all", {"origin": "JFK"})
        asked = list(trips)

    assert [[command[0] for command in commands] for commands in asked] == [["HMGET", "GET"]]


def test_a_full_buffer_drops_and_counts_and_reads_go_on(world, monkeypatch):
    with reader_of(world) as reader:
        monkeypatch.setattr(reader._sample, "_capacity", 5)
        monkeypatch.setattr(reader._pusher, "wake", lambda: None)
        vectors = reader.get_online_features_batch("all", [{"origin": f"A{i}"} for i in range(8)])
        counts = reader.sampled

    assert len(vectors) == 8
    assert (counts.waiting, counts.dropped) == (5, 3)


def test_a_reader_without_the_right_to_write_says_so_once_and_reads_on(world, caplog):
    admin = Redis.from_url(world.url)
    admin.acl_setuser(
        f"reads_{world.env}", enabled=True, nopass=True, keys=["*"], categories=["+@read", "+@connection"]
    )
    url = world.url.replace("redis://", f"redis://reads_{world.env}:any@")
    with caplog.at_level(logging.WARNING), FeatureReader(url, env=world.env, clock=world.clock) as reader:
        for _ in range(3):
            assert reader.get_online_features("all", {"origin": "JFK"}).values == [3, 2.5]
            reader._pusher.push()
        counts = reader.sampled
    admin.acl_deluser(f"reads_{world.env}")
    admin.close()

    said = [record.message for record in caplog.records]
    assert (counts.refused, counts.pushed) == (3, 0)
    assert len(said) == 1
    assert "served vectors are not logged, reads go on" in said[0]
    assert "refused XADD" in said[0]


def test_personal_data_goes_to_a_stream_of_its_own(world):
    view = departures(name="private", personal=True)
    world.publish(view, services=[service(item("private", "count_1h"), name="secret", log_rate=1.0)])

    with reader_of(world) as reader:
        reader.get_online_features("secret", {"origin": "JFK"})

    assert logged(world) == []
    assert [record.service for record in logged(world, personal=True)] == ["secret@1"]


def test_the_stream_is_capped(world, monkeypatch):
    monkeypatch.setattr(sample_module, "KEPT", 100)
    with reader_of(world) as reader:
        for _ in range(8):
            reader.get_online_features_batch("all", [{"origin": f"A{i}"} for i in range(100)])

    assert world.client.xlen(served_key(world.env)) < 400


async def test_a_reader_for_asyncio_logs_alike(world):
    async with AsyncFeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        vector = await reader.get_online_features("all", {"origin": "JFK"})
        await asyncio.wait_for(reader._pushing, PATIENCE_S)
        await reader.get_online_features("all", {"origin": "LGA"})

    first, second = logged(world)
    assert (first.values, first.request) == (vector.values, {"origin": "JFK"})
    assert second.request == {"origin": "LGA"}  # pushed when it was closed


FORKED = """
import os, sys
from feature_store import FeatureReader
reader = FeatureReader(sys.argv[1], env=sys.argv[2])
reader.get_online_features("all", {"origin": "JFK"})
reader._pusher.push()
child = os.fork()
reader.get_online_features("all", {"origin": "LGA"})  # the child's first one goes with what it had from its parent
reader.get_online_features("all", {"origin": "EWR" if child else "SFO"})
if child:
    assert os.waitpid(child, 0)[1] == 0
reader.close()
"""


def test_a_process_that_was_forked_off_logs_what_it_serves_itself(world):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, world.url, world.env]
    subprocess.run(command, check=True, timeout=120, cwd=Path(__file__).parent.parent)

    records = logged(world)
    assert sorted(record.request["origin"] for record in records) == ["EWR", "JFK", "LGA", "SFO"]
    assert len({record.id for record in records}) == 4


def test_a_reader_that_nobody_has_any_more_leaves_no_thread_behind(world):
    before = set(threading.enumerate())
    reader = reader_of(world)
    reader.get_online_features("all", {"origin": "JFK"})
    [thread], transport = set(threading.enumerate()) - before, reader._transport

    del reader
    gc.collect()
    thread.join(PATIENCE_S)

    transport.close()
    assert not thread.is_alive()
