"""Wrong input to a reader, and a Redis that is away or refuses: one clear line that names the thing and the remedy."""

import asyncio
import contextlib
import os
import socket
import threading
from datetime import datetime

import pandas as pd
import pytest
from online_world import NOW_US, World, departures, item, service
from redis import Redis

from feature_store import Entity, EventSource, FeatureService, FeatureView, agg
from feature_store.embedded import EmbeddedValkey, free_port
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError
from feature_store.online.keys import services_key
from feature_store.reader import AsyncFeatureReader, FeatureReader
from feature_store.reader.transport import parse_url

JFK = {"origin": "JFK"}
DEPARTURES = FeatureView(
    "departures",
    entity=Entity("airport", join_keys=["origin"]),
    source=EventSource("departures", schema=None, event_time="at", event_id="id"),
    features=[agg.count(over="1h")],
)


@pytest.fixture
def world(valkey, environment):
    world = World(valkey.url, environment)
    view = departures()
    world.publish(view, services=[service(item("departures", "count_1h")), service(name="other")])
    world.put(view, "JFK", 3, 1.0)
    world.ready()
    return world


@pytest.fixture
def reader(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        yield reader


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("dealy", "unknown service 'dealy'; did you mean 'delay'? (known: delay, other)"),
        ("delay@2", "unknown service 'delay@2'; did you mean 'delay@1'? (known: delay@1, other@1)"),
        (["departure:count_1h"], "unknown online view 'departure'; did you mean 'departures'? (known: departures)"),
        (
            ["departures@2:count_1h"],
            "unknown online view 'departures@2'; did you mean 'departures@1'? (known: departures@1)",
        ),
        (
            ["departures:count_2h"],
            "unknown feature of view 'departures@1' 'count_2h'; did you mean 'count_1h'? (known: count_1h, mean_1h)",
        ),
    ],
)
def test_an_unknown_name_lists_what_exists_and_the_nearest(reader, features, message):
    with pytest.raises(UnknownNameError) as error:
        reader.get_online_features(features, JFK)

    assert str(error.value) == message


@pytest.mark.parametrize(
    ("features", "row", "as_of", "message"),
    [
        ("delay", {"dest": "LAX"}, None, "entity 'airport' needs the join key `origin`, got `dest`"),
        ("delay", {}, None, "entity 'airport' needs the join key `origin`, got no keys"),
        (
            "delay",
            JFK,
            datetime(2013, 1, 1),  # noqa: DTZ001 - naive on purpose
            "`as_of` must carry a time zone, got the naive datetime 2013-01-01T00:00:00",
        ),
        ("delay", JFK, 1.5, "`as_of` must be a datetime with a time zone or whole microseconds, got 1.5"),
        ("delay", JFK, True, "`as_of` must be a datetime with a time zone or whole microseconds, got True"),
        (
            "delay",
            JFK,
            "2013-01-01",
            "`as_of` must be a datetime with a time zone or whole microseconds, got '2013-01-01'",
        ),
        ("delay", JFK, [1, 2], "`as_of` must be one time or one for each of the 1 rows, got 2"),
        ([], JFK, None, "`features` must name a service or at least one feature such as 'view:feature', got none"),
        (["count_1h"], JFK, None, "a feature must be named as 'view:feature' or 'view@2:feature', got 'count_1h'"),
    ],
)
def test_a_wrong_request_is_refused_by_name(reader, features, row, as_of, message):
    with pytest.raises(InputError) as error:
        reader.get_online_features(features, row, as_of=as_of)

    assert str(error.value) == message


MAPPING = "a row must be a mapping from columns to values, got "
ROWS = "`rows` must be a list of mappings from columns to values (of a pandas table: `table.to_dict('records')`), got "


@pytest.mark.parametrize(
    ("features", "rows", "message"),
    [
        ("delay", [[JFK]], MAPPING + "[{'origin': 'JFK'}]"),
        ("delay", [JFK, "JFK"], "row 1: " + MAPPING + "'JFK'"),
        ("delay", [JFK, None, JFK], "row 1: " + MAPPING + "None"),
        ("delay", JFK, ROWS + "dict"),
        ("delay", pd.DataFrame([JFK]), ROWS + "DataFrame"),
        ("delay", [JFK, {"dest": "LAX"}], "row 1: entity 'airport' needs the join key `origin`, got `dest`"),
        ("delay", [JFK] * 130 + [{}], "row 130: entity 'airport' needs the join key `origin`, got no keys"),
        ("delay", [JFK, {"origin": 7.5}], "row 1: entity 'airport': `origin` must be text"),
        (7, [JFK], "`features` must be a service, its name or a list of 'view:feature', got 7"),
        (DEPARTURES, [JFK], "`features` must be a service, its name or a list of 'view:feature', got FeatureView("),
    ],
)  # fmt: skip
def test_what_is_no_row_or_no_features_is_named_with_its_place(reader, features, rows, message):
    reader.get_online_features("delay", JFK)  # many rows are asked for in parts, once a service is known

    with pytest.raises(InputError) as error:
        reader.get_online_features_batch(features, rows)

    assert str(error.value).startswith(message)


