"""The real flow: a Bytewax process, its archiver and a real server; killed, restarted, told to stop."""

import re
import resource
import signal
import time
from datetime import timedelta

import pytest
from flow_world import PATIENCE_S, Deployment
from stream_world import World, equal_where_both_hold, rows

from feature_store.online.commits import read_commits
from feature_store.online.ready import read_ready


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
        flow.wait(timeout=PATIENCE_S)

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
        assert archiver.wait(timeout=PATIENCE_S) == 0

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


def test_an_archiver_waits_while_redis_has_no_room(deployment):
    deployment.publish(rows(20))
    deployment.client.config_set("maxmemory", 1)
    try:
        with deployment.process("archive", "--every", "0.1") as archiver:
            deployment.wait(lambda: "archiving waits: " in deployment.said("archive"), archiver)
            deployment.client.config_set("maxmemory", 0)

            deployment.wait(lambda: len(deployment.lake_ids()) == 20, archiver)
    finally:
        deployment.client.config_set("maxmemory", 0)


def test_an_archiver_waits_while_the_disk_under_the_lake_is_full(deployment):
    with deployment.process("archive", "--every", "0.1") as archiver:
        deployment.publish(rows(20))
        deployment.wait(lambda: len(deployment.lake_ids()) == 20, archiver)
        _, hard = resource.prlimit(archiver.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(archiver.pid, resource.RLIMIT_FSIZE, (20_000, hard))  # less than the catalog's log needs
        deployment.publish(rows(40)[20:])
        full = "archiving waits: the catalog of the lake at .* cannot be used: .*disk I/O error"
        deployment.wait(lambda: re.search(full, deployment.said("archive")), archiver)
        assert len(deployment.lake_ids()) == 20
        resource.prlimit(archiver.pid, resource.RLIMIT_FSIZE, (hard, hard))

        deployment.wait(lambda: len(deployment.lake_ids()) == 40, archiver)


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
