"""`doctor` over a deployment that is well, and over each thing that is wrong with one."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import redis
from feature_store_deploy.assets.instance import dagster_instance
from feature_store_deploy.checks.alerts import state
from feature_store_deploy.checks.alerts.__main__ import main

from feature_store import doctor
from feature_store.cli.app import run
from feature_store.configured import unknown_variables
from feature_store.doctor import examine, server
from feature_store.doctor.alerts import alert_findings, judged
from feature_store.doctor.finding import Finding, State
from feature_store.lake import Lake
from feature_store.online.acl import role
from feature_store.settings import PREFIX, Settings

if TYPE_CHECKING:
    from feature_store.embedded import EmbeddedValkey

SHOP = '''"""A view and its source."""
import pandera.pandas as pa
import pandas as pd
from feature_store import Entity, EventSource, FeatureView, Registry, agg, redis_stream


class Sale(pa.DataFrameModel):
    uid: str
    shop: str
    at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


sales = EventSource("sales", schema=Sale, event_time="at", event_id="uid", log=redis_stream("sales"))
busy = FeatureView("busy", entity=Entity("shop", join_keys=["shop"]), source=sales, features=[agg.count(over="1h")])
registry = Registry(views=[busy])
'''


@pytest.fixture
def settings(tmp_path: Path, valkey: "EmbeddedValkey", environment: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment that nobody has applied yet."""
    module = f"doctored_{environment}"
    (tmp_path / f"{module}.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "REDIS_URL": valkey.url,
        "ENVIRONMENT": environment,
        "DECLARATIONS": f"{module}:registry",
    }.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    for name in unknown_variables(os.environ):  # the tests' own
        monkeypatch.delenv(name)
    return Settings()


def found(settings: Settings) -> dict[str, Finding]:
    """The worst finding of each part."""
    worst: dict[str, Finding] = {}
    for each in examine(settings):
        if each.part not in worst or each.state > worst[each.part].state:
            worst[each.part] = each
    return worst


def test_a_deployment_that_was_applied_is_well(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    before = found(settings)
    assert before["lake"].state is State.WARNING
    assert "feature-store apply" in before["lake"].do
    assert before["declarations"].said == "1 view, 1 source, 0 services"
    assert run(["apply"]) == 0
    capsys.readouterr()

    after = found(settings)

    wrong = {part: each for part, each in after.items() if each.state is not State.OK}
    assert set(wrong) <= {"packages"}, wrong  # an extra may be missing
    assert list(after) == [
        "Python", "packages", "settings", "files", "home", "lake", "declarations", "Redis", "clock", "log sales", "alerts",
    ]  # fmt: skip
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "Redis" in said
    assert "problem" not in said


def test_a_redis_that_is_away_is_a_problem_that_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:1/0")

    worst = found(Settings())

    assert worst["Redis"].state is State.PROBLEM
    assert "no Redis answers at 127.0.0.1:1" in worst["Redis"].said
    assert "clock" not in worst  # nothing that it is compared with
    assert run(["doctor"]) == 1
    assert "1 problem" in capsys.readouterr().out


@pytest.fixture
def client(valkey: "EmbeddedValkey") -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as client:
        yield client


def test_a_redis_that_evicts_or_keeps_nothing_on_disk_is_told(settings: Settings, client: redis.Redis) -> None:
    before = client.config_get("maxmemory-policy", "appendonly", "save")
    try:
        client.config_set("appendonly", "no")
        client.config_set("save", "")
        assert found(settings)["Redis"].state is State.WARNING
        assert "keeps nothing on disk" in found(settings)["Redis"].said
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert found(settings)["Redis"].state is State.PROBLEM
        assert "noeviction" in found(settings)["Redis"].said
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_a_redis_that_is_nearly_full_is_told(settings: Settings, client: redis.Redis) -> None:
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used * 1.1))
    try:
        assert found(settings)["Redis"].state is State.WARNING
        assert "of its maxmemory" in found(settings)["Redis"].said
    finally:
        client.config_set("maxmemory", 0)


def test_a_password_is_never_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", settings.redis_url.replace("://", "://nobody:s3cret@"))

    worst = found(Settings())

    assert worst["Redis"].state is State.PROBLEM
    assert not any("s3cret" in f"{each}" for each in worst.values())


