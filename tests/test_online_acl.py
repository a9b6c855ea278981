"""The rules for Redis' users on a real server: each process does what it is for with its own password, and no more."""

import asyncio
import inspect

import pytest
from access_world import AccessWorld, api, bearer
from lake_rows import begun
from online_world import NOW_US, item, service
from redis import Redis
from redis.exceptions import NoPermissionError
from stream_world import SOURCE, registry, rows

from feature_store import FeatureStore, Settings, restore
from feature_store.cli.app import run
from feature_store.clock import ManualClock
from feature_store.errors import FeatureStoreError, OnlineStoreError, UnknownNameError
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.housekeeping.task import Options
from feature_store.housekeeping.tasks import housekeep
from feature_store.online import keys
from feature_store.online.acl import ROLES, role
from feature_store.reader import FeatureReader
from feature_store.status import Status

JFK = {"origin": "JFK"}
GUESTS = ["guests:count_1h"]
REFUSED = r"refused .*No permissions to access a key"


@pytest.fixture
def world(valkey, environment, monkeypatch, capsys):
    """A world on a server that knows the users of its environment, as the command prints them."""
    made = AccessWorld(valkey.url, environment)
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", environment)
    capsys.readouterr()
    assert run(["acl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ROLES)
    for line in lines:
        made.client.execute_command(*line.split())
    for each in ROLES.values():
        made.client.acl_setuser(each.user(environment), passwords=["+secret"], enabled=True)
    yield made
    for each in ROLES.values():
        made.client.acl_deluser(each.user(environment))


def url_of(world, name):
    return world.url.replace("redis://", f"redis://{role(name).user(world.env)}:secret@")


def values(world, name, features):
    with FeatureReader(url_of(world, name), env=world.env, clock=world.clock) as reader:
        vector = reader.get_online_features(features, JFK)
    return vector.values, set(vector.statuses)


def test_with_the_readers_password_personal_data_cannot_be_read_and_all_else_can(world):
    assert values(world, "reader", "delay") == ([3], {Status.PRESENT})
    with pytest.raises(OnlineStoreError, match=REFUSED):
        values(world, "reader", GUESTS)
    with pytest.raises(OnlineStoreError, match=REFUSED):
        values(world, "reader", "stay")

    with Redis.from_url(url_of(world, "reader")) as client:
        personal = f"features-pii:{world.env}:{{airport:JFK}}"
        assert world.client.exists(personal)
        for read in (
            client.hgetall,
            client.hkeys,
            client.dump,
            client.get,
            client.delete,
            client.type,
            client.memory_usage,
        ):
            with pytest.raises(NoPermissionError):
                read(personal)
        for attempt in (
            lambda: client.xrange(f"served-pii:{world.env}"),
            lambda: client.xrange(f"log:{world.env}:{{{SOURCE}}}:0"),
            lambda: client.get(f"access:{world.env}"),
            lambda: client.hgetall(f"catalog:{world.env}"),
            lambda: client.hgetall(f"statistics:{world.env}"),
            lambda: client.hgetall("features:other:{airport:JFK}"),
            lambda: client.hset(f"features:{world.env}:{{airport:JFK}}", "departures@1", b"x"),
            client.scan,
            lambda: client.keys("*"),
            lambda: client.eval("return redis.call('hgetall', KEYS[1])", 1, personal),
            lambda: client.copy(personal, f"features:{world.env}:{{airport:x}}"),
            client.acl_list,
            client.flushdb,
        ):
            with pytest.raises(NoPermissionError):
                attempt()


def test_with_the_password_of_who_reads_personal_data_it_is_read(world):
    assert values(world, "personal-reader", GUESTS) == ([3], {Status.PRESENT})
    assert values(world, "personal-reader", "stay") == ([3, 3], {Status.PRESENT})


@pytest.mark.parametrize("name", ["reader", "personal-reader"])
def test_a_reader_leaves_its_sample_of_what_it_served(world, name):

    personal = name == "personal-reader"
    view = "guests" if personal else "departures"
    world.publish(services=[service(item(view, "count_1h"), name="logged", log_rate=1.0)])

    with FeatureReader(url_of(world, name), env=world.env, clock=world.clock) as reader:
        reader.get_online_features("logged", JFK)

    assert world.client.xlen(keys.served_key(world.env, personal=personal)) == 1


def test_the_api_serves_and_publishes_with_its_own_password_and_changes_no_value_or_key(world):
    key = world.key(services=["*"], personal=["guests"], sources=["*"])

    async def ask():
        plain, world.url = world.url, url_of(world, "api")
        world.client, admin = Redis.from_url(world.url), world.client
        try:
            async with api(world) as client:
                read = await client.post("/v1/services/stay/features", json={"keys": JFK}, headers=bearer(key))
                event = {"uid": "u1", "at": "2023-11-14T20:00:00Z"}
                path = f"/v1/sources/{SOURCE}/events"
                published = await client.post(path, json={"events": [event]}, headers=bearer(key))
                paths = ("/v1/catalog", "/v1/catalog/freshness", "/v1/catalog/views/guests")
                described = [await client.get(path, headers=bearer(key)) for path in paths]
            return read, published, described
        finally:
            world.client.close()
            world.url, world.client = plain, admin

    read, published, described = asyncio.run(ask())

    assert [answer.status_code for answer in described] == [200, 200, 200]
    assert read.json()["values"] == {"departures:count_1h": 3, "guests:count_1h": 3}
    assert (published.status_code, len(published.json().get("positions", []))) == (200, 1)
    with Redis.from_url(url_of(world, "api")) as client:
        for attempt in (
            lambda: client.set(f"access:{world.env}", b"{}"),
            lambda: client.hset(f"catalog:{world.env}", "declared", b"x"),
            lambda: client.hdel(f"statistics:{world.env}", "departures@1"),
            lambda: client.hset(f"features:{world.env}:{{airport:JFK}}", "departures@1", b"x"),
            lambda: client.hset(f"services:{world.env}", "delay", b"2"),
            lambda: client.xrange(f"log:{world.env}:{{{SOURCE}}}:0"),
        ):
            with pytest.raises(NoPermissionError):
                attempt()


def test_who_publishes_reads_no_event_and_no_value_and_operator_and_stream_do_all_of_theirs(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(restore, "SIGN_OF_LIFE_S", 0.2)
    clock = ManualClock(NOW_US)
    home = begun(tmp_path / "home", world.env)

    def store(name):
        settings = Settings(home=home, environment=world.env, redis_url=url_of(world, name))
        return FeatureStore(registry, settings=settings, clock=clock)

    with store("operator") as operator:
        operator.apply()
        operator.plan()
        operator.status()
    with store("publisher") as publisher:
        some = [row for row in rows(60) if row["at"].timestamp() * 1e6 < NOW_US] or [
            row | {"at": row["at"].replace(year=2023)} for row in rows(60)
        ]
        assert len(publisher.publish(SOURCE, some)) == len(some)
        for attempt in (
            lambda: publisher.redis.xrange(f"log:{world.env}:{{{SOURCE}}}:0"),
            lambda: publisher.redis.xread({f"log:{world.env}:{{{SOURCE}}}:0": "0"}),
            lambda: publisher.redis.hgetall(f"features:{world.env}:{{site:north}}"),
        ):
            with pytest.raises(NoPermissionError):
                attempt()
    with store("stream") as streaming:
        stream = LocalStream(streaming.compiled, streaming.lake, streaming.redis, env=world.env, clock=clock)
        stream.step()
        assert Archiver(streaming.compiled, streaming.lake, streaming.log(SOURCE), source=SOURCE).step()
        assert streaming.rebuild_online()["sites@1"] > 0
        with pytest.raises(NoPermissionError):
            streaming.redis.flushall()
    with store("operator") as operator:
        assert operator.costs().hashes > 0
        failed = [each for _, each in housekeep(operator, Options()) if isinstance(each, FeatureStoreError)]
        assert failed == []


def test_every_key_that_there_is_is_in_the_reach_of_who_operates_and_of_nobody_elses_environment(world):
    wanted = {"env": world.env, "entity": "airport", "key": "JFK", "shard": 0, "run": 7}
    named = []
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if name.endswith("_key"):
            parameters = inspect.signature(function).parameters
            given = {each: wanted[each] for each in parameters if each in wanted}
            named += [function(**given, **({"personal": p} if "personal" in parameters else {})) for p in (False, True)]

    for user in ("stream", "operator"):
        with Redis.from_url(url_of(world, user)) as client:
            for key in {*named, f"runs:{world.env}", f"log:{world.env}:{{x}}:0", f"logmeta:{world.env}:{{x}}"}:
                assert client.exists(key) in (0, 1)
                with pytest.raises(NoPermissionError):
                    client.exists(key.replace(world.env, f"{world.env}x"))


def test_a_role_that_there_is_not_is_refused_with_those_that_there_are(capsys):
    assert run(["acl", "readr"]) == 2
    assert "unknown role 'readr'; did you mean 'reader'?" in capsys.readouterr().err
    with pytest.raises(UnknownNameError):
        role("nobody")
