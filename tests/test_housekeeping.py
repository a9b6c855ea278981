"""Housekeeping: the dry run's figures are the run's, what is needed stays, and nobody else's things are touched."""

from datetime import timedelta

import pytest
from changing_world import AFTER, BEFORE, BOTH, DAY, END, USERS, Deployment, daily
from lake_rows import begun
from redis import Redis
from redis.client import Pipeline

from feature_store import FeatureStore, Registry, Settings
from feature_store.changing import retire
from feature_store.changing.rollout import promote, take
from feature_store.cli.app import run
from feature_store.clock import SystemClock
from feature_store.errors import FeatureStoreError, UnknownNameError
from feature_store.fold.archive import Archiver
from feature_store.housekeeping import keys
from feature_store.housekeeping.task import Kept, Options
from feature_store.housekeeping.tasks import TASKS, housekeep
from feature_store.lake.session import Session
from feature_store.online.keys import features_key, layouts_key, services_key, tail_key
from feature_store.online.packing import encode_rows
from feature_store.settings import PREFIX
from feature_store.time_rule import DAY_US, to_us

GHOST = encode_rows(1, 1, 1, [to_us(END)], [None], [0], [[1]])[0]


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    deployment = Deployment(valkey.url, tmp_path, environment)
    yield deployment
    deployment.close()


def loaded(deployment):
    """A day of clicks, two views of which the batch one is built and served."""
    store = deployment.store(BEFORE)
    store.load("clicks", start=END - DAY, end=END)
    store.apply()
    store.materialize("daily", start=END - DAY, end=END)
    store.publish_view("daily")
    return store


def built(deployment):
    """The same, and the stream one; ten clicks more over the log, brought to the lake in two commits."""
    store = loaded(deployment)
    store.materialize("live", start=END - DAY, end=END)
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
        return {name: cursor.execute(f'SELECT * FROM "{name}" ORDER BY ALL').to_arrow_table() for name in tables}


def files(deployment):
    return sorted(path for path in (deployment.home / "lake").rglob("*.parquet"))


def tidy(store, name, **options):
    ((_, found),) = housekeep(store, Options(**options), [name])
    if isinstance(found, FeatureStoreError):
        raise found
    return found


def removed(found):
    return {name: count for name, count in found.figures.items() if count}


def test_the_figures_of_a_dry_run_are_those_of_the_run_which_leaves_others_alone_and_finds_nothing_a_second_time(
    deployment, environment
):
    built(deployment)
    deployment.store(BOTH).apply()
    store = deployment.store(AFTER)
    client, env = store.redis, deployment.env
    take(promote(2), "clicking", lake=store.lake, client=client, env=env, clock=deployment.clock)
    other = Deployment(deployment.url, deployment.home, f"{environment}_other")
    loaded(other)
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
        before = contents(client, env), store.lake.snapshot(), store.lake.extent(), files(deployment)
        held = rows(store.lake) if name in ("compact", "snapshots") else None
        dry = tidy(store, name, dry_run=True, **options)
        assert (contents(client, env), store.lake.snapshot(), store.lake.extent(), files(deployment)) == before, name

        run = tidy(store, name, **options)
        assert run == dry
        assert removed(run) == expected.get(name, removed(run)), name
        assert removed(run) or name == "events", name  # which `test_retention` is about
        assert removed(tidy(store, name, dry_run=True, **options)) == {}, name
        assert held is None or rows(store.lake) == held

    assert (contents(client, other.env), rows(other._lake)) == of_other
    assert client.get(f"features:{env}") == b"somebody else's"
    client.delete(f"features:{env}")
    other.close()


