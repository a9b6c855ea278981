"""Real processes: two flows at once, one that wakes up late, definitions and history that reach a running flow, a store
that loses what it held.
"""

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from feature_store_deploy.streams.succession import SUPERSEDED
from flow_world import PATIENCE_S, Deployment, counted
from sentinel_world import watched
from stream_world import SOURCE, compiled, equal_where_both_hold, registry, rows
from stream_world import World as Twin

from feature_store import FeatureReader, Registry
from feature_store.changing.apply import apply
from feature_store.embedded import EmbeddedValkey, free_port
from feature_store.errors import OnlineStoreError
from feature_store.online.owner import read_owner
from feature_store.online.ready import read_ready
from feature_store.reader import Status
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import compile_registry

DECLARED = """from feature_store import Registry
from stream_world import kinds, sites
registry = Registry(views=[{views}])
"""


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment)
    yield made
    made.close()


def run_of(flow):
    """The process that folds."""
    [pid] = [int(pid) for pid in Path(f"/proc/{flow.pid}/task/{flow.pid}/children").read_text().split()]
    return pid


def wait_for_run(deployment, flow, run):
    deployment.wait(lambda: _vouches(deployment) == run, flow)


def _vouches(deployment):
    record = read_ready(deployment.client, deployment.env).get("0")
    return record.run if record else 0


class Poll(threading.Thread):
    """A reader that looks at every site again and again, and keeps what must not be."""

    def __init__(self, deployment, sites):
        super().__init__(daemon=True)
        self._url, self._env, self._clock = deployment.url, deployment.env, deployment.clock
        self._rows = [{"site": site} for site in sites]
        self.done, self.reads, self.statuses, self.regressed = threading.Event(), 0, set(), []

    def run(self):
        seen = [0] * len(self._rows)
        with FeatureReader(self._url, env=self._env, clock=self._clock) as reader:
            while not self.done.wait(0.005):
                try:
                    vectors = reader.get_online_features_batch(["sites:level_sum"], self._rows)
                except OnlineStoreError:
                    continue
                self.reads += 1
                for number, vector in enumerate(vectors):
                    [status], [value] = vector.statuses, vector.values
                    self.statuses.add(status)
                    if status is Status.PRESENT:
                        if value < seen[number]:
                            self.regressed.append((self._rows[number], seen[number], value))
                        seen[number] = max(seen[number], value)


@contextmanager
def polled(deployment, sites=("north", "east")):
    poll = Poll(deployment, sites)
    poll.start()
    try:
        yield poll
    finally:
        poll.done.set()
        poll.join(PATIENCE_S)


def growing(count, *, seed, site="north"):
    """Readings by which a lifetime sum only grows."""
    return [row | {"site": site, "level": 1 + n % 3} for n, row in enumerate(rows(count, seed=seed))]


def load(deployment, some):
    """Readings as history of their days."""
    days = {row["at"].date() for row in some}
    table = pa.table(
        {
            **{name: [row[name] for row in some] for name in ("uid", "site", "kind", "level", "load", "tag")},
            "at": pa.array([row["at"] for row in some], type=pa.timestamp("us", "UTC")),
            "_event_id": [row["uid"] for row in some],
            "_event_us": [to_us(row["at"]) for row in some],
        }
    )
    deployment.lake.ensure_source(SOURCE, compiled.schemas[SOURCE])
    deployment.lake.replace_loaded(SOURCE, table, days=sorted(days))


ACCEPTED = ("stream_events_total", "readings", "accepted")


def apply_views(deployment, *views):
    some = compile_registry(Registry(views=[registry.view(name) for name in views]))
    apply(some, deployment.lake, deployment.client, env=deployment.env, clock=deployment.clock)


def publish_until(deployment, flow, *, run, seed):
    """Publish a little, again and again, until a run has taken over; returns what was published."""
    published = []

    def taken_over():
        published.extend(row | {"uid": f"{seed}-{len(published)}"} for row in growing(1, seed=seed))
        deployment.publish(published[-1:])
        return read_owner(deployment.client, deployment.env).run == run

    deployment.wait(taken_over, flow)
    return published


