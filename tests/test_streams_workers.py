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
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from feature_store_deploy.streams import cluster
from feature_store_deploy.streams.cluster import run_cluster
from feature_store_deploy.streams.worker import DEFECT, FAILED, PEER_LOST, PORT_TAKEN, Orders, Place
from flow_world import PATIENCE_S, Deployment
from stream_world import rows

from feature_store.embedded import PORT_ATTEMPTS, free_port
from feature_store.errors import FeatureStoreError
from feature_store.fold.rebuild import Origin
from feature_store.fold.run import Start
from feature_store.online.commits import read_commits


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


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(flow):
    """The processes that fold: those of the run, or the run itself if it is alone."""
    [run] = children(flow.pid)
    return children(run) or [run]


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


def shards_by_run(deployment):
    """The shards that have written in each run."""
    found = {}
    for _, commit in read_commits(deployment.client, deployment.env, count=100_000):
        found.setdefault(commit.run, set()).add(commit.shard)
    return found


def wait_until_all_write(deployment, flow, *, run, workers):
    deployment.wait(lambda: len(shards_by_run(deployment).get(run, ())) == workers, flow)


@pytest.mark.timeout(600)
def test_one_three_two_workers_killed_between_leave_what_one_uninterrupted_worker_does(deployment, valkey, tmp_path):
    # workers   1                  3                  2
    # events  |----part 0-----X  |----part 1-----X  |----part 2------>
    #              the flow killed    a worker killed, then the flow
    parts = [events(20)[start::3] for start in range(3)]
    quiet = Deployment(valkey.url, tmp_path / "quiet", f"{deployment.env}_quiet", speed=0.0)
    with quiet.process("flow") as uninterrupted:
        for number, workers in enumerate((1, 3, 2)):
            with deployment.process("flow", workers=workers) as flow:
                wait_until_all_write(deployment, flow, run=number + 1, workers=workers)
                pids = workers_of(flow)
                for world in (deployment, quiet):
                    world.trickle(parts[number], size=20, pause_s=0.0)
                if workers == 2:
                    deployment.wait_until_caught_up(flow, workers=2)
                    flow.send_signal(signal.SIGTERM)
                    assert flow.wait(timeout=PATIENCE_S) == 0
                else:
                    for pid in (*pids[1:2], flow.pid):
                        os.kill(pid, signal.SIGKILL)
                wait_until_gone(pids)
            if number == 0:
                deployment.archive()
        quiet.wait_until_caught_up(uninterrupted)

    assert content_hash(deployment) == content_hash(quiet)
    assert shards_by_run(deployment) == {1: {0}, 2: {0, 1, 2}, 3: {0, 1}}
    said = deployment.said("flow")
    assert "Traceback" not in said
    processes = re.findall(r"\[(\d+)\] INFO shard \d of \d is rebuilt", said)
    assert len(set(processes)) == 1 + 3 + 2, "each shard has a process of its own"
    quiet.close()


def test_a_worker_that_is_killed_ends_the_flow_with_one_clear_line(deployment):
    with deployment.process("flow", "--workers", "2") as flow:
        wait_until_all_write(deployment, flow, run=1, workers=2)
        pids = workers_of(flow)
        os.kill(pids[1], signal.SIGKILL)

        assert flow.wait(timeout=PATIENCE_S) == 2
        wait_until_gone(pids)
    said = deployment.said("flow")
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line == "error: worker 2 of 2 was ended by SIGKILL, and the flow with it; start it again"
    assert "Traceback" not in said


BEGINNING = Start(run=1, generation="", begins={}, origin=Origin(snapshot=0, positions={}), evicts=False, shards=2)
TICK = timedelta(seconds=1)


@contextmanager
def worker_with_orders(deployment, *addresses):
    """The first of some workers, alone."""
    orders = Orders(start=BEGINNING, place=Place(addresses=list(addresses), process=0), tick=TICK)
    with deployment.process("worker", stdin=subprocess.PIPE) as worker:
        worker.stdin.write(msgspec.json.encode(orders) + b"\n")
        worker.stdin.flush()
        yield worker


def test_a_worker_whose_port_is_taken_says_so_by_its_exit_code(deployment):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        worker_with_orders(deployment, f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1") as worker,
    ):
        assert worker.wait(timeout=PATIENCE_S) == PORT_TAKEN
    assert deployment.said("worker") == ""


def test_a_worker_whom_a_stranger_calls_says_so_by_its_exit_code(deployment):
    port = free_port()
    with worker_with_orders(deployment, f"127.0.0.1:{port}", "127.0.0.1:1") as worker:
        with called(port, worker) as stranger:
            stranger.sendall(b"PING\r\n" * 100)

        assert worker.wait(timeout=PATIENCE_S) == PORT_TAKEN
    assert "Traceback" not in deployment.said("worker")


def called(port, worker):
    """A connection to a worker, as soon as it listens."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert worker.poll() is None
            time.sleep(0.02)


def test_a_worker_ends_when_nobody_holds_its_standard_input_any_more(deployment):
    with worker_with_orders(deployment, f"127.0.0.1:{free_port()}", "127.0.0.1:1") as worker:
        worker.stdin.close()

        assert worker.wait(timeout=PATIENCE_S) == PEER_LOST  # else it would wait for the other one
    assert deployment.said("worker") == ""


def run_of(monkeypatch, programs):
    """A cluster of two whose processes are small programs instead."""
    coming = iter(programs)

    def started(orders):
        return subprocess.Popen([sys.executable, "-S", "-c", next(coming)], stdout=subprocess.PIPE)

    monkeypatch.setattr(cluster, "_started", started)
    monkeypatch.setattr(cluster, "_CAUSE_S", 60)  # however long the other one takes to end
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
        (
            [ends(PEER_LOST), "print(8, end=''); raise SystemExit(5)"],
            "run 1 has been superseded by run 8; this flow ends",
        ),
        ([ends(DEFECT), ends(PEER_LOST)], "worker 1 of 2 ended with exit code 1, and the flow with it; start it again"),
        ([ends(PEER_LOST), ends(PEER_LOST)], "worker 1 of 2 ended with exit code 4, and the flow with it; .*"),
    ],
)
def test_the_worker_that_ended_of_itself_is_named(programs, message, monkeypatch, untouched_signals):
    with pytest.raises(FeatureStoreError, match=f"^{message}$"):
        run_of(monkeypatch, programs)
