"""The asyncio reader answers as the blocking one does."""

import pytest
from online_world import World, departures, item, service
from redis.asyncio import Redis

from feature_store.embedded import free_port
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError
from feature_store.reader import AsyncFeatureReader, FeatureReader

ROWS = [{"origin": origin} for origin in ("JFK", "LGA", None, "EWR")]


@pytest.fixture
def world(valkey, environment):
    world = World(valkey.url, environment)
    old, view = departures(features=["mean_1h"]), departures()
    world.publish(old)
    world.put(old, "EWR", 8.0)
    world.publish(view, services=[service(item("departures", "count_1h"), item("departures", "mean_1h"))])
    world.put(view, "JFK", [3, 60, 2], 1.0)
    world.ready()
    return world


@pytest.mark.parametrize("given", ["url", "client"])
async def test_both_readers_answer_alike(world, given):
    url = world.url if given == "url" else Redis.from_url(world.url)
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        expected = reader.get_online_features_batch("delay", ROWS)

    async with AsyncFeatureReader(url, env=world.env, clock=world.clock) as reader:
        vectors = await reader.get_online_features_batch("delay", ROWS)
        one = await reader.get_online_features("delay", ROWS[0], as_of=world.clock.at_us)
    if given == "client":
        await url.aclose()

    assert [repr(vector) for vector in vectors] == [repr(vector) for vector in expected]
    assert [vector.provenance for vector in vectors] == [vector.provenance for vector in expected]
    assert one.values == [3, 1.0]


async def test_its_errors_are_the_same(world):
    async with AsyncFeatureReader(world.url, env=world.env) as reader:
        with pytest.raises(UnknownNameError, match="unknown service 'dealy'; did you mean 'delay'"):
            await reader.get_online_features("dealy", {})
        with pytest.raises(InputError, match="entity 'airport' needs the join key `origin`"):
            await reader.get_online_features("delay", {})


async def test_a_redis_that_does_not_run_is_named_without_its_password():
    async with AsyncFeatureReader(f"redis://:secret@127.0.0.1:{free_port()}") as reader:
        with pytest.raises(OnlineStoreError, match=r"127\.0\.0\.1:\d+ cannot be reached") as error:
            await reader.get_online_features("delay", {})

    assert "secret" not in str(error.value)