def test_a_declared_service_is_read_by_its_version(reader):
    declared = FeatureService("delay", version=1, features=["departures:count_1h"])

    assert reader.get_online_features(declared, JFK).values == [3]
    assert reader.requested(declared) == {}


@pytest.mark.parametrize("timeout_s", ["a", -1, 0, True, float("nan"), None])
@pytest.mark.parametrize("kind", [FeatureReader, AsyncFeatureReader])
def test_a_timeout_that_is_no_time_is_refused(kind, timeout_s):
    with pytest.raises(InputError, match="`timeout_s` must be a positive number of seconds, got"):
        kind("redis://localhost", timeout_s=timeout_s)


def test_no_rows_give_no_vectors(reader):
    assert reader.get_online_features_batch("delay", []) == []


def test_an_environment_without_layouts_names_the_remedy(valkey):
    with FeatureReader(valkey.url, env="nowhere") as reader, pytest.raises(OnlineStoreError) as error:
        reader.get_online_features("delay", JFK)

    assert str(error.value) == (
        "nothing is published in the environment 'nowhere'; run `feature-store apply`, or name another"
    )


def test_a_service_that_cannot_be_understood_is_an_error_of_the_store(world, reader):
    world.client.hset(services_key(world.env), "odd@1", b'{"name": 5}')

    with pytest.raises(OnlineStoreError, match="service 'odd@1' was published by another version of this library"):
        reader.get_online_features("odd@1", JFK)


@pytest.mark.parametrize("given", ["url", "client"])
def test_a_redis_that_does_not_run_is_named_without_its_password(given):
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    reader = FeatureReader(url if given == "url" else Redis.from_url(url))

    with pytest.raises(OnlineStoreError) as error:
        reader.get_online_features("delay", JFK)

    assert "127.0.0.1" in str(error.value)
    assert "cannot be reached" in str(error.value)
    assert "start it, or set the URL of one that runs" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://localhost",
            "`url` must be like redis://user:password@host:6379/0, rediss://... or unix://..., got 'http://localhost'",
        ),
        ("redis://h:99999", "got 'redis://h:99999'"),
        ("redis://h/zero", "got 'redis://h/zero'"),
        (
            "redis://:pass@h/0?max_connections=3",
            "`url` takes no option but `db`, got `max_connections` in 'redis://:***@h/0'",
        ),
    ],
)
def test_a_url_that_is_not_understood_is_refused(url, message):
    with pytest.raises(InputError) as error:
        FeatureReader(url)

    assert message in str(error.value)
    assert "pass@" not in str(error.value)


def test_a_url_may_name_a_user_a_password_a_database_and_a_socket():
    address = parse_url("rediss://me:p%40ss@cache:7000/3")

    assert (address.host, address.port, address.tls is None) == ("cache", 7000, False)
    assert address.hello == (("AUTH", "me", "p@ss"), ("SELECT", "3"))
    assert parse_url("unix:///run/redis.sock?db=2")[1:] == (
        "localhost",
        6379,
        "/run/redis.sock",
        None,
        (("SELECT", "2"),),
    )


def test_a_password_among_the_options_is_not_shown():
    with pytest.raises(InputError) as error:
        FeatureReader("redis://h/0?password=secret")

    assert "`password`" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_unix_socket_is_read_through(tmp_path):
    path = tmp_path / "valkey.sock"
    with EmbeddedValkey(tmp_path / "data", options={"unixsocket": str(path)}) as server:
        world = World(server.url, "dev")
        view = departures()
        world.publish(view, services=[service(item("departures", "count_1h"))])
        world.put(view, "JFK", 3, 1.0)
        with FeatureReader(f"unix://{path}", clock=world.clock) as reader:
            assert reader.get_online_features("delay", JFK).values == [3]
        world.client.close()


def test_a_client_that_decodes_replies_is_refused(valkey):
    with pytest.raises(InputError, match="made with decode_responses=False"):
        FeatureReader(Redis.from_url(valkey.url, decode_responses=True))