def test_whoever_is_killed_between_two_steps_leaves_what_the_next_one_finds(deployment, monkeypatch):
    loaded(deployment)
    store = deployment.store(Registry(views=[daily(2)], services=[]))
    client, env = store.redis, deployment.env
    client.hset(features_key(env, "user", "u1"), "daily@2", GHOST)  # of a view that stays
    deployment.clock.move_to(to_us(END) + DAY_US)
    monkeypatch.setattr(retire, "_SCANNED", 10)
    monkeypatch.setattr(keys, "BATCH", 10)

    for name in ("retired", "keys"):
        if name == "keys":
            values = [client.hgetall(key) for key in client.scan_iter(f"features:{env}:*")]
            assert values == [{b"daily@2": GHOST}]
            # as a flow of old declarations would
            for number in range(USERS):
                client.hset(features_key(env, "user", f"u{number}"), "live@1", GHOST)
        killed = 0
        while not ends(monkeypatch, store, name, at=killed + 1):
            killed += 1
        assert killed > 4, name
        assert removed(tidy(store, name, dry_run=True, retire=True)) == {}, name

    hashes = [client.hgetall(key) for key in client.scan_iter(f"features:{env}:*")]
    assert hashes == [{b"daily@2": GHOST}]
    assert store.applied().meanings.features == {}
    assert not store.lake.exists("rows_daily_v1")
    assert client.hkeys(layouts_key(env)) == client.hkeys(services_key(env)) == []

    deployment.store(BEFORE).materialize("daily", start=END - DAY, end=END)  # by who is about to apply it again
    found = tidy(store, "retired", retire=True)
    assert removed(found) == {}
    assert found.kept == [
        Kept("view daily@1", "it was built again since it was retired: apply it, or `feature-store retire` it again")
    ]


def ends(monkeypatch, store, name, *, at):
    """Run a task that is killed before its `at`-th write to Redis or commit of the lake; whether it ended before."""
    steps = iter(range(1, at + 1))

    def step(then):
        def killing(*given, **options):
            if next(steps, at) == at:
                raise KeyboardInterrupt
            return then(*given, **options)

        return killing

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "execute", step(Pipeline.execute))
        patched.setattr(Redis, "hdel", step(Redis.hdel))
        patched.setattr(Session, "commit", step(Session.commit))
        try:
            tidy(store, name, retire=True)
        except KeyboardInterrupt:
            return False
    return True


def test_what_is_in_use_or_not_known_stays_and_says_why(deployment, monkeypatch, capsys):
    store = loaded(deployment)
    client, env = store.redis, deployment.env
    older = deployment.store(Registry(views=[daily()], services=[]))
    client.hset(features_key(env, "user", "u1"), "unknown@1", GHOST)

    assert tidy(older, "retired", retire=True, dry_run=True).figures["services"] == 1
    assert tidy(older, "retired").kept == [
        Kept(
            "service clicking@1",
            "it is declared no more, but not retired: `feature-store retire clicking@1 --service`, or `--retire`",
        ),
        Kept(
            "view live@1",
            "view 'live@1' is read by service 'clicking@1'; retire that first with `feature-store retire ... --service`",
        ),
    ]
    assert tidy(store, "keys").kept == [
        Kept("1 value of unknown@1", "the stream of another declaration may still write it")
    ]
    assert tidy(store, "logs").kept == [Kept("log clicks", "no archiver reads it (`feature-store stream --archive`)")]
    assert client.hexists(features_key(env, "user", "u1"), "unknown@1")

    for name in ("home", "environment", "redis_url"):
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(getattr(store.settings, name)))
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "changing_world:BEFORE")
    assert run(["housekeeping", "keys", "logs", "--dry-run"]) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip(" ─")] == [
        f"environment {env}: a dry run, nothing was changed",
        "task would go",
        "keys nothing",
        "logs nothing",
        "kept:",
        "keys 1 value of unknown@1: the stream of another declaration may still write it",
        "logs log clicks: no archiver reads it (`feature-store stream --archive`)",
    ]


def test_a_task_that_cannot_be_done_holds_up_no_other_and_one_that_is_none_is_refused(tmp_path):
    settings = Settings(home=begun(tmp_path), redis_url="redis://127.0.0.1:1/0")
    with FeatureStore(BEFORE, settings=settings) as store:
        found = dict(housekeep(store, Options(dry_run=True)))
        with pytest.raises(UnknownNameError, match="unknown task of housekeeping 'log'; did you mean 'logs'"):
            housekeep(store, Options(), ["log"])

    assert [name for name, each in found.items() if isinstance(each, FeatureStoreError)] == ["retired", "keys", "logs"]
    assert "no Redis answers at 127.0.0.1:1" in str(found["keys"])
    assert found["compact"].figures == {"tables": 0, "files": 0}