def test_clocks_apart_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "time", SimpleNamespace(time=lambda: time.time() - 30, perf_counter=time.perf_counter))

    assert found(settings)["clock"].state is State.PROBLEM
    assert "30.0 s" in found(settings)["clock"].said


@pytest.mark.parametrize(("free", "state"), [(10 << 20, State.PROBLEM), (2 << 30, State.WARNING)])
def test_a_disk_that_fills_is_told(settings, monkeypatch, free, state) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, used=0, free=free))

    assert found(settings)["home"].state is state


def test_declarations_that_are_wrong_are_told_and_all_else_is_looked_at(settings, monkeypatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "nowhere:registry")

    worst = found(Settings())

    assert worst["declarations"].state is State.PROBLEM
    assert "nowhere:registry" in worst["declarations"].said
    assert worst["Redis"].state is State.OK


def test_declarations_that_raise_are_a_problem_and_no_traceback(settings, tmp_path, monkeypatch) -> None:
    (tmp_path / "raises_when_imported.py").write_text("1 / 0\n")
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "raises_when_imported:registry")

    worst = found(Settings())

    assert worst["declarations"].state is State.PROBLEM
    assert "ZeroDivisionError" in worst["declarations"].said


def test_a_variable_that_is_no_setting_is_told(settings, monkeypatch) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS", "x")

    assert found(settings)["settings"].state is State.WARNING
    assert f"{PREFIX}REDIS_URL" in found(settings)["settings"].do


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_told(settings, tmp_path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)

    assert found(settings)["home"].state is State.PROBLEM


def test_a_home_that_is_a_file_is_told(settings, tmp_path) -> None:
    (tmp_path / "home").write_text("")

    assert found(settings)["home"].state is State.PROBLEM
    assert "is no directory" in found(settings)["home"].said


def test_a_lake_that_is_damaged_is_told(settings, tmp_path, capsys) -> None:
    assert run(["apply"]) == 0
    catalog = tmp_path / "home" / "lake" / "catalog.sqlite"
    catalog.write_bytes(b"no database" * 1000)
    for beside in catalog.parent.glob("catalog.sqlite-*"):
        beside.unlink()

    assert found(settings)["lake"].state is State.PROBLEM


def test_packages_of_different_versions_are_told(settings, monkeypatch) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "duckdb-extension-ducklake" else real(name))

    assert found(settings)["packages"].state is State.PROBLEM
    assert "duckdb-extension-ducklake 0.1" in found(settings)["packages"].said


@pytest.fixture
def user(client: redis.Redis, environment: str) -> Iterator[Callable[..., str]]:
    """Makes a user by its rules; gives the URL with which it comes."""

    def make(*rules: str, password: str = "secret") -> str:
        client.execute_command("ACL", "SETUSER", environment, "reset", "on", ">secret", *rules)
        where = client.connection_pool.connection_kwargs
        return f"redis://{environment}:{password}@{where['host']}:{where['port']}/0"

    yield make
    client.acl_deluser(environment)


def test_a_user_who_may_only_read_is_a_problem(settings, user, monkeypatch, client) -> None:
    before = client.dbsize()
    monkeypatch.setenv(
        f"{PREFIX}REDIS_URL", user("~*", "+@read", "+@connection", "+info", "+time", "+hsetex", "-@write")
    )

    worst = found(Settings())["Redis"]

    assert worst.state is State.PROBLEM
    assert "this user may not publish events, write values, apply declarations (User " in worst.said
    assert "feature-store acl" in worst.do
    assert client.dbsize() == before


def test_what_a_role_may_not_do_is_told(settings, user, monkeypatch) -> None:
    url = user(*role("publisher").rules(settings.environment).split()[2:])
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)

    worst = found(Settings())["Redis"]

    assert worst.state is State.WARNING
    assert worst.said.startswith("this user may not write values, apply declarations (")


