"""Redefining a view beside the old one, retiring the old one, and two people who apply at once."""

import json
from time import perf_counter

import pandas as pd
import pyarrow as pa
import pytest
from changing_world import (
    AFTER,
    BEFORE,
    BOTH,
    DAY,
    DAYS,
    END,
    NEW,
    OLD,
    START,
    USERS,
    Deployment,
    clicking,
    daily,
    live,
)
from redis.exceptions import ConnectionError as RedisAway

from feature_store import DeclarationError, InputError, Registry, UnknownNameError, agg
from feature_store.changing.rollout import promote, take
from feature_store.cli.app import run
from feature_store.errors import ApplyConflict
from feature_store.fold.drive import stream_fingerprint
from feature_store.online.keys import applied_key, layouts_key, ready_key, services_key
from feature_store.online.layout import parse_layout
from feature_store.registry import fingerprint
from feature_store.settings import PREFIX

WIDER = Registry(views=[*OLD, *NEW], services=[clicking()])
"""The new views before a service reads them."""


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    deployment = Deployment(valkey.url, tmp_path, environment)
    yield deployment
    deployment.close()


def served(store, service, user="u1"):
    vector = store.get_online_features(service, {"user": user})
    return vector.service, vector.values, {status.name for status in vector.statuses}


def contents(client, env):
    """Everything that an environment has in Redis, but for its heartbeats."""
    kinds = {key: client.type(key) for key in client.scan_iter(f"*{env}*")}
    return {
        key: client.hgetall(key) if kind == b"hash" else client.dump(key)
        for key, kind in kinds.items()
        if not key.startswith((b"ready:", b"commits:"))
    }


def test_old_and_new_version_stand_side_by_side_and_retiring_the_old_one_gives_back_what_it_took(
    deployment, environment
):
    old = deployment.store(BEFORE)
    old.load("clicks", start=START, end=END)
    old.apply()
    deployment.build(old, *OLD)
    stream = deployment.stream(old)
    stream.step()
    other = Deployment(deployment.url, deployment.home, f"{environment}_other")
    stranger = other.store(BEFORE)
    stranger.load("clicks", start=START, end=END)
    stranger.apply()
    deployment_of_other = other.stream(stranger)
    deployment_of_other.step()
    untouched = contents(stranger.redis, other.env)
    before = served(old, "clicking")
    assert before[::2] == ("clicking@1", {"PRESENT"})

    # The new one is backfilled while the old one serves.
    both = deployment.store(BOTH)
    assert both.apply() == ["live@2:total", "daily@2:count"]
    deployment.build(both, *NEW)
    stream.step()
    assert served(both, "clicking") == before
    stream = deployment.stream(both)
    stream.step()
    assert served(both, "clicking") == served(both, "clicking@1") == before
    renewed = served(both, "clicking@2")
    assert renewed[::2] == ("clicking@2", {"PRESENT"})
    assert renewed[1] != before[1]

    # Both versions are trained as they are served.
    spine = pd.DataFrame({"user": ["u1"], "event_timestamp": [END]})
    for version, (_, values, _) in ((1, before), (2, renewed)):
        found = both.get_historical_features(spine, f"clicking@{version}")
        assert [found.to_arrow().column(name)[0].as_py() for name in found.feature_columns] == values

    # Nothing that is in use goes.
    after = deployment.store(AFTER)
    with pytest.raises(DeclarationError, match=r"feature 'live@1:total' is gone, but service 'clicking@1' reads it"):
        after.apply()
    with pytest.raises(InputError, match="view 'live@1' is declared"):
        both.retire("live@1")
    with pytest.raises(InputError, match="view 'live@1' is read by service 'clicking@1'"):
        after.retire("live@1")
    with pytest.raises(InputError, match="service 'clicking@1' is served under the name 'clicking'"):
        after.retire("clicking@1", service=True)
    take(promote(2), "clicking", lake=after.lake, client=after.redis, env=after.settings.environment, clock=after.clock)
    after.retire("clicking@1", service=True)
    assert after.apply() == []
    with pytest.raises(InputError, match="view 'live@1' is still written by the running stream"):
        after.retire("live@1")
    deployment.stream(after).step()

    retired = [after.retire(view.id) for view in OLD]

    assert [(each.what, each.tables, each.values) for each in retired] == [
        ("view live@1", ["tiles_live_v1"], USERS),
        ("view daily@1", ["rows_daily_v1"], USERS),
    ]
    assert served(after, "clicking") == renewed
    client, env = after.redis, deployment.env
    assert set(client.hgetall(f"features:{env}:{{user:u1}}")) == {b"live@2", b"daily@2"}
    assert {field.partition(b"#")[0] for field in client.hkeys(layouts_key(env))} == {b"live@2", b"daily@2"}
    assert set(client.hkeys(services_key(env))) == {b"clicking", b"clicking#rollout", b"clicking@2"}
    assert set(client.hkeys(ready_key(env))) == {b"shards", b"0", b"daily@2"}
    assert not after.lake.exists("tiles_live_v1")
    assert after.lake.builds.newest("rows_daily_v1") == {}
    assert contents(stranger.redis, other.env) == untouched
    assert stranger.lake.exists("commits")
    other.close()

    # Repeated, it finds nothing; and a version never means anything else again.
    assert (after.retire("live@1").tables, after.retire("live@1").values) == ([], 0)
    reused = Registry(views=[*NEW, live(over="12h")], services=[clicking(2)])
    with pytest.raises(DeclarationError, match="view 'live@1', feature 'total': its meaning has changed"):
        deployment.store(reused).apply()


