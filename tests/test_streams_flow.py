"""The real flow: a Bytewax process, its archiver and a real server; killed, restarted, told to stop."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from stream_world import NOW_US, World, equal_where_both_hold, rows

from feature_store.clock import ReplayClock
from feature_store.online.ready import read_ready
from feature_store.online.writer import read_commits

HERE = Path(__file__).parent
PATIENCE_S = 120


class Deployment(World):
    """A world whose stream runs in processes of its own, on a clock that goes on from NOW_US."""

    def __post_init__(self):
        self.replay = ReplayClock(origin_us=NOW_US, started_us=time.time_ns() // 1000)
        super().__post_init__()
        self.clock = self.replay

    @contextmanager
    def process(self, name, *options, workers=1):
        settings = {
            "HOME": self.home,
            "REDIS_URL": self.url,
            "ENVIRONMENT": self.env,
            "DECLARATIONS": "stream_world:registry",
            "REPLAY": self.replay,
            "WORKERS": workers,
        }
        environment = os.environ | {f"FEATURE_STORE_{key}": str(value) for key, value in settings.items()}
        environment["PYTHONPATH"] = f"{HERE.parent}{os.pathsep}{HERE}"
        with (self.home / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "feature_store_deploy.streams", name, *options],
                env=environment,
                stdout=log,
                stderr=log,
            )
            try:
                yield started
            finally:
                started.kill()
                started.wait()

    def said(self, name):
        return (self.home / f"{name}.log").read_text()

    def wait_until_caught_up(self, process, *, workers=1):
        """Until the record of every worker's shard knows the end of the log."""

        def caught_up():
            records = read_ready(self.client, self.env)
            known = [records[str(n)].positions.get("readings", {}) for n in range(workers) if str(n) in records]
            return len(known) == workers and all(self.reached_the_end(positions) for positions in known)

        self.wait(caught_up, process)

    def reached_the_end(self, positions):
        """Also where the log has begun a new epoch since, and nothing was published in it."""
        return len(positions) == self.log.partitions and all(self.log.lag(p, at) == 0 for p, at in positions.items())

    def wait(self, condition, process):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert process.poll() is None, self.said("flow")
            assert time.monotonic() < deadline, self.said("flow")
            time.sleep(0.02)

    def trickle(self, some, *, size=10, pause_s=0.01):
        for start in range(0, len(some), size):
            self.publish(some[start : start + size])
            time.sleep(pause_s)


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment)
    yield made
    made.close()


def without_bytewax(deployment, some, tmp_path):
    """What the same events give when the steps are called one after the other."""
    twin = World(deployment.url, tmp_path / "twin", f"{deployment.env}_twin", now_us=deployment.clock.now_us())
    try:
        stream = twin.stream()
        for start in range(0, len(some), 37):
            twin.publish(some[start : start + 37])
            stream.step()
        return twin.values()
    finally:
        twin.close()


def test_the_flow_serves_what_its_steps_give_without_bytewax_and_sigterm_stops_it(deployment, tmp_path):
    some = rows(400, seed=11)
    with deployment.process("flow") as flow:
        deployment.wait(lambda: read_ready(deployment.client, deployment.env), flow)
        deployment.trickle(some)
        deployment.wait_until_caught_up(flow)

        found = deployment.values()
        flow.send_signal(signal.SIGTERM)
        flow.wait(timeout=20)

    assert equal_where_both_hold(found, without_bytewax(deployment, some, tmp_path), deployment.clock.now_us())
    commits = [commit for _, commit in read_commits(deployment.client, deployment.env)]
    assert [commit.n for commit in commits] == list(range(commits[0].n, commits[0].n + len(commits)))


def test_a_flow_that_is_killed_goes_on_exactly_while_its_archiver_never_stopped(deployment, tmp_path):
    some = rows(600, seed=12)
    with deployment.process("archive", "--every", "0.3") as archiver:
        for number, part in enumerate((some[:250], some[250:450])):
            with deployment.process("flow", workers=2) as flow:
                deployment.trickle(part[: len(part) // 2])
                deployment.wait(lambda n=number: _runs(deployment) > n, flow)
                deployment.trickle(part[len(part) // 2 :], pause_s=0.002)
                flow.send_signal(signal.SIGKILL)
        with deployment.process("flow", workers=2) as flow:
            deployment.trickle(some[450:])
            deployment.wait_until_caught_up(flow, workers=2)
            found = deployment.values()
        assert archiver.poll() is None, deployment.said("archive")
        archiver.send_signal(signal.SIGTERM)
        assert archiver.wait(timeout=30) == 0

    assert equal_where_both_hold(found, without_bytewax(deployment, some, tmp_path), deployment.clock.now_us())
    assert len({commit.run for _, commit in read_commits(deployment.client, deployment.env)}) == 3


def _runs(deployment):
    """How many runs have written."""
    return len({commit.run for _, commit in read_commits(deployment.client, deployment.env)})


def test_a_flow_without_a_server_ends_with_one_clear_line(deployment):
    deployment.url = "redis://127.0.0.1:1/0"
    with deployment.process("flow") as flow:
        assert flow.wait(timeout=PATIENCE_S) == 2

    [line] = deployment.said("flow").strip().splitlines()
    assert line.startswith("error: ")
    assert "Redis" in line


def test_ticks_keep_the_heart_beating_when_nothing_comes(deployment):
    with deployment.process("flow", "--tick", "0.2") as flow:
        deployment.wait(lambda: read_ready(deployment.client, deployment.env), flow)
        first = read_ready(deployment.client, deployment.env)["0"].beat_us
        later = first + timedelta(seconds=0.5) // timedelta(microseconds=1)

        deployment.wait(lambda: read_ready(deployment.client, deployment.env)["0"].beat_us > later, flow)


def test_an_event_does_not_wait_for_the_next_tick(deployment):
    with deployment.process("flow", "--tick", "100") as flow:
        deployment.wait(lambda: read_ready(deployment.client, deployment.env), flow)
        for number in range(3):
            deployment.publish(rows(1, seed=number))
            began = time.monotonic()
            deployment.wait_until_caught_up(flow)
            assert time.monotonic() - began < 20
