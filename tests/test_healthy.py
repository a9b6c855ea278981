"""A health check says yes while a process does its work, and no, with the reason, when it does not."""

import subprocess
import sys
import time

import pytest
from feature_store_deploy.stack import healthy
from stream_world import NOW_US, World

from feature_store.clock import ReplayClock
from feature_store.embedded import HOST, free_port
from feature_store.errors import SettingsError
from feature_store.settings import PREFIX, Settings
from feature_store.time_rule import SECOND_US


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def settings(world, *, later_s=0, **values):
    """Those of a deployment whose clock stands still, so long after the world's."""
    started_us = time.time_ns() // 1000
    replay = ReplayClock(origin_us=NOW_US + later_s * SECOND_US, started_us=started_us, speed=0.0)
    return Settings(redis_url=world.url, environment=world.env, replay=str(replay), **values)


def test_a_flow_is_well_while_every_shard_vouches_and_beats(world):
    assert healthy.flow(settings(world)) == "shard 0 of 1 vouches for nothing yet"

    world.stream(shards=2).step()

    assert healthy.flow(settings(world, workers=2)) is None
    assert healthy.flow(settings(world, workers=3)) == "shard 2 of 3 vouches for nothing yet"
    assert healthy.flow(settings(world, later_s=11, workers=2)) == "shard 0 of 2 has been silent for more than 10 s"


def test_whatever_does_not_answer_is_not_well(monkeypatch, capsys, tmp_path):
    port = free_port()
    for name in ("API_PORT", "UI_PORT", "METRICS_PORT", "ARCHIVE_METRICS_PORT"):
        monkeypatch.setenv(f"{PREFIX}{name}", str(port))
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://{HOST}:{port}/0")

    assert [healthy.main([name]) for name in ("api", "webserver", "exporter", "archive", "flow")] == [1] * 5
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["api", "webserver", "exporter", "archive", "flow"]
    assert all("refused" in line for line in said)


def test_an_archiver_that_answers_nobody_cannot_be_asked(world):
    with pytest.raises(SettingsError, match="without FEATURE_STORE_ARCHIVE_METRICS_PORT"):
        healthy.archive(settings(world))


def test_a_wrong_question_is_answered_with_the_right_ones(capsys):
    assert healthy.main(["valkey"]) == healthy.main([]) == 1
    assert "api|archive|daemon|exporter|flow|webserver" in capsys.readouterr().err


def test_it_starts_fast_because_it_is_asked_often():
    script = "import feature_store_deploy.stack.healthy, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert {"dagster", "pandas", "duckdb", "pyarrow", "bytewax"} & set(loaded) == set()
