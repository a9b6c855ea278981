"""What features cost, measured against what Redis and the files say, and who is said to use them."""

import json
import re

import pytest
from changing_world import DAY, START, Deployment, daily, live
from feature_store_deploy.assets.costs import told

from feature_store import FeatureService, Registry, agg
from feature_store.cli.app import run
from feature_store.costs.online import online_bytes
from feature_store.lake.view_tables import built_table
from feature_store.online.keys import features_key
from feature_store.proof.served_archive import ServedArchiver
from feature_store.settings import PREFIX
from feature_store.time_rule import DAY_US, to_us

COUNT, RECENT = agg.count(over="24h", name="count"), agg.last_n("value", n=5, over="24h", name="recent")
VIEWS = (live(extra=[COUNT, RECENT]), daily())
SERVICES = [
    FeatureService("logged", features=["live:total", "daily:count"], log_rate=1),
    FeatureService("silent", features=["live:count"], log_rate=0),
]
REGISTRY = Registry(views=VIEWS, services=SERVICES)
READS = 3


@pytest.fixture(scope="module")
def deployment(valkey, tmp_path_factory, module_environment):
    """A day of clicks, built and served; three vectors were read, and are on record in the lake."""
    deployment = Deployment(valkey.url, tmp_path_factory.mktemp("costs"), module_environment)
    deployment.clock.move_to(to_us(START + DAY))
    store = deployment.store(REGISTRY)
    store.load("clicks", start=START, end=START + DAY)
    store.apply()
    for view in VIEWS:
        store.materialize(view.id, start=START, end=START + DAY)
    store.publish_view("daily")
    deployment.stream(store).step()
    with store.reader() as reader:
        for number in range(READS):
            assert reader.get_online_features("logged", {"user": f"u{number}"}).values[0] is not None
            reader.get_online_features("silent", {"user": f"u{number}"})
    ServedArchiver(store.compiled, store.lake, store.redis, store.settings.environment).step()
    yield deployment
    deployment.close()


@pytest.fixture
def store(deployment):
    return deployment.store(REGISTRY)


def sized(features, view):
    return sum(size for name, size in features.items() if name.startswith(f"{view}:"))


def test_what_redis_weighs_is_divided_among_features_with_nothing_left_over(store):
    env = store.settings.environment
    keys = list(store.redis.scan_iter(f"features:{env}:*"))
    weight = sum(store.redis.memory_usage(key, samples=0) for key in keys)

    all_of_them = online_bytes(store.redis, env)
    some = online_bytes(store.redis, env, sample=5)

    assert sum(all_of_them.features.values()) == pytest.approx(weight, rel=1e-9)
    assert (all_of_them.hashes, all_of_them.weighed, all_of_them.unknown) == (20, 20, {})
    assert (some.hashes, some.weighed) == (20, 5)
    assert sum(some.features.values()) == pytest.approx(weight, rel=0.1)
    found = all_of_them.features
    assert found.keys() == {"live@1:total", "live@1:count", "live@1:recent", "daily@1:count"}
    assert found["live@1:total"] > found["live@1:recent"]  # a sum for each hour of a day, a list for each of five
    batch = 0.0
    for key in keys:
        values = store.redis.hgetall(key)
        lengths = {name: len(name) + len(value) for name, value in values.items()}
        batch += store.redis.memory_usage(key, samples=0) * lengths[b"daily@1"] / sum(lengths.values())
    assert found["daily@1:count"] == pytest.approx(batch, rel=1e-9)


def test_the_lakes_bytes_are_those_of_the_files_by_whose_column_they_are(store):
    costs = store.costs()
    found = {each.feature: each.lake_bytes for each in costs.features}
    folder = store.settings.home / "lake" / "data" / store.settings.environment

    for view in VIEWS:
        files = sum(file.stat().st_size for file in (folder / built_table(view)).rglob("*.parquet"))
        assert sized(found, view.id) == pytest.approx(files, abs=len(view.declared))
    events = sum(file.stat().st_size for file in folder.glob("events_clicks_*/**/*.parquet"))
    assert costs.sources == {"clicks": events}
    assert found["live@1:recent"] > found["live@1:total"]


