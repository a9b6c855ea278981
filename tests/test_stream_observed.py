"""The stream under Dagster: watermark, lag and throughput are observed; down or stalled, it turns red within a minute."""

import signal

import dagster as dg
import pytest
from dagster_world import quiet
from feature_store_deploy.checks.declared import told_figures
from feature_store_deploy.checks.stream import judge, sla_of
from feature_store_deploy.checks.stream_sensor import INTERVAL_S, Watch, build_stream_sensor
from feature_store_deploy.stack.definitions import build_definitions
from flow_world import PATIENCE_S, Deployment
from online_world import withdraw_shards, write_shards
from stream_world import SOURCE, registry, rows

from feature_store.clock import ManualClock, ReplayClock
from feature_store.embedded import free_port
from feature_store.online.keys import generation_key, owner_key
from feature_store.online.ready import ReadyRecord, read_ready, write_ready
from feature_store.settings import Settings
from feature_store.stream_progress import read_vouchers, stream_progress
from feature_store.time_rule import SECOND_US

CHECK = "stream"


@pytest.fixture
def deployment(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment)
    yield made
    made.close()


class Observer:
    """The sensor as the daemon drives it, on a clock that a test moves; what it reports stands in an instance."""

    def __init__(self, deployment, *, url=None):
        settings = Settings(home=deployment.home, redis_url=url or deployment.url, environment=deployment.env)
        self.clock = ManualClock(deployment.clock.now_us())
        self.definitions = build_definitions(registry, settings, clock=self.clock)
        self.repository = self.definitions.get_repository_def()
        self.sensor = build_stream_sensor(registry, settings, clock=self.clock)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(deployment.home))
        self.key = dg.AssetKey([deployment.env, "stream", SOURCE])
        self.cursor = None

    def tick(self, *, at_us=None, after_s=0.0):
        """Returns what was reported: (passed, description) of evaluations, metadata of observations."""
        self.clock.move_to((at_us or self.clock.now_us()) + int(after_s * SECOND_US))
        with quiet(), dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.repository
        ) as context:  # fmt: skip
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        said = [(e.passed, e.description) for e in data.asset_events if isinstance(e, dg.AssetCheckEvaluation)]
        seen = [{name: value.value for name, value in e.metadata.items()} for e in data.asset_events
                if isinstance(e, dg.AssetObservation)]  # fmt: skip
        return said, seen

    def newest(self):
        """The state of the check in Dagster's books."""
        key = dg.AssetCheckKey(self.key, CHECK)
        [record] = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return record.status.value


def test_a_flow_that_is_killed_turns_the_asset_red_and_one_that_comes_back_turns_it_green(deployment):
    observer = Observer(deployment)
    assert observer.tick(after_s=-90) == (
        [(True, "no stream has run yet")],
        [{"lag": 0, "shards": 1, "silent_shards": 1}],
    )

    with deployment.process("flow") as flow:
        deployment.publish(rows(300, seed=3))
        deployment.wait(lambda: read_ready(deployment.client, deployment.env), flow)
        deployment.wait_until_caught_up(flow)
        said, [seen] = observer.tick(at_us=deployment.clock.now_us())
        assert said == []
        assert seen["lag"] == seen["silent_shards"] == 0
        assert seen["throughput"] > 300 / 120
        assert {"watermark", "heartbeat", "run", "shards"} <= set(seen)

        flow.send_signal(signal.SIGKILL)
        flow.wait(PATIENCE_S)
    died = deployment.clock.now_us()
    assert observer.tick(at_us=died, after_s=10) == ([], [])
    said, [seen] = observer.tick(at_us=died, after_s=10 + INTERVAL_S + 1)
    assert [passed for passed, _ in said] == [False]
    assert "no heartbeat for 2" in said[0][1]
    assert observer.newest() == "FAILED"

    with deployment.process("flow") as flow:
        deployment.wait(lambda: _beats_since(deployment, died), flow)
        said, _ = observer.tick(at_us=deployment.clock.now_us())
        assert said == [(True, "alive, 0 records behind")]
    assert observer.newest() == "SUCCEEDED"


def _beats_since(deployment, time_us):
    return any(record.beat_us > time_us for record in read_ready(deployment.client, deployment.env).values())


def vouch(deployment, now_us, *, read=(0, 0, 0, 0), unread_us=None, shard=0, generation="g"):
    """What a shard writes with every tick."""
    deployment.client.set(generation_key(deployment.env), "g")
    deployment.client.set(owner_key(deployment.env), "1 g")
    record = ReadyRecord(
        field=str(shard), generation=generation, run=1, beat_us=now_us, oldest_unread_us=unread_us,
        positions={SOURCE: {p: deployment.log.begin(p) + n for p, n in enumerate(read)}},
    )  # fmt: skip
    write_ready(deployment.client, deployment.env, record)


def test_a_flow_that_beats_and_reads_nothing_is_stalled_and_one_that_catches_up_is_not(deployment):
    observer = Observer(deployment)
    deployment.publish(rows(40, seed=5))
    arrived = observer.clock.now_us()
    for after_s in (0, 10):
        vouch(deployment, arrived + after_s * SECOND_US, unread_us=arrived)
        observer.tick(at_us=arrived, after_s=after_s)
    assert observer.newest() == "SUCCEEDED"

    vouch(deployment, arrived + 21 * SECOND_US, unread_us=arrived)
    said, [seen] = observer.tick(at_us=arrived, after_s=21)
    assert said == [(False, "the stream is stalled: 40 records wait, the oldest for 21 s")]
    assert seen["lag"] == 40

    vouch(deployment, arrived + 31 * SECOND_US, unread_us=arrived, read=(1, 0, 0, 0))
    assert observer.tick(at_us=arrived, after_s=31)[0] == [(True, "alive, 39 records behind")]