def test_a_client_of_redis_py_reads_the_same(world, reader):
    with FeatureReader(world.client, env=world.env, clock=world.clock) as other:
        assert other.get_online_features("delay", JFK).values == [3]
    assert reader.get_online_features("delay", JFK).values == [3]


def test_a_refusal_of_the_server_is_shown(world, reader):
    world.client.set(f"features:{world.env}:{{airport:LGA}}", "no hash")

    with pytest.raises(OnlineStoreError, match="refused HMGET: WRONGTYPE"):
        reader.get_online_features("delay", {"origin": "LGA"})
    assert reader.get_online_features("delay", JFK).values == [3]


def test_a_reader_survives_a_restart_of_its_server(tmp_path):
    with EmbeddedValkey(tmp_path) as server:
        world = World(server.url, "dev")
        view = departures()
        world.publish(view, services=[service(item("departures", "count_1h"))])
        world.put(view, "JFK", 3, 1.0)
        world.ready()
        with FeatureReader(server.url, clock=world.clock) as reader:
            assert reader.get_online_features("delay", JFK).values == [3]
            server.stop()
            with pytest.raises(OnlineStoreError, match="cannot be reached"):
                reader.get_online_features("delay", JFK)
            server.start()
            assert reader.get_online_features("delay", JFK).values == [3]
        world.client.close()


def test_a_password_and_a_database_are_used(tmp_path):
    with EmbeddedValkey(tmp_path) as server:
        with Redis.from_url(server.url) as admin:
            admin.acl_setuser("me", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"])
            admin.acl_setuser("default", enabled=False)
        url = f"redis://me:secret@127.0.0.1:{server.port}/3"
        world = World(url, "dev")
        view = departures()
        world.publish(view, services=[service(item("departures", "count_1h"))])
        world.put(view, "JFK", 3, 1.0)
        with FeatureReader(url, clock=world.clock) as reader:
            assert reader.get_online_features("delay", JFK).values == [3]
        with (
            FeatureReader(url.replace("secret", "wrong"), clock=world.clock) as reader,
            pytest.raises(OnlineStoreError, match="refused AUTH: WRONGPASS"),
        ):
            reader.get_online_features("delay", JFK)
        world.client.close()


def test_a_server_that_says_nothing_is_given_up_after_the_timeout():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        with (
            FeatureReader(url, timeout_s=0.05) as reader,
            pytest.raises(OnlineStoreError, match=r"no answer within 0\.05 s"),
        ):
            reader.get_online_features("delay", JFK)


@pytest.mark.parametrize("kind", [FeatureReader, AsyncFeatureReader])
def test_a_server_that_hangs_up_on_everybody_is_asked_twice(kind):
    asked = []

    def hang_up(server):
        with contextlib.suppress(OSError):  # it was closed
            while True:
                caller, _ = server.accept()
                asked.append(caller.recv(10))
                caller.close()

    async def read(reader):
        async with reader:
            await reader.get_online_features("delay", JFK)

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        answering = threading.Thread(target=hang_up, args=[server])
        answering.start()
        reader = kind(f"redis://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(OnlineStoreError, match=r"cannot be reached: .*(closed the connection|reset)"):
            reader.get_online_features("delay", JFK) if kind is FeatureReader else asyncio.run(read(reader))
        server.shutdown(socket.SHUT_RDWR)
        answering.join()

    assert len(asked) == 2


def test_threads_share_a_reader(world, reader):
    seen = []

    def read():
        seen.extend(reader.get_online_features("delay", JFK).values[0] for _ in range(200))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [3] * 800


def test_a_forked_process_opens_a_connection_of_its_own(world, reader):
    assert reader.get_online_features("delay", JFK).values == [3]

    child = os.fork()
    if child == 0:  # the child: no pytest code may run in it
        values = [reader.get_online_features("delay", JFK).values for _ in range(50)]
        os._exit(0 if values == [[3]] * 50 else 1)
    values = [reader.get_online_features("delay", JFK).values for _ in range(50)]

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values == [[3]] * 50


@pytest.mark.parametrize("given", ["url", "client"])
def test_a_read_costs_one_round_trip_whatever_it_reads(world, reader, given):
    if given == "client":
        reader = FeatureReader(world.client, env=world.env, clock=world.clock)
    reader.get_online_features("delay", JFK)
    trips = []
    exchange = reader._transport.exchange
    reader._transport.exchange = lambda commands: trips.append(len(commands)) or exchange(commands)

    reader.get_online_features_batch("delay", [JFK] * 99)  # of more than that, test_reader_parts tells
    world.clock.move_to(NOW_US + 2_000_000)
    reader.get_online_features("delay", JFK)

    assert trips == [100, 5]  # the rows and the generation; what vouches, the rollout, the row and the generation