@pytest.mark.timeout(900)
def test_a_running_flow_is_superseded_and_takes_new_definitions_and_history_in(deployment, tmp_path, monkeypatch):
    # run 1 --stopped------------woken up: ends
    # run 2      --builds--|--takes over--|
    # run 3 (a view is added)        --builds--|
    # run 4 (history is loaded)                  --builds--|
    declared, port = tmp_path / "declared.py", free_port()
    monkeypatch.setenv(
        "FEATURE_STORE_FLOW_METRICS_PORT", str(port)
    )  # which the second flow has when the first has ended
    declared.write_text(DECLARED.format(views="sites"))
    deployment.declarations = "declared:registry"
    apply_views(deployment, "sites")
    published = growing(50, seed=1) + growing(50, seed=2, site="east")
    deployment.publish(published)
    with deployment.process("flow") as first:
        wait_for_run(deployment, first, 1)
        stopped = run_of(first)
        os.kill(stopped, signal.SIGSTOP)
        with deployment.process("flow") as flow, polled(deployment) as poll:
            wait_for_run(deployment, flow, 2)
            published += growing(20, seed=3)
            deployment.publish(published[-20:])
            deployment.wait_until_caught_up(flow)
            os.kill(stopped, signal.SIGCONT)
            assert first.wait(timeout=PATIENCE_S) == SUPERSEDED
            assert "\nrun 1 has been superseded by run 2; this flow ends\n" in deployment.said("flow")
            assert read_owner(deployment.client, deployment.env).run == 2
            deployment.wait(lambda: "metrics wait: " in deployment.said("flow"), flow)
            deployment.wait(lambda: deployment.said("flow").count("metrics at ") == 2, flow)
            assert counted(port)[ACCEPTED] == len(published)

            declared.write_text(DECLARED.format(views="sites, kinds"))
            apply_views(deployment, "sites", "kinds")
            published += publish_until(deployment, flow, run=3, seed=4)
            deployment.wait(lambda: len(read_ready(deployment.client, deployment.env)["0"].views) == 2, flow)

            deployment.archive()
            history = [row | {"uid": f"history{n}"} for n, row in enumerate(growing(30, seed=5))]
            load(deployment, history)
            published += publish_until(deployment, flow, run=4, seed=6)
            wait_for_run(deployment, flow, 4)
            deployment.wait_until_caught_up(flow)
            found, now_us = deployment.values(), deployment.clock.now_us()
            # Of three runs together, each of which has read all that was not archived when it began.
            told = counted(port)
        assert told[ACCEPTED] > len(published)
        assert told["stream_written_total", None, None] > 0
        assert told["stream_commit_seconds_count", None, None] > 0
        assert poll.regressed == []
        assert poll.statuses == {Status.PRESENT}
        assert poll.reads > 10

    twin = Twin(deployment.url, tmp_path / "twin", f"{deployment.env}_twin", now_us=now_us)
    load(twin, history)
    twin.publish(published)
    twin.stream().step()
    assert equal_where_both_hold(found, twin.values(), now_us)
    twin.close()


@pytest.mark.timeout(600)
def test_a_flow_outlives_its_server_and_mends_what_that_has_lost(tmp_path, environment):
    with EmbeddedValkey(tmp_path / "valkey") as server:
        deployment = Deployment(server.url, tmp_path, environment)
        apply_views(deployment, "sites", "kinds")
        published = growing(100, seed=1)
        deployment.publish(published)
        with deployment.process("flow") as flow, polled(deployment, ["north"]) as poll:
            wait_for_run(deployment, flow, 1)
            deployment.wait_until_caught_up(flow)
            deployment.archive()
            before = deployment.values()
            pid = run_of(flow)

            deployment.client.flushall()
            deployment.wait(lambda: _vouches(deployment) == 1, flow)
            assert places(deployment.values()) == places(before)

            server.kill()
            server.start()
            published += growing(50, seed=2)
            deployment.publish(published[-50:])
            deployment.wait_until_caught_up(flow)

            found, now_us = deployment.values(), deployment.clock.now_us()
            assert run_of(flow) == pid
        assert poll.regressed == []
        assert poll.statuses <= {Status.PRESENT, Status.STALE, Status.UNKNOWN}
        twin = Twin(deployment.url, tmp_path / "twin", f"{deployment.env}_twin", now_us=now_us)
        twin.publish(published)
        twin.stream().step()
        assert equal_where_both_hold(found, twin.values(), now_us)
        twin.close()
        deployment.close()


@pytest.mark.timeout(600)
def test_flow_and_archiver_follow_a_failover_to_the_server_that_sentinel_names(tmp_path, environment):
    with watched(tmp_path) as servers:
        deployment = Deployment(servers.url, tmp_path, environment)
        apply_views(deployment, "sites", "kinds")
        published = growing(100, seed=1)
        deployment.publish(published)
        with (
            deployment.process("flow") as flow,
            deployment.process("archive") as archive,
            polled(deployment, ["north"]) as poll,
        ):
            wait_for_run(deployment, flow, 1)
            deployment.wait_until_caught_up(flow)
            pid = run_of(flow)
            assert deployment.client.wait(1, 5000) == 1

            servers.primary.kill()
            servers.wait_until_promoted()
            published += growing(50, seed=2)
            deployment.publish(published[-50:])
            deployment.wait_until_caught_up(flow)
            deployment.wait(lambda: len(deployment.lake_ids()) == len(published), archive)

            found, now_us = deployment.values(), deployment.clock.now_us()
            assert run_of(flow) == pid
        assert poll.regressed == []
        assert poll.statuses <= {Status.PRESENT, Status.STALE, Status.UNKNOWN}
        twin = Twin(servers.replica.url, tmp_path / "twin", f"{deployment.env}_twin", now_us=now_us)
        twin.publish(published)
        twin.stream().step()
        assert equal_where_both_hold(found, twin.values(), now_us)
        twin.close()
        deployment.close()


def places(values):
    return set(values)
