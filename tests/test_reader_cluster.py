"""Reads from a real Redis Cluster, which holds a copy of what a server was given: keys that move, and a node that dies."""

import itertools
import re
import threading
import time

import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from online_world import World, departures, item, service
from reader_kinds import Awaited, Blocking, until
from redis.crc import key_slot
from redis_cluster import PRIMARIES, running_cluster

from feature_store.errors import InputError, OnlineStoreError
from feature_store.online.keys import features_key
from feature_store.online.server import check_server
from feature_store.reader import AsyncFeatureReader, FeatureReader
from feature_store.time_rule import SECOND_US

ENV = "dev"
BEATS = itertools.count(10)
VIEW, PERSONAL = departures(features=["count_1h"]), departures(name="tails", features=["count_1h"], personal=True)
ORIGINS = [f"{letter}{number}" for letter in "ABC" for number in range(10)]
ROWS = [{"origin": origin} for origin in ORIGINS]
RIGHT = [(number, "PRESENT") for number in range(len(ORIGINS))]
EITHER = pytest.mark.parametrize("kind", [Blocking, Awaited])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def world(valkey, cluster):
    """What stands in one server, and a copy of it in the cluster."""
    world = World(valkey.url, ENV)
    features = [item("departures", "count_1h"), item("tails", "count_1h")]
    world.publish(VIEW, PERSONAL, services=[service(*features)])
    for number, origin in enumerate(ORIGINS):
        world.put(VIEW, origin, number)
        world.put(PERSONAL, origin, -number)
    world.ready()
    cluster.copy(world.client, f"*:{ENV}*")
    yield world
    world.client.delete(*world.client.scan_iter(f"*:{ENV}*"))
    world.client.close()


@pytest.fixture
def reads(request, cluster, world):
    """A reader of the cluster."""
    made = reader_of(request.param, cluster, world)
    yield made
    made.close()


BOTH = pytest.mark.parametrize("reads", [Blocking, Awaited], indirect=True)


def reader_of(kind, cluster, world, **options):
    package = redis.asyncio if kind is Awaited else redis

    def connect(_):
        nodes = [package.cluster.ClusterNode(*at) for at in cluster.startup]
        quick = {"socket_timeout": 1, "socket_connect_timeout": 1}
        return package.cluster.RedisCluster(startup_nodes=nodes, **quick, **options)

    return kind(connect, world.clock, env=ENV)


@BOTH
def test_rows_that_are_spread_over_the_nodes_come_back_in_their_order_by_one_trip_to_each(
    reads, cluster, world, monkeypatch
):
    owners = {cluster.owner(features_key(ENV, "airport", origin)) for origin in ORIGINS}
    assert owners == set(range(PRIMARIES))
    assert reads.read(ROWS) == RIGHT
    exchanged, sent, exchange = [], [], reads.transport.exchange
    reads.transport.exchange = lambda commands: exchanged.append(len(commands)) or exchange(commands)
    write, execute = redis.cluster.NodeCommands.write, redis.asyncio.cluster.ClusterNode.execute_pipeline
    monkeypatch.setattr(redis.cluster.NodeCommands, "write", lambda node: sent.append(1) or write(node))
    monkeypatch.setattr(
        redis.asyncio.cluster.ClusterNode, "execute_pipeline", lambda node, all_: sent.append(1) or execute(node, all_)
    )

    assert reads.read(ROWS[::-1]) == RIGHT[::-1]

    assert exchanged == [2 * len(ROWS) + 1]
    assert len(sent) == PRIMARIES


@BOTH
def test_what_is_missing_in_a_cluster_may_have_been_lost_by_a_node(reads, world):
    with FeatureReader(world.url, env=ENV, clock=world.clock) as reader:
        assert reader.get_online_features("delay", {"origin": "nowhere"}).statuses[0].name == "EMPTY"

    assert reads.read([{"origin": "nowhere"}]) == [(None, "UNKNOWN")]


@BOTH
def test_what_vouches_is_asked_before_the_values_as_nodes_answer_in_no_order(reads, world):
    reads.read(ROWS)
    asked, exchange = [], reads.transport.exchange
    reads.transport.exchange = lambda commands: asked.append({command[0] for command in commands}) or exchange(commands)

    world.clock.move_to(world.clock.at_us + SECOND_US)
    reads.read(ROWS)

    assert asked == [{"GET", "HGETALL", "HMGET"}, {"HMGET", "GET"}]


