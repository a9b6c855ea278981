"""Housekeeping: the dry run's figures are the run's, what is needed stays, and nobody else's things are touched."""

from datetime import timedelta

import pytest
from changing_world import AFTER, BEFORE, BOTH, END, START, USERS, Deployment
from changing_world import OLD as VIEWS

from feature_store.changing.rollout import promote, take
from feature_store.clock import SystemClock
from feature_store.errors import FeatureStoreError
from feature_store.fold.archive import Archiver
from feature_store.housekeeping.task import Options
from feature_store.housekeeping.tasks import TASKS, housekeep
from feature_store.online.keys import features_key, tail_key
from feature_store.online.packed import encode_rows
from feature_store.time_rule import DAY_US, to_us

GHOST = encode_rows(1, 1, 1, [to_us(END)], [None], [0], [[1]])[0]
NOTHING = {"hashes looked at"}
"""Figures of what is not removed."""


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    deployment = Deployment(valkey.url, tmp_path, environment)
    yield deployment
    deployment.close()


def built(deployment, views=VIEWS):
    """Clicks loaded, two views built and served, ten clicks more over the log, brought to the lake in two commits."""
    store = deployment.store(BEFORE)
    store.load("clicks", start=START, end=END)
    store.apply()
    deployment.build(store, *views)
    stream = deployment.stream(store)
    stream.step()
    archiver = Archiver(store.compiled, store.lake, store.log("clicks"), source="clicks")
    for part in range(2):
        deployment.clock.move_to(to_us(END) + (part + 1) * 1_000_000)
        store.publish("clicks", [click(part * 5 + n) for n in range(5)])
        stream.step()
        archiver.step()
    return store


def click(number):
    return {"click": f"new{number}", "user": f"u{number}", "at": END - timedelta(seconds=30), "value": number}


def contents(client, env):
    """What an environment has in Redis."""
    keys = [key for key in client.scan_iter(count=1000) if key.split(b":")[1:2] == [env.encode()]]
    return {key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key) for key in keys}


def rows(lake):
    """Every row of every table of a lake's environment."""
    with lake.reading() as cursor:
        tables = [name for (name,) in cursor.execute("SHOW TABLES").fetchall()]
        return {name: cursor.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall() for name in tables}


def files(deployment):
    return sorted(path for path in (deployment.home / "lake").rglob("*.parquet"))


def tidy(store, name, **options):
    ((_, found),) = housekeep(store.premises, Options(**options), [name])
    if isinstance(found, FeatureStoreError):
        raise found
    return found


def removed(found):
    return {name: count for name, count in found.figures.items() if name not in NOTHING and count}


def test_the_figures_of_a_dry_run_are_those_of_the_run_which_leaves_others_alone_and_finds_nothing_a_second_time(
    deployment, environment
):
    built(deployment)
    deployment.store(BOTH).apply()
    store = deployment.store(AFTER)
    client, env = store.redis, deployment.env
    take(promote(2), "clicking", lake=store.lake, client=client, env=env, clock=deployment.clock)
    other = Deployment(deployment.url, deployment.home, f"{environment}_other")
    built(other)
    client.hset(features_key(env, "user", "u1"), "ghost@1", GHOST)
    client.hset(features_key(other.env, "user", "u1"), "ghost@1", GHOST)
    client.hset(features_key(env, "ghost", "g1"), "ghost@1", GHOST)
    client.set(f"features:{env}", "somebody else's")
    client.set(tail_key(env, 7), "1-1")
    deployment.stream(store).step()  # a newer run, which does not write the old views
    deployment.clock.move_to(SystemClock().now_us() + 31 * DAY_US)
    of_other = contents(client, other.env), rows(other._lake)
    expected = {
        "retired": {"services": 1, "views": 2, "tables": 2, "values": 2 * USERS},
        "keys": {"values": 2, "bytes": 2 * len(GHOST), "records": 1},
        "logs": {"records": 10},
    }

    for name in TASKS:
        options = {"retire": True, "environments": [other.env]}
        before = contents(client, env), rows(store.lake), store.lake.extent(), files(deployment)
        dry = tidy(store, name, dry_run=True, **options)
        assert (contents(client, env), rows(store.lake), store.lake.extent(), files(deployment)) == before, name

        run = tidy(store, name, **options)
        assert run == dry
        assert removed(run) == expected.get(name, removed(run)), name
        assert removed(run) or name == "events", name  # which `test_retention` is about
        assert removed(tidy(store, name, dry_run=True, **options)) == {}, name
        if name in ("compact", "snapshots"):
            assert rows(store.lake) == before[1]

    assert (contents(client, other.env), rows(other._lake)) == of_other
    assert client.get(f"features:{env}") == b"somebody else's"
    client.delete(f"features:{env}")
    other.close()
