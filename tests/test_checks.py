"""Whether what readers get can be believed: freshness and parity against a deployment that lives."""

from functools import partial

import dagster as dg
import msgspec
import pytest
from dagster_world import evaluations, run
from feature_store_deploy.assets.instance import dagster_instance
from feature_store_deploy.checks.freshness import freshness_of
from feature_store_deploy.checks.schedules import WATCH
from feature_store_deploy.stack import check as stack_check
from feature_store_deploy.stack.definitions import build_definitions
from proof_world import World, city, rides

from feature_store.declare import FeatureView, agg
from feature_store.errors import UnknownNameError
from feature_store.online.keys import features_key, ready_key
from feature_store.online.packed import HEAD
from feature_store.online.ready import read_ready
from feature_store.reader.readiness import Readiness, Vouched
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US

VIEWS = ("every", "pairs")
ONLINE = ("every", "pairs", "overall", "hourly", "hourly_overall")


@pytest.fixture(scope="module")
def lived(tmp_path_factory, valkey, module_environment):
    """A deployment after two live hours, all of it in the lake."""
    world = World(valkey.url, tmp_path_factory.mktemp("checks"), module_environment, shards=1)
    world.restart()
    for _ in range(6):
        world.happen(12, over_us=20 * MINUTE_US)
        world.step(by_us=20 * MINUTE_US, reads=0)
    world.publish_rows()
    world.step(by_us=2 * SECOND_US, reads=0)
    world.archive()
    yield world
    world.close()


@pytest.fixture
def world(lived):
    """The same; what a test changes in Redis and of the time is as before afterwards."""
    client, now_us = lived.store.redis, lived.clock.now_us()
    before = {key: client.dump(key) for key in client.scan_iter(f"*:{lived.environment}*")}
    yield lived
    lived.clock.move_to(now_us)
    for key, value in before.items():
        client.restore(key, 0, value, replace=True)


@pytest.fixture(scope="module")
def definitions(lived):
    return build_definitions(lived.store.registry, lived.store.settings, clock=lived.clock)


@pytest.fixture
def check(world, definitions):
    """Evaluates checks of a kind, as the schedule does."""
    return partial(evaluated, world, definitions)


def evaluated(world, definitions, *names):
    store = world.store
    graph = definitions.resolve_asset_graph()
    wanted = frozenset(key for key in graph.asset_check_keys if key.name in names)
    with dg.DagsterInstance.ephemeral(tempdir=str(store.settings.home)) as instance:
        result = run(definitions, instance, (), checks=wanted)
    assert result.success
    return evaluations(result)


def test_what_readers_get_is_what_the_lake_says(check):
    found = check("online_parity")

    assert {name: each.passed for name, each in found.items()} == {
        f"online/{view}:online_parity": True for view in ONLINE
    }
    said = found["online/every:online_parity"].metadata
    assert said["compared"].value >= 4 * 20
    assert (said["figure"].value, said["limit"].value, said["sample_size"].value) == (0, 0, said["entities"].value)
    assert said["reference"].value
    assert said["method"].value
    assert found["online/hourly:online_parity"].metadata["compared"].value >= 4 * 3


def test_the_command_counts_what_passed_and_names_what_did_not_and_dagsters_books_have_it(
    world, definitions, monkeypatch, capfd
):
    store = world.store
    monkeypatch.setattr("feature_store_deploy.stack.check.load_registry", lambda _: store.registry)
    monkeypatch.setattr("feature_store_deploy.stack.check.build_definitions", lambda *_: definitions)

    assert stack_check.check(store.settings, [WATCH], days=None) == 0
    said = capfd.readouterr().out
    assert "freshness 5 of 5 passed, online_parity 5 of 5 passed" in said
    assert "up_to_date 5 of 5 passed" in said

    store.redis.hdel(ready_key(world.environment), "0")
    assert stack_check.check(store.settings, [WATCH], days=None) == 1
    said = capfd.readouterr().out
    assert f"error  {world.environment}/online/every freshness: shards [0] are silent" in said
    assert "freshness 2 of 5 passed" in said
    assert on_record(world, "online_parity") == ["SUCCEEDED", "SUCCEEDED"]
    assert on_record(world, "freshness") == ["FAILED", "SUCCEEDED"]