def test_what_was_never_applied_cannot_be_retired(deployment):
    store = deployment.store(BEFORE)
    store.apply()

    with pytest.raises(UnknownNameError, match=r"unknown view 'live@7'.*known: daily@1, live@1"):
        store.retire("live@7")
    with pytest.raises(UnknownNameError, match=r"unknown service 'clicking@7'.*known: clicking@1"):
        store.retire("clicking@7", service=True)
    with pytest.raises(InputError, match="service 'clicking@1' is declared"):
        store.retire("clicking@1", service=True)


def test_a_feature_is_added_under_the_same_version_and_one_that_nobody_reads_may_go(deployment):
    deployment.store(BEFORE).apply()
    more = live(extra=[agg.count(over="24h", name="count")])

    assert deployment.store(Registry(views=[more, daily()], services=[clicking()])).apply() == ["live@1:count"]
    assert deployment.store(BEFORE).apply() == []

    fewer = Registry(views=[daily()], services=[clicking(features=["daily:count"])])
    with pytest.raises(
        DeclarationError,
        match=r"service 'clicking@1': it is applied with the features .*live@1:total.*, now it has daily@1:count; give",
    ):
        deployment.store(fewer).apply()
    assert deployment.store(BEFORE).applied().meanings.services["clicking@1"] != ["daily@1:count"]

    fewer = Registry(views=[daily()], services=[clicking(2, features=["daily:count"])])
    with pytest.raises(DeclarationError, match="service 'clicking@1' reads it"):
        deployment.store(fewer).apply()
    deployment.store(fewer).retire("clicking@1", service=True)
    assert deployment.store(fewer).apply() == []
    assert "live@1:total" in deployment.store(fewer).applied().meanings.features  # until it is retired