@BOTH
def test_a_slot_that_moves_to_another_node_is_read_all_the_while(reads, cluster):
    origin = next(each for each in ORIGINS if cluster.owner(features_key(ENV, "airport", each)) == 1)
    keys = [features_key(ENV, "airport", origin, personal=personal) for personal in (False, True)]
    [slot] = {key_slot(key.encode()) for key in keys}
    source, target = (1, 2) if cluster.nodes[1].keys(keys[0]) else (2, 1)
    wanted = reads.read(ROWS)
    assert wanted == RIGHT

    cluster.nodes[target].cluster("SETSLOT", slot, "IMPORTING", cluster.ids[source])
    cluster.nodes[source].cluster("SETSLOT", slot, "MIGRATING", cluster.ids[target])
    seen = [reads.read(ROWS)]
    for key in keys:
        cluster.nodes[source].migrate("127.0.0.1", cluster.servers[target].port, key, 0, 1000)
        seen.append(reads.read(ROWS))  # ASK
    for node in (target, source, 0):
        cluster.nodes[node].cluster("SETSLOT", slot, "NODE", cluster.ids[target])
        seen.append(reads.read(ROWS))  # MOVED

    assert seen == [RIGHT] * 6
    assert cluster.nodes[target].exists(*keys) == 2


def test_a_client_that_reads_from_replicas_of_a_cluster_is_refused(cluster):
    refused = pytest.raises(InputError, match="must not be a cluster's client that reads from replicas")
    robin = {"load_balancing_strategy": redis.cluster.LoadBalancingStrategy.ROUND_ROBIN}
    with cluster.client(**robin) as client, refused:
        FeatureReader(client)
    with refused:
        AsyncFeatureReader(redis.asyncio.cluster.RedisCluster(*cluster.startup[0], **robin))


def test_the_url_of_a_node_is_refused_as_it_has_a_share_of_the_keys_only(cluster):
    moved = r"Redis at redis://127\.0\.0\.1:\d+/0 is a node of a cluster.*; pass a client, redis\.cluster\.RedisCluster"
    for server in cluster.servers[: PRIMARIES - 1]:
        with FeatureReader(server.url, env=ENV) as reader, pytest.raises(OnlineStoreError, match=moved):
            reader.get_online_features("delay", ROWS[0])


def test_nothing_is_written_to_a_cluster(cluster):
    with pytest.raises(OnlineStoreError, match=r"Valkey .* at 127\.0\.0\.1:\d+ is a node of a Redis Cluster; "):
        check_server(cluster.nodes[1])


@EITHER
def test_reads_go_on_after_a_failover_and_none_of_them_is_wrong(kind, cluster, world):
    reads, answers, longest, ended = reader_of(kind, cluster, world), [], [0.0], threading.Event()

    def read_on():
        while not ended.wait(0.005):
            began = time.monotonic()
            try:
                answers.append(reads.read(ROWS))
            except OnlineStoreError as error:
                answers.append(error)
            longest[0] = max(longest[0], time.monotonic() - began)

    threads = [threading.Thread(target=read_on) for _ in range(3 if kind is Blocking else 1)]
    for thread in threads:
        thread.start()
    until(lambda: RIGHT in answers)
    cluster.fail_over()

    def is_believed_after_a_beat():
        world.ready(n=next(BEATS))
        cluster.copy(world.client, f"ready:{ENV}")
        world.clock.move_to(world.clock.at_us + SECOND_US)
        time.sleep(0.1)
        return answers[-1] == RIGHT

    until(is_believed_after_a_beat)
    ended.set()
    for thread in threads:
        thread.join()
    reads.close()

    doubted = [(number, "STALE") for number, _ in RIGHT]
    assert all(answer in (RIGHT, doubted) for answer in answers if not isinstance(answer, OnlineStoreError))
    errors = [str(answer) for answer in answers if isinstance(answer, OnlineStoreError)]
    assert all(re.match(r"Redis at the cluster of 127.* cannot be reached: ", error) for error in errors)
    assert longest[0] < 5
