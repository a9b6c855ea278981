"""The online store is written again from lake and logs: by command, with and without a flow."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from filelock import FileLock
from stream_world import NOW_US, readings, rows, sites

from feature_store import FeatureService, FeatureStore, FeatureView, LakeError, Registry, Settings, agg, restore
from feature_store.clock import ManualClock
from feature_store.embedded import EmbeddedValkey
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.lake import Lake
from feature_store.online.owner import read_owner
from feature_store.reader import Status
from feature_store.restore import Refill, is_emptied
from feature_store.time_rule import DAY_US, from_us

habits = FeatureView(
    "habits", entity=sites.entity, source=readings, features=[agg.count(over="2d")], online="batch", freshness_sla="2d"
)
registry = Registry(
    views=[sites, habits], services=[FeatureService("sites", features=[sites["count_24h"], habits["count_2d"]])]
)


@pytest.fixture
def store(valkey, tmp_path, environment):
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment)
    with FeatureStore(registry, settings=settings, clock=ManualClock(NOW_US)) as made:
        yield made


def empty(store):
    store.redis.delete(*store.redis.scan_iter(f"*:{store.settings.environment}*"))


def served(store):
    with store.reader() as reader:
        vector = reader.get_online_features("sites", {"site": "north"})
        return list(zip(vector.values, vector.statuses, strict=True))


def test_an_emptied_store_is_rebuilt_by_one_command_with_and_without_a_flow(store, monkeypatch):
    store.apply()
    store.publish("readings", rows(200))
    log = store.log("readings")
    Archiver(store.compiled, store.lake, log, source="readings").step()
    midnight = from_us(NOW_US // DAY_US * DAY_US)
    store.materialize("habits", start=midnight - timedelta(days=1), end=midnight)
    store.publish_view("habits")
    flow_of(store).step()
    before = served(store)
    assert [status for _, status in before] == [Status.PRESENT] * 2

    monkeypatch.setattr(restore, "SIGN_OF_LIFE_S", 0.2)
    empty(store)
    assert is_emptied(store.compiled, store.lake, store.redis, store.settings.environment)
    entities = store.rebuild_online()

    assert served(store) == before
    assert entities["sites@1"] == entities["habits@1"] == 5
    assert not is_emptied(store.compiled, store.lake, store.redis, store.settings.environment)

    monkeypatch.undo()
    runs = flow_of(store)
    with stepped(runs):
        store.redis.delete(*store.redis.scan_iter(f"features:{store.settings.environment}:*"))
        store.rebuild_online()

    assert served(store) == before
    assert read_owner(store.redis, store.settings.environment).run == runs.start.run


def test_batch_rows_that_wait_for_a_locked_lake_are_published_when_it_is_free(store):
    store.apply()
    store.publish("readings", rows(200))
    Archiver(store.compiled, store.lake, store.log("readings"), source="readings").step()
    midnight = from_us(NOW_US // DAY_US * DAY_US)
    store.materialize("habits", start=midnight - timedelta(days=1), end=midnight)
    env, refill, home = store.settings.environment, Refill(), store.lake.location
    empty(store)
    with (
        Lake.open(home, env=env, clock=store.clock, lock_timeout_s=0.05) as lake,
        FileLock(home.directory / "commit.lock"),
        pytest.raises(LakeError, match="has been locked by another process"),
    ):
        refill.look(store.compiled, lake, store.redis, env=env, clock=store.clock)
    assert [status for _, status in served(store)] == [Status.UNKNOWN] * 2  # readers know what there is

    refill.look(store.compiled, store.lake, store.redis, env=env, clock=store.clock)

    assert [status for _, status in served(store)] == [Status.UNKNOWN, Status.PRESENT]


def test_what_a_server_has_evicted_is_doubted_and_written_again(store, tmp_path):
    with EmbeddedValkey(tmp_path / "evicting", port=0) as server:
        settings = store.settings.model_copy(update={"redis_url": server.url, "home": tmp_path / "home"})
        with FeatureStore(store.registry, settings=settings, clock=store.clock) as evicted:
            evicted.apply()
            evicted.publish("readings", rows(200))
            Archiver(evicted.compiled, evicted.lake, evicted.log("readings"), source="readings").step()
            midnight = from_us(NOW_US // DAY_US * DAY_US)
            evicted.materialize("habits", start=midnight - timedelta(days=1), end=midnight)
            evicted.publish_view("habits")
            flow, refill, client = flow_of(evicted), Refill(), evicted.redis
            flow.step()
            before = served(evicted)

            def look():
                refill.look(evicted.compiled, evicted.lake, client, env=settings.environment, clock=evicted.clock)

            look()
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", client.info("memory")["used_memory"] - 1_000_000)
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
            assert client.info("stats")["evicted_keys"] > 0
            look()
            doubted = served(evicted)
            flow.step()

            assert [status for _, status in before] == [Status.PRESENT] * 2
            assert doubted[0][1] in (Status.UNKNOWN, Status.STALE)
            assert served(evicted) == before
            generation = client.get(f"generation:{settings.environment}")
            look()
            assert client.get(f"generation:{settings.environment}") == generation, "it is told once"


def test_services_that_are_gone_alone_are_published_again(store):
    store.apply()
    env = store.settings.environment
    store.redis.delete(f"services:{env}")

    Refill().look(store.compiled, store.lake, store.redis, env=env, clock=store.clock)

    with store.reader() as reader:
        assert reader.get_online_features("sites", {"site": "north"}).service == "sites@1"


@contextmanager
def stepped(flow):
    """A flow that runs beside."""
    done = threading.Event()

    def step():
        while not done.wait(0.01):
            flow.step()

    thread = threading.Thread(target=step)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def flow_of(store):
    return LocalStream(store.compiled, store.lake, store.redis, env=store.settings.environment, clock=store.clock)
