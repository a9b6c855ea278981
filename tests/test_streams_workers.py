"""Several workers: processes that come, go and are killed leave in Redis what one that never stopped would."""

import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from feature_store_deploy.streams import cluster
from feature_store_deploy.streams.cluster import run_cluster
from feature_store_deploy.streams.worker import DEFECT, FAILED, PEER_LOST, PORT_TAKEN, Orders, Place
from flow_world import PATIENCE_S, Deployment
from stream_world import rows

from feature_store.embedded import PORT_ATTEMPTS, EmbeddedValkey
from feature_store.errors import FeatureStoreError
from feature_store.fold.rebuild import Origin
from feature_store.fold.run import Start
from feature_store.online.writer import read_commits


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment, speed=0.0)
    yield made
    made.close()


@pytest.fixture
def untouched_signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def events(seed):
    """Readings late and in no order, some of them twice, some a second time with other values."""
    draw = random.Random(seed)
    some = rows(600, seed=seed)
    again = draw.sample(some, 60)
    contradicting = [row | {"level": 99} for row in draw.sample(some, 30)]
    mixed = [*some, *again, *contradicting]
    draw.shuffle(mixed)
    return mixed


def content_hash(deployment):
    """A digest of every served value but for the run and commit that wrote it; the clock stands still."""
    found = sorted((*place, row._replace(run=0, n=0)) for place, row in deployment.values().items())
    assert found, "nothing is served"
    return hashlib.sha256(repr(found).encode()).hexdigest()


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids):
    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.02)


def runs(deployment):
    """Run -> the shards that have written in it."""
    found = {}
    for _, commit in read_commits(deployment.client, deployment.env, count=100_000):
        found.setdefault(commit.run, set()).add(commit.shard)
    return found


def test_one_three_two_workers_killed_between_leave_what_one_uninterrupted_worker_does(deployment, valkey, tmp_path):
    #           1 worker           3 workers               3 workers           2 workers
    # events  |----part 0-----X|----part 1-----X|--------part 2-------X|-----part 3------->
    #                   flow killed      a worker killed        the parent killed
    parts = [events(20)[start::4] for start in range(4)]
    quiet = Deployment(valkey.url, tmp_path / "quiet", f"{deployment.env}_quiet", speed=0.0)
    with quiet.process("flow") as uninterrupted:
        for number, workers in enumerate((1, 3, 3, 2)):
            with deployment.process("flow", workers=workers) as flow:
                deployment.wait(lambda n=number, w=workers: len(runs(deployment).get(n + 1, ())) == w, flow)
                pids = children(flow)
                assert len(pids) == (workers if workers > 1 else 0)
                for world in (deployment, quiet):
                    world.trickle(parts[number], size=20, pause_s=0.0)
                if number == 0:
                    flow.kill()
                elif number == 1:
                    os.kill(pids[1], signal.SIGKILL)
                    assert flow.wait(timeout=PATIENCE_S) == 2
                elif number == 2:
                    flow.kill()
                else:
                    deployment.wait_until_caught_up(flow, workers=2)
                    flow.send_signal(signal.SIGTERM)
                    assert flow.wait(timeout=PATIENCE_S) == 0
                wait_until_gone(pids)
            if number < 2:
                deployment.archive()
        quiet.wait_until_caught_up(uninterrupted)

    assert content_hash(deployment) == content_hash(quiet)
    assert runs(deployment) == {1: {0}, 2: {0, 1, 2}, 3: {0, 1, 2}, 4: {0, 1}}
    said = deployment.said("flow")
    assert "error: worker 2 of 3 was ended by SIGKILL, and the flow with it; start it again" in said
    assert "Traceback" not in said
    rebuilt = re.findall(r"\[(\d+)\] INFO shard \d of (\d) is rebuilt", said)
    assert len(set(rebuilt)) == 1 + 3 + 3 + 2, "each shard has a process of its own"
    quiet.close()


def test_what_stops_the_workers_is_one_clear_line(tmp_path, environment):
    with EmbeddedValkey(tmp_path / "valkey") as server:
        deployment = Deployment(server.url, tmp_path, environment)
        with deployment.process("flow", "--workers", "2") as flow:
            deployment.wait(lambda: len(runs(deployment).get(1, ())) == 2, flow)
            pids = children(flow)
            server.kill()

            assert flow.wait(timeout=PATIENCE_S) == 2
            wait_until_gone(pids)
        deployment.close()
    said = deployment.said("flow")
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Redis" in line or "cannot write online values" in line
    assert "Traceback" not in said


BEGINNING = Start(run=1, generation="", begins={}, origin=Origin(snapshot=0, positions={}), evicts=False, shards=2)
TICK = timedelta(seconds=1)


def test_a_worker_whose_port_is_taken_says_so_by_its_exit_code(deployment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Place(addresses=[f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1"], process=0)
        with deployment.process("worker", stdin=subprocess.PIPE) as worker:
            worker.stdin.write(msgspec.json.encode(Orders(start=BEGINNING, place=place, tick=TICK)) + b"\n")
            worker.stdin.flush()

            assert worker.wait(timeout=PATIENCE_S) == PORT_TAKEN
    assert deployment.said("worker") == ""


def run_of(monkeypatch, programs):
    """A cluster of two whose processes are small programs instead."""
    coming = iter(programs)

    def started(orders):
        return subprocess.Popen([sys.executable, "-S", "-c", next(coming)], stdout=subprocess.PIPE)

    monkeypatch.setattr(cluster, "_started", started)
    run_cluster(BEGINNING, tick=TICK)


LASTS = "import time; time.sleep(100)"


def ends(code):
    return f"print('in words', end=''); raise SystemExit({code})"


def test_other_ports_are_tried_when_one_is_taken(monkeypatch, untouched_signals):
    with pytest.raises(FeatureStoreError, match=r"^in words$"):
        run_of(monkeypatch, [LASTS, ends(PORT_TAKEN), ends(FAILED), LASTS])

    with pytest.raises(FeatureStoreError, match=f"worker 1 of 2 found its loopback port in use {PORT_ATTEMPTS} times"):
        run_of(monkeypatch, [ends(PORT_TAKEN), LASTS] * PORT_ATTEMPTS)


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ([ends(PEER_LOST), f"import time; time.sleep(0.3); {ends(FAILED)}"], "in words"),
        ([ends(DEFECT), ends(PEER_LOST)], "worker 1 of 2 ended with exit code 1, and the flow with it; start it again"),
        ([ends(PEER_LOST), ends(PEER_LOST)], "worker 1 of 2 ended with exit code 4, and the flow with it; .*"),
    ],
)
def test_the_worker_that_ended_of_itself_is_named(programs, message, monkeypatch, untouched_signals):
    with pytest.raises(FeatureStoreError, match=f"^{message}$"):
        run_of(monkeypatch, programs)
