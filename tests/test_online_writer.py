"""What the writer leaves in Redis, in which order, and how much it costs."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from online_world import HOUR_MS, NOW_US, World, withdraw_shards, write_shards
from redis import Redis
from redis.exceptions import ResponseError

from feature_store.clock import ManualClock
from feature_store.embedded import free_port
from feature_store.errors import OnlineStoreError
from feature_store.online.commits import CommitRecord, read_commits
from feature_store.online.keys import commits_key, features_key, generation_key
from feature_store.online.ready import (
    ReadyRecord,
    parse_ready,
    read_ready,
    shards_of,
    store_generation,
    write_ready,
)
from feature_store.online.writer import OnlineWriter, Write, pack_command, pack_write


@pytest.fixture
def world(valkey, environment):
    return World(valkey.url, environment)


def write(world, i=0, value=b"v", expire_ms=HOUR_MS, field="view@1"):
    return Write(features_key(world.env, "airport", str(i)), field, value, expire_ms)


COMMIT = CommitRecord(shard=2, run=3, n=4, positions={"departures": {0: 5, 1: 6}}, now_us=NOW_US - 1)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 25])
def test_every_value_is_written_whatever_the_number_of_chunks(world, count):
    writer = OnlineWriter(world.client, world.env, clock=world.clock, chunk=8)

    writer.write([write(world, i, b"%d" % i) for i in range(count)], COMMIT)

    found = [world.client.hget(features_key(world.env, "airport", str(i)), "view@1") for i in range(count + 1)]
    assert found == [*(b"%d" % i for i in range(count)), None]
    assert len(read_commits(world.client, world.env)) == 1


def test_a_field_expires_alone_and_a_view_does_not_touch_the_time_of_another(world):
    key = features_key(world.env, "airport", "0")
    world.writer.write([write(world, field="a@1", expire_ms=50_000), write(world, field="b@1", expire_ms=HOUR_MS)])
    world.writer.write([write(world, field="a@1", expire_ms=90_000)])

    a, b = world.client.hpttl(key, "a@1", "b@1")

    assert 50_000 < a <= 90_000
    assert 90_000 < b <= HOUR_MS
    assert world.client.ttl(key) == -1


@pytest.mark.parametrize("expire_ms", [0, -5])
def test_an_expiry_that_has_passed_is_no_silent_deletion(world, expire_ms):
    # Redis would delete the field at once and answer 1; we let it live for a moment, so the write is a write.
    assert b"\r\n$1\r\n1\r\n$6\r\nFIELDS" in pack_write(write(world, expire_ms=expire_ms))


def test_the_commit_is_stamped_when_the_values_are_acknowledged_and_read_back_in_order(world):
    world.writer.write([write(world)], COMMIT)
    world.clock.move_to(NOW_US + 7)
    visible_us = world.writer.write([write(world)], CommitRecord(shard=2, run=3, n=5, positions={}))

    [(first_id, first), (_, second)] = read_commits(world.client, world.env)

    assert (first.run, first.n, first.positions, first.now_us) == (3, 4, {"departures": {0: 5, 1: 6}}, NOW_US - 1)
    assert (first.visible_at_us, second.visible_at_us, visible_us) == (NOW_US, NOW_US + 7, NOW_US + 7)
    assert [record.n for _, record in read_commits(world.client, world.env, after=first_id)] == [5]


def test_a_refused_value_leaves_no_commit_and_no_ready_record(world):
    world.client.set(features_key(world.env, "airport", "1"), "no hash")

    with pytest.raises(OnlineStoreError, match="cannot write online values: WRONGTYPE"):
        world.writer.write([write(world, i) for i in range(3)], COMMIT, ready=ready())

    assert read_commits(world.client, world.env) == []
    assert read_ready(world.client, world.env) == {}
    world.client.delete(features_key(world.env, "airport", "1"))
    world.writer.write([write(world, i) for i in range(3)], COMMIT, ready=ready())
    assert list(read_ready(world.client, world.env)) == ["0"]


def test_a_redis_that_does_not_run_is_an_error_with_a_remedy():
    with Redis(port=free_port()) as client, pytest.raises(OnlineStoreError, match="is Redis running"):
        OnlineWriter(client, "dev").write([Write("k", "f", b"v", 1)])


def test_a_batch_costs_two_round_trips_however_many_values_it_has(world):
    sent = []
    pool = world.client.connection_pool
    connection = pool.get_connection()
    send = connection.send_packed_command
    connection.send_packed_command = lambda command: sent.append(len(b"".join(command))) or send(command)
    pool.release(connection)

    world.writer.write([write(world, i) for i in range(400)], COMMIT, ready=ready())

    assert len(sent) == 2


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_commands_are_packed_as_the_protocol_says(arguments):
    assert pack_command(arguments) == hiredis.pack_command(tuple(arguments))


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=40), st.integers(1, 2**40))
def test_writes_are_packed_as_the_protocol_says(key, field, value, expire_ms):
    expected = hiredis.pack_command(("HSETEX", key, "PX", expire_ms, "FIELDS", 1, field, value))

    assert pack_write(Write(key, field, value, expire_ms)) == expected


# --- ready records


def ready(**changes):
    return ReadyRecord(**{"field": "0", "generation": "g", "beat_us": NOW_US, **changes})


def test_a_ready_record_reads_back_whole(world):
    record = ready(
        fingerprint="f",
        views={"a@1": 7},
        run=2,
        n=3,
        positions={"departures": {0: 1 << 60}},
        oldest_unread_us=NOW_US - 5,
        caught_up=False,
        evicts=True,
    )
    write_ready(world.client, world.env, record)

    assert read_ready(world.client, world.env) == {"0": record}
    withdraw_shards(world.client, world.env)
    assert read_ready(world.client, world.env) == {}


def test_the_number_of_shards_stands_beside_the_records_and_is_one_if_it_does_not(world):
    write_ready(world.client, world.env, ready())
    write_shards(world.client, world.env, 4)

    fields = world.client.hgetall(f"ready:{world.env}")

    assert shards_of(fields) == 4
    assert list(parse_ready(fields)) == ["0"]
    assert [shards_of(fields) for fields in ({}, {b"shards": b"0"}, {b"shards": b"x"})] == [1, 1, 1]


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x80", b"\x01"])
def test_a_record_that_cannot_be_read_vouches_for_nothing(value):
    assert parse_ready({b"0": value}) == {}


def test_an_emptied_store_is_of_another_generation(world):
    first = store_generation(world.client, world.env)

    again = store_generation(world.client, world.env)
    world.client.delete(generation_key(world.env))

    assert again == first
    assert store_generation(world.client, world.env) != first


def test_only_about_the_newest_commits_stay_in_redis(world, monkeypatch):
    monkeypatch.setattr("feature_store.online.commits.COMMITS_KEPT", 100)
    for n in range(400):
        world.writer.write([], CommitRecord(shard=0, run=1, n=n, positions={}))

    assert 100 <= world.client.xlen(commits_key(world.env)) < 300


def test_a_server_without_field_expiry_is_an_error_and_nothing_is_committed(world):
    with Redis.from_url(world.url) as admin:
        admin.acl_setuser(
            f"old-{world.env}", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-hsetex"]
        )
        with (
            Redis.from_url(world.url, username=f"old-{world.env}", password="any") as client,
            pytest.raises(OnlineStoreError, match="hsetex"),
        ):
            OnlineWriter(client, world.env, clock=ManualClock(NOW_US)).write([write(world)], COMMIT)
        admin.acl_deluser(f"old-{world.env}")

    assert read_commits(world.client, world.env) == []
    with pytest.raises(ResponseError):
        world.client.execute_command("HSETEX")