def test_a_wrong_password_and_a_missing_permission_are_not_called_a_server_that_is_away(
    settings, user, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", user("~*", "+@all", password="wrong"))
    assert "refuses the user or the password (" in found(Settings())["Redis"].said

    monkeypatch.setenv(f"{PREFIX}REDIS_URL", user("~*", "+@all", "-info"))
    assert "does not allow this user what is asked (User " in found(Settings())["Redis"].said

    monkeypatch.setenv(f"{PREFIX}REDIS_URL", user("~*", "+@all", "-evalsha", "-eval"))
    (Path(settings.home).parent / "sales.jsonl").write_text('{"uid": "1", "shop": "a", "at": "2024-03-01T00:00:00Z"}\n')
    assert run(["publish", "sales", "sales.jsonl"]) == 2
    said = capsys.readouterr().err
    assert "no permissions" in said
    assert "does not answer" not in said
    assert "is it running" not in said


def test_a_lake_that_cannot_be_written_is_told(settings, monkeypatch, capsys) -> None:
    assert run(["apply"]) == 0
    real = doctor.tempfile.TemporaryFile

    def denied(*, dir: Path):  # noqa: A002 - its name; who tests as root may write everywhere
        if "lake" in Path(dir).parts:
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", denied)

    assert found(settings)["lake"].state is State.PROBLEM
    assert "it can be read but not written: Permission denied" in found(settings)["lake"].said


def test_objects_that_cannot_be_written_read_or_deleted_are_told_by_permission(
    settings, shared_world, tmp_path, monkeypatch
) -> None:
    place = shared_world.new(tmp_path / "shared")
    monkeypatch.setenv(f"{PREFIX}LAKE_CATALOG", str(place.catalog))
    monkeypatch.setenv(f"{PREFIX}LAKE_DATA", place.files)
    with Lake.open(place, env=settings.environment):
        pass
    there = shared_world.files(place)

    def told(*denied: str) -> Finding:
        with shared_world.objects.denying(*denied):
            [finding] = doctor._lake(Settings())
        return finding

    assert told("s3:ListAllMyBuckets").state is State.OK
    assert shared_world.files(place) == there
    assert told("s3:PutObject").do == f"allow s3:PutObject for objects below {place.files}"
    neither = told("s3:GetObject", "s3:DeleteObject")
    assert (neither.part, neither.state) == ("lake", State.PROBLEM)
    assert neither.do == f"allow s3:GetObject and s3:DeleteObject for objects below {place.files}"
    assert "objects cannot be read: " in neither.said
    assert "objects cannot be deleted: " in neither.said
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in neither.said
    assert len(shared_world.files(place)) == len(there) + 1  # which nobody may delete


def test_alerts_that_wait_are_told_with_the_reason(settings, monkeypatch) -> None:
    assert "no webhook" in found(settings)["alerts"].said
    monkeypatch.setenv(f"{PREFIX}ALERT_WEBHOOK_URL", "https://hooks.example.com/s3cret")
    waiting = [state.Waiting(message={})] * 3
    with dagster_instance(settings) as instance:
        state.save(instance, settings.environment, state.State(waiting=waiting, problem="404 Not Found", given_up=2))

    [told] = alert_findings(Settings())

    assert told.state is State.WARNING
    assert told.said == (
        "3 wait (404 Not Found); 2 were refused for a day and given up; posted to https://hooks.example.com/***"
    )
    assert told.do == "docs/runbooks/delivery.md"


def test_a_sensor_of_alerts_that_has_ended_is_told() -> None:
    def told(evaluated_s: float, *, waiting: int = 0) -> Finding:
        waits = {"waiting": waiting, "problem": "", "given_up": 0, "evaluated_s": evaluated_s}
        return judged(waits, where="posted to x", runbooks="docs/runbooks", now_s=10_000)

    assert (told(9_970).state, told(9_970).said) == (State.OK, "posted to x; none waits")
    assert (told(0).state, told(0).said) == (State.OK, "posted to x; the sensor that sends them has not begun yet")
    assert told(6_400) == Finding(
        "alerts",
        State.WARNING,
        "the sensor that sends them was last evaluated 60 minutes ago; posted to x",
        "docs/runbooks/alert_sensor.md",
    )
    ended = told(6_400, waiting=2)
    assert (
        ended.said
        == "the sensor that sends them was last evaluated 60 minutes ago; 2 wait (not tried yet); posted to x"
    )
    assert ended.do == "docs/runbooks/alert_sensor.md"  # not the receiver: nobody tries to reach it
    assert told(9_970, waiting=2).do == told(0, waiting=2).do == "docs/runbooks/delivery.md"


def test_books_that_nobody_has_begun_hold_nothing_and_are_not_made(settings, capsys, tmp_path) -> None:
    main(str(tmp_path / "home"), settings.environment)

    assert capsys.readouterr().out == '{"waiting": 0, "problem": "", "given_up": 0, "evaluated_s": 0.0}'
    assert not (tmp_path / "home").exists()