def test_the_slowest_shard_and_the_silent_one_count(deployment):
    deployment.publish(rows(40, seed=5))
    now_us = deployment.clock.now_us()
    write_shards(deployment.client, deployment.env, 2)
    counts = [deployment.log.end(p) - deployment.log.begin(p) for p in range(4)]
    vouch(deployment, now_us, read=counts)
    vouch(deployment, now_us - 5 * SECOND_US, shard=1, unread_us=now_us - 7 * SECOND_US, read=(0, *counts[1:]))

    found = stream_progress(read_vouchers(deployment.client, deployment.env), deployment.log, SOURCE)
    assert (found.beat_us, found.watermark_us) == (now_us - 5 * SECOND_US, now_us - 7 * SECOND_US)
    assert found.lag == counts[0] > 0

    withdraw_shards(deployment.client, deployment.env)
    vouch(deployment, now_us, shard=1, generation="another")
    found = stream_progress(read_vouchers(deployment.client, deployment.env), deployment.log, SOURCE)
    assert (found.silent, found.watermark_us, found.lag) == ((0, 1), None, 40)
    verdict = judge(found, now_us=now_us)
    assert (verdict.passed, verdict.said) == (
        False,
        "shards [0, 1] vouch for nothing: the stream is down, or catches up",
    )
    assert told_figures(verdict.figures)["figures"].value == {"silent_shards": 2}
    assert told_figures(verdict.figures)["limit"] == 0


def test_records_that_wait_for_a_flow_which_was_never_started_are_red_once_their_sla_is_over(deployment):
    observer = Observer(deployment)
    deployment.publish(rows(40, seed=5))
    begin_us, sla_s = observer.clock.now_us(), sla_of(registry.source(SOURCE), registry)
    told = [observer.tick(at_us=begin_us, after_s=after_s)[0] for after_s in (0, sla_s - 1, sla_s + 1)]
    found = stream_progress(read_vouchers(deployment.client, deployment.env), deployment.log, SOURCE)
    by_hand = judge(found, now_us=found.waiting_us + 3600 * SECOND_US, sla_s=sla_s)

    said = f"no stream has run yet: 40 records wait, the oldest for {sla_s + 1:.0f} s"
    assert [each for reported in told for each in reported][-1] == (False, said)
    assert [passed for reported in told for passed, _ in reported].count(False) == 1
    assert (by_hand.passed, by_hand.figures[0].value, by_hand.figures[0].limit) == (False, 3600, sla_s)

    another = Observer(deployment)  # a log that is older than the deployment
    assert another.tick(after_s=3600)[0] == [(True, "no stream has run yet")]


def test_a_store_that_was_emptied_does_not_make_a_dead_stream_one_that_never_was(deployment):
    observer = Observer(deployment)
    vouch(deployment, observer.clock.now_us())
    observer.tick()
    for key in deployment.client.scan_iter(f"*:{deployment.env}*"):
        deployment.client.delete(key)

    assert [passed for passed, _ in observer.tick(after_s=10)[0]] == [False]
    observer.tick(after_s=10)
    assert observer.newest() == "FAILED"


def test_a_redis_that_is_away_is_red_and_ends_no_tick(deployment):
    observer = Observer(deployment, url=f"redis://127.0.0.1:{free_port()}/0")

    [(passed, description)], _ = observer.tick()

    assert not passed
    assert "cannot be seen" in description


def test_looks_are_reported_once_a_minute_and_changes_at_once(deployment):
    observer = Observer(deployment)
    reported = [[len(part) for part in _alive(observer, deployment, after_s=10)] for _ in range(31)]

    assert sum(said for said, _ in reported) == 2  # at first, and after five minutes
    assert sum(seen for _, seen in reported) == 6


def test_throughput_is_what_was_read_since_the_last_look(deployment):
    observer = Observer(deployment)
    _alive(observer, deployment, after_s=0)
    deployment.publish(rows(40, seed=5))
    read = [deployment.log.end(p) - deployment.log.begin(p) for p in range(4)]

    _, [seen] = _alive(observer, deployment, after_s=80, read=read)
    assert seen["throughput"] == 0.5


def _alive(observer, deployment, *, after_s, **progress):
    vouch(deployment, observer.clock.now_us() + after_s * SECOND_US, **progress)
    return observer.tick(after_s=after_s)


def test_a_replay_that_runs_fast_is_judged_by_real_seconds(deployment):
    settings = Settings(home=deployment.home, redis_url=deployment.url, environment=deployment.env)
    clock = ReplayClock(origin_us=deployment.clock.now_us(), started_us=0, speed=60.0)
    vouch(deployment, clock.now_us() - 600 * SECOND_US)  # ten seconds ago
    watch = Watch(registry, settings, clock=clock)
    try:
        events, _ = watch.look(None)
    finally:
        watch.close()

    assert [event.passed for event in events if isinstance(event, dg.AssetCheckEvaluation)] == [True]


def test_the_check_can_be_evaluated_by_hand(deployment):
    observer = Observer(deployment)
    vouch(deployment, observer.clock.now_us() - 30 * SECOND_US)
    job = observer.definitions.resolve_implicit_global_asset_job_def()
    wanted = frozenset([dg.AssetCheckKey(observer.key, CHECK)])
    with quiet():
        result = job.get_subset(asset_selection=frozenset(), asset_check_selection=wanted).execute_in_process(
            instance=observer.instance
        )

    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.description) == (False, "the stream is down: no heartbeat for 30 s")
    assert evaluation.metadata["figures"].value["heartbeat_age_s"] == pytest.approx(30, abs=1)