def test_the_second_of_two_who_apply_at_once_is_told_and_what_the_first_did_stays(deployment):
    deployment.store(BEFORE).apply()
    seen = deployment.store(BEFORE).applied().version
    deployment.store(WIDER).apply(expected=seen)
    mine = Registry(views=[*OLD, live(3, over="6h")], services=[clicking()])

    with pytest.raises(ApplyConflict, match=f"at version {seen} when it was read and is at {seen + 1} now") as error:
        deployment.store(mine).apply(expected=seen)

    assert "created feature live@2:total" in str(error.value)
    assert "@" in error.value.others[0]
    assert "`feature-store plan`" in str(error.value)
    applied = deployment.store(mine).applied()
    assert {"live@2:total", "daily@2:count"} <= applied.meanings.features.keys()
    assert "live@3:total" not in applied.meanings.features
    assert deployment.store(mine).apply(expected=seen + 1) == ["live@3:total"]
    assert {"live@2:total", "live@3:total"} <= deployment.store(mine).applied().meanings.features.keys()


def test_one_who_reads_before_the_other_writes_loses_without_saying_a_version(deployment, monkeypatch):
    first, second = deployment.store(WIDER), deployment.store(BEFORE)
    append = second.lake.append_next

    def meanwhile(*arguments, **named):
        monkeypatch.undo()
        first.apply()
        return append(*arguments, **named)

    monkeypatch.setattr(second.lake, "append_next", meanwhile)

    with pytest.raises(ApplyConflict, match="at version 0 when it was read and is at 1 now"):
        second.apply()
    assert second.apply() == []


def test_one_who_publishes_after_somebody_applied_more_leaves_that_in_place(deployment, monkeypatch):
    # first:   records 1                  publishes
    # second:             records, publishes 2
    more = live(extra=[agg.count(over="24h", name="count")])
    first = deployment.store(BEFORE)
    second = deployment.store(Registry(views=[more, daily()], services=[clicking()]))
    transaction = first.redis.transaction

    def late(*arguments):
        monkeypatch.undo()
        second.apply()
        return transaction(*arguments)

    monkeypatch.setattr(first.redis, "transaction", late)
    first.apply()

    layouts = second.redis.hgetall(layouts_key(deployment.env))
    assert [each.name for each in parse_layout(layouts[b"live@1"]).features] == ["total", "count"]
    assert sum(name.startswith(b"live@1#") for name in layouts) == 2
    assert second.redis.get(applied_key(deployment.env)).decode() == stream_fingerprint(second.compiled)


def test_an_apply_that_died_between_lake_and_redis_is_completed_by_the_next(deployment, monkeypatch):
    store = deployment.store(BEFORE)
    with monkeypatch.context() as patch:

        def away(*_):
            raise RedisAway("gone")

        patch.setattr(store.redis, "transaction", away)
        with pytest.raises(RedisAway):
            store.apply()
    assert store.applied().version == 1
    assert not store.redis.exists(services_key(deployment.env))

    assert store.apply() == []

    assert store.applied().version == 1
    assert store.redis.hget(services_key(deployment.env), "clicking") == b"1"


def test_a_lake_from_before_the_registry_had_versions_keeps_what_it_knows(deployment):
    digest = {feature.name: fingerprint(live(), feature) for feature in live().declared}["total"]
    rows = {"view": ["live@1"], "feature": ["total"], "fingerprint": [digest], "applied_us": [1]}
    store = deployment.store(BEFORE)
    store.lake.append("registry_versions", pa.table(rows))

    assert (store.applied().version, dict(store.applied().meanings.features)) == (0, {"live@1:total": digest})
    with pytest.raises(DeclarationError, match="its meaning has changed"):
        deployment.store(Registry(views=[live(over="12h")], services=[])).apply()
    assert store.apply() == ["daily@1:count"]
    assert store.applied().version == 1