def test_reads_are_those_on_record_and_what_nobody_names_is_unused(store):
    found = {each.feature: each for each in store.costs().features}

    assert {name: (each.use, each.reads, list(each.services)) for name, each in found.items()} == {
        "live@1:total": ("read", READS, ["logged@1"]),
        "live@1:count": ("not known", 0, ["silent@1"]),
        "live@1:recent": ("unused", 0, []),
        "daily@1:count": ("read", READS, ["logged@1"]),
    }
    assert found["daily@1:count"].last_read_us == to_us(START + DAY)
    assert [each.feature for each in store.costs().unused] == ["live@1:recent"]


def test_a_feature_that_a_training_set_names_is_not_unused_and_one_that_was_read_long_ago_is_not_read(
    store, deployment
):
    spine = f"SELECT 'u1' AS user, make_timestamptz({to_us(START + DAY)}) AS event_timestamp"
    found = store.get_historical_features(spine, ["live:recent"])
    folder = store.settings.home / "training" / store.settings.environment
    folder.mkdir(parents=True)
    (folder / "some.json").write_text(found.manifest.to_json())
    (folder / "other.json").write_text("{}")
    deployment.clock.move_to(to_us(START + DAY) + 10 * DAY_US)

    costs = {days: {each.feature: each for each in store.costs(days=days).features} for days in (9, 11)}

    deployment.clock.move_to(to_us(START + DAY))
    (folder / "some.json").unlink()
    assert costs[9]["live@1:recent"].training_sets == ["some.json"]
    assert costs[9]["live@1:recent"].use == costs[9]["live@1:total"].use == "not read"
    assert costs[11]["live@1:total"].use == "read"


def test_what_is_in_redis_and_not_declared_is_counted_apart(deployment):
    store = deployment.store(Registry(views=[VIEWS[0]], services=[]))
    key = features_key(store.settings.environment, "user", "damaged")
    store.redis.hset(key, mapping={"live@1": b"\xc1", "other@1": b"x"})

    damaged = store.costs().undeclared
    store.redis.delete(key)
    costs = store.costs()

    assert damaged.keys() == {"daily@1", "live@1", "other@1"}
    assert costs.undeclared.keys() == {"daily@1"}
    assert costs.undeclared["daily@1"] > 20 * len("daily@1")


def test_the_command_shows_them_by_view(store, deployment, monkeypatch, capsys):
    settings = store.settings
    for name in ("home", "environment", "redis_url"):
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "test_costs:REGISTRY")
    monkeypatch.setattr("feature_store.clock.SystemClock.now_us", lambda _: to_us(START + DAY))

    assert run(["costs"]) == 0
    text = capsys.readouterr().out
    assert run(["costs", "--unused", "--format", "json"]) == 0

    assert re.search(r"^   total +[\d.]+ KiB +[\d.]+ (KiB|B) +~3 +0 s ago +logged@1", text, re.MULTILINE), text
    assert re.search(r"^   count +[\d.]+ KiB +[\d.]+ (KiB|B) +\? +- +silent@1", text, re.MULTILINE), text
    assert "unused: live@1:recent" in text
    assert [each["feature"] for each in json.loads(capsys.readouterr().out)["features"]] == ["live@1:recent"]


def test_the_asset_tells_the_same(store):
    metadata = told(store.costs())

    assert (metadata["features"], metadata["unused"], metadata["reads"]) == (4, 1, 2 * READS)
    assert metadata["unused_features"].value.splitlines()[2].startswith("| `live@1:recent` | ")
    assert metadata["redis_bytes"] == pytest.approx(sum(each.redis_bytes for each in store.costs().features))