def on_record(world, check):
    """What Dagster's books have of a check, the newest first."""
    key = dg.AssetCheckKey(dg.AssetKey([world.environment, "online", "every"]), check)
    with dagster_instance(world.store.settings) as instance:
        found = instance.event_log_storage.get_asset_check_execution_history(key, limit=9)
    return [record.status.value for record in found]


def test_a_kind_of_check_that_there_is_not_is_named(world):
    with pytest.raises(UnknownNameError, match=r"kind of check 'drfit'.*drift"):
        stack_check.check(world.store.settings, ["drfit"], days=None)


def test_one_changed_value_turns_the_parity_check_red_and_is_shown(world, check):
    client, key = world.store.redis, features_key(world.environment, "city", "york")
    packed = msgspec.msgpack.decode(client.hget(key, "every@1"))
    packed[HEAD + 1] = 12345  # count_1d
    client.hset(key, "every@1", msgspec.msgpack.encode(packed))

    found = check("online_parity")

    assert not found["online/every:online_parity"].passed
    assert "12345" in found["online/every:online_parity"].metadata["differences"].value
    assert found["online/pairs:online_parity"].passed


def test_values_are_fresh_until_their_sla(world, check):
    assert all(each.passed for each in check("freshness").values())

    world.clock.move_to(world.clock.now_us() + 4 * MINUTE_US)
    assert all(each.passed for each in check("freshness").values())

    world.clock.move_to(world.clock.now_us() + 2 * MINUTE_US)
    found = check("freshness")
    assert not found["online/every:freshness"].passed
    assert "allowed are 5m" in found["online/every:freshness"].description
    assert found["online/hourly:freshness"].passed  # its SLA is three hours


def test_a_shard_that_vouches_for_nothing_is_named(world, check):
    assert read_ready(world.store.redis, world.environment)
    world.store.redis.hdel(ready_key(world.environment), "0", "hourly@1")

    found = check("freshness")

    assert found["online/every:freshness"].description == "shards [0] are silent"
    assert found["online/hourly:freshness"].description == "no rows were published"
    told = [found[f"online/{view}:freshness"].metadata for view in ("every", "hourly")]
    assert [each["figures"].value for each in told] == [{"silent_shards": 1}, {"unpublished_views": 1}]
    assert [each["limit"].value for each in told] == [0, 0]
    assert [name for name, each in found.items() if each.passed] == ["online/hourly_overall:freshness"]


def test_a_redis_that_is_away_is_a_failed_check_and_no_failed_run(world):
    store = world.store
    settings = store.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    definitions = build_definitions(store.registry, settings, clock=world.clock)
    wanted = frozenset(definitions.resolve_asset_graph().asset_check_keys)
    some = frozenset(key for key in wanted if key.name in ("freshness", "online_parity"))

    with dg.DagsterInstance.ephemeral(tempdir=str(settings.home)) as instance:
        result = run(definitions, instance, (), checks=some)

    assert result.success
    found = evaluations(result).values()
    assert {each.passed for each in found} == {False}
    assert {(*each.metadata["figures"].value.items(), each.metadata["limit"].value) for each in found} == {
        (("unreachable_servers", 1), 0), (("unreadable_views", 1), 0),
    }  # fmt: skip


def vouched(known_us):
    return Vouched(complete=True, known_us=known_us, beat_us=known_us, run=1, n=1, views={})


def test_the_oldest_shard_says_how_fresh_a_view_is():
    view = FeatureView("v", entity=city, source=rides(None), features=[agg.count(over="1h")])
    both = Readiness(2, {"0": vouched(5 * HOUR_US), "1": vouched(3 * HOUR_US)}, 0, 0.0)

    assert freshness_of(view, both, now_us=6 * HOUR_US).age_us == 3 * HOUR_US
    assert freshness_of(view, Readiness(3, both.records, 0, 0.0), now_us=6 * HOUR_US).silent == (2,)