def test_a_plan_says_what_building_takes_within_a_factor_of_two_of_what_it_took(deployment):
    deployment.store(Registry(views=[live()], services=[])).load("clicks", start=START, end=END)
    deployment.store(Registry(views=[live()], services=[])).apply()
    rich = live(
        extra=[agg.mean("value", over=["1h", "6h"]), agg.last_n("value", n=5, over="24h", name="recent")], version=2
    )
    new = [rich, daily(), live(3, over="48h")]
    store = deployment.store(Registry(views=[live(), *new], services=[]))

    found = store.plan()

    assert sorted(found.costs) == sorted(view.id for view in new)
    store.apply()
    before = redis_bytes(store, deployment.env)
    for view in new:
        read, began = events_read(store, view), perf_counter()
        deployment.build(store, view)
        took = perf_counter() - began
        alone = deployment.store(Registry(views=[view], services=[]))
        if not view.is_batch:
            deployment.stream(alone).step()
        used, cost = redis_bytes(store, deployment.env) - before, found.costs[view.id]
        before += used
        assert cost.days == DAYS
        assert within_two(cost.rows, read), view.id
        assert within_two(cost.redis_bytes, used), (view.id, cost, used)
        assert within_two(cost.entities, USERS)
        assert 0 < cost.seconds < 100 * took + 10


def within_two(said, was):
    return was / 2 <= said <= was * 2


def redis_bytes(store, env):
    return sum(store.redis.memory_usage(key, samples=0) for key in store.redis.scan_iter(f"features:{env}:*"))


def events_read(store, view):
    """Events from the first that a window of the first day reaches back to."""
    with store.lake.cursor() as cursor:
        return cursor.execute(f"SELECT count(*) FROM ({store.lake.events_sql(view.source.name)})").fetchone()[0]


def test_the_command_shows_what_is_applied_here_in_three_forms(deployment, monkeypatch, capsys):
    for name, value in (("HOME", deployment.home), ("ENVIRONMENT", deployment.env), ("REDIS_URL", deployment.url)):
        monkeypatch.setenv(f"{PREFIX}{name}", str(value))
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "changing_world:BOTH")
    store = deployment.store(BEFORE)
    store.load("clicks", start=START, end=START + DAY)

    assert run(["plan", "--format", "json"]) == 0
    first = json.loads(capsys.readouterr().out)
    store.apply()
    assert run(["plan"]) == 0
    shown = capsys.readouterr().out
    assert run(["plan", "--format", "markdown"]) == 0
    table = capsys.readouterr().out

    assert (first["version"], len(first["changes"]), first["unchanged"]) == (0, 6, [])
    assert first["costs"]["live@1"]["rows"] == 24 * USERS
    assert "live@2" in shown
    assert "services affected: clicking@2" in shown
    assert "3 created; 0 breaking; 2 features unchanged; registry version 1" in shown
    assert "| created | `feature live@2:total` |  |" in table
    assert "| `live@2` | 1 | 480 |" in table

    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "changing_world:AFTER")
    assert run(["plan"]) == 3
    assert "service clicking@1 reads it" in " ".join(capsys.readouterr().out.split())
    assert (
        run(["retire", "clicking@1", "--service"]) == run(["retire", "live@1"]) == run(["apply", "--expect", "3"]) == 0
    )
    assert capsys.readouterr().out.splitlines()[:4] == [
        "service clicking@1 is retired",
        "view live@1 is retired",
        "lake: no table dropped, the files go with the snapshots that read them",
        "Redis: 0 values deleted",
    ]
    assert run(["plan", "--format", "yaml"]) == 2
    assert "`--format` must be 'text', 'markdown' or 'json', got 'yaml'" in capsys.readouterr().err


def test_a_plan_names_features_that_mean_the_same_and_services_that_read_what_changes(deployment):
    deployment.store(BEFORE).apply()
    twin = live(2, extra=[agg.sum("value", over="12h", name="half")])

    found = deployment.store(Registry(views=[daily(), live(), twin], services=[clicking()])).plan()

    assert found.same == {"live@2:total": ["live@1:total"]}
    assert found.services == []
    assert found.unchanged == ["daily@1:count", "live@1:total"]
    changed = deployment.store(Registry(views=[daily(), live(over="12h")], services=[clicking()])).plan()
    assert (changed.is_breaking, changed.services) == (True, ["clicking@1"])
