"""The exporter tells Prometheus what stands in Dagster's books and in Redis, and invents nothing."""

import math
import os
import signal
import socket
import subprocess
import sys
import time

import dagster as dg
import httpx
import pytest
from dagster_world import Deployment, day, ride
from feature_store_deploy.checks.alerts.state import State, Waiting, save
from feature_store_deploy.stack.exporter.__main__ import listen
from feature_store_deploy.stack.exporter.alerts import alert_families
from feature_store_deploy.stack.exporter.books import Books, number
from feature_store_deploy.stack.exporter.cached import Cached
from feature_store_deploy.stack.exporter.declared import declared_families
from feature_store_deploy.stack.exporter.stream import Stream
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_server import CLIENT
from redis.exceptions import RedisError
from stream_world import NOW_US, SOURCE, World, registry, rows

from feature_store.embedded import HOST, free_port
from feature_store.errors import SettingsError
from feature_store.settings import PREFIX, Settings
from feature_store.time_rule import SECOND_US


def samples(families):
    """Series -> its value, as Prometheus would show them."""
    return {
        f"{each.name}{{{','.join(each.labels.values())}}}": each.value for family in families for each in family.samples
    }


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path, rows=[ride(n, at=n * 0.25) for n in range(8)])


def test_materializations_runs_and_checks_of_the_books_are_told(deployment):
    books = Books(deployment.definitions, deployment.instance)
    before = samples(books.families())
    began = time.time()
    deployment.run("events/rides", first=day(0), last=day(1))

    told = samples(books.families())

    assert before == {
        f"dagster_runs{{{status}}}": 0 for status in ("QUEUED", "STARTED", "SUCCESS", "FAILURE", "CANCELED")
    }
    assert told["materialization_rows{events/rides}"] == 8
    assert 0 < told["materialization_seconds{events/rides}"] < time.time() - began
    assert began < told["materialization_timestamp_seconds{events/rides}"] < time.time()
    assert (
        told["feature_check_passed{events/rides,schema,WARN,team:taxis}"] == 1
    )  # a row that is refused makes it an ERROR
    assert began < told["feature_check_timestamp_seconds{events/rides,schema}"] < time.time()
    assert told["dagster_runs{SUCCESS}"] == 1
    assert not [name for name in told if "rides,drift" in name]  # planned, and left out: these days are of the past
    assert not [name for name in told if "feature_missing_rate" in name]


def check(asset, name):
    @dg.asset_check(asset=dg.AssetKey(["dev", *asset.split("/")]), name=name)
    def never():
        raise NotImplementedError

    return never


NAMED = [
    ("online/hourly", "missing_rate"), ("online/hourly", "default_value_rate"), ("online/hourly", "drift"),
    ("events/rides", "drift"), ("served/pricing", "training_serving_skew_score"),
]  # fmt: skip


@pytest.fixture
def measured():
    """Books of checks with figures, and what notes an evaluation in them."""
    assets = [dg.AssetSpec(dg.AssetKey(["dev", *name.split("/")])) for name in {name for name, _ in NAMED}]
    definitions = dg.Definitions(assets=assets, asset_checks=[check(*each) for each in NAMED])
    with dg.DagsterInstance.ephemeral() as instance:

        def note(asset, name, *, passed=True, env="dev", **metadata):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey([env, *asset.split("/")]), check_name=name, passed=passed, metadata=metadata
                )
            )

        yield Books(definitions, instance), note


def test_figures_of_checks_have_the_names_that_were_promised(measured):
    books, note = measured
    note("online/hourly", "missing_rate", figures={"count_1h": 0.25, "mean_fare_1d": 0.0}, limits={"count_1h": 0.1})
    note("online/hourly", "default_value_rate", figures={"count_1h": 0.5})
    note("online/hourly", "drift", passed=False, figures={"count_1h": 0.75}, limits={"count_1h": 0.5})
    note("events/rides", "drift", figures={"fare": 0.125})
    note("served/pricing", "training_serving_skew_score", training_serving_skew_score=0.0)

    told = samples(books.families())

    assert told["feature_missing_rate{online/hourly,count_1h}"] == 0.25
    assert told["feature_missing_rate{online/hourly,mean_fare_1d}"] == 0
    assert told["feature_default_value_rate{online/hourly,count_1h}"] == 0.5
    assert told["feature_distribution_drift{online/hourly,count_1h}"] == 0.75
    assert told["feature_distribution_drift{events/rides,fare}"] == 0.125
    assert told["training_serving_skew_score{pricing}"] == 0
    assert told["feature_check_limit{online/hourly,missing_rate,count_1h}"] == 0.1
    assert told["feature_check_passed{online/hourly,drift,ERROR,nobody}"] == 0


def test_what_has_no_figure_is_left_out(measured):
    books, note = measured
    note("online/hourly", "missing_rate", figures={"count_1h": math.nan, "mean_fare_1d": None, "sum": 0.5})
    note("online/hourly", "drift")
    note("served/pricing", "training_serving_skew_score")

    told = samples(books.families())

    assert [name for name in told if name.startswith(("feature_missing", "feature_dist", "training"))] == [
        "feature_missing_rate{online/hourly,sum}"
    ]
    assert number(True) is None
    assert number(math.inf) is None


def test_series_are_of_declared_checks_alone(measured):
    books, note = measured
    note("online/hourly", "missing_rate", figures={"count_1h": 0.25})
    before = set(samples(books.families()))
    for other in range(5):
        note(f"online/other{other}", "missing_rate", figures={"count_1h": 0.5})
        note("online/hourly", f"other{other}", figures={"count_1h": 0.5})
        note("online/hourly", "missing_rate", env="prod", figures={"count_1h": 0.5})

    assert set(samples(books.families())) == before


def test_alerts_that_nobody_has_received_are_told_per_environment():
    with dg.DagsterInstance.ephemeral() as instance:
        unborn = samples(alert_families(instance, env="dev", posted=False))
        save(instance, "dev", State(waiting=[Waiting(message={}), Waiting(message={})], given_up=3, evaluated_s=9.5))

        assert unborn == samples(alert_families(instance, env="prod", posted=False)) == {}
        assert samples(alert_families(instance, env="dev", posted=False)) == {
            "feature_alerts_waiting{}": 2, "feature_alerts_given_up{}": 3
        }  # fmt: skip


def test_a_webhook_relies_on_a_sensor_and_one_that_never_ran_is_told_as_well():
    with dg.DagsterInstance.ephemeral() as instance:
        unborn = samples(alert_families(instance, env="dev", posted=True))
        save(instance, "dev", State(evaluated_s=9.5))

        assert unborn == {"feature_alerts_evaluated_timestamp_seconds{}": 0}
        told = samples(alert_families(instance, env="dev", posted=True))
        assert told["feature_alerts_evaluated_timestamp_seconds{}"] == 9.5


def test_the_newest_evaluation_counts(measured):
    books, note = measured
    note("online/hourly", "missing_rate", figures={"count_1h": 0.25})
    books.families()
    note("online/hourly", "missing_rate", figures={"count_1h": 0.5})

    assert samples(books.families())["feature_missing_rate{online/hourly,count_1h}"] == 0.5


def test_how_far_the_stream_has_come_is_seen_also_when_nobody_runs_it(valkey, tmp_path, environment):
    world = World(valkey.url, tmp_path, environment)
    stream = Stream(registry, world.client, env=environment, clock=world.clock)

    unborn = samples(stream.families())
    world.stream(shards=2).step()
    world.publish(rows(30))
    world.archive()
    world.publish(rows(12, seed=1))
    world.clock.move_to(NOW_US + 90 * SECOND_US)
    told = samples(stream.families())

    assert unborn == {"stream_shards{}": 1, "stream_shards_ready{}": 0}
    assert told["stream_shards{}"] == told["stream_shards_ready{}"] == 2
    assert told["stream_watermark_timestamp_seconds{}"] == NOW_US / 1e6
    assert told["stream_lag_seconds{}"] == 90
    assert told[f"stream_lag_records{{{SOURCE},flow}}"] == 42
    assert told[f"stream_lag_records{{{SOURCE},archiver}}"] == 12

    world.client.set(f"generation:{environment}", "another")  # the store was emptied: nobody vouches
    assert samples(stream.families()).keys() == {"stream_shards{}", "stream_shards_ready{}"} | {
        name for name in told if "archiver" in name
    }
    world.close()


def test_whose_each_served_view_is_is_told_for_alerts(deployment):
    told = samples(declared_families(deployment.registry, env="dev"))

    assert told == {
        "feature_view_info{hourly@1,online/hourly,team:taxis}": 1,
        "feature_view_info{daily@1,online/daily,ops@example.com}": 1,
    }


def test_a_part_that_is_away_is_said_to_be_and_the_others_are_told(caplog):
    def away():
        raise RedisError("Redis is away")

    def there():
        yield GaugeMetricFamily("there", "", value=1)

    found = [samples(Cached({"stream": away, "dagster": there}, every_s=0).collect()) for _ in range(1)]

    assert found == [{"exporter_part_up{stream}": 0, "exporter_part_up{dagster}": 1, "there{}": 1}]
    assert "no figures of stream: Redis is away" in caplog.text


def test_however_often_somebody_asks_the_books_are_read_every_few_seconds():
    asked = []

    def part():
        asked.append(1)
        return []

    counts = CollectorRegistry()
    counts.register(Cached({"dagster": part}, every_s=60))
    for _ in range(5):
        counts.get_sample_value("exporter_part_up", {"part": "dagster"})

    assert len(asked) == 1


def test_it_answers_as_a_process_until_it_is_told_to_end(valkey, tmp_path, environment):
    port = free_port()
    settings = {"HOME": tmp_path, "REDIS_URL": valkey.url, "ENVIRONMENT": environment, "METRICS_PORT": port,
                "DECLARATIONS": "stream_world:registry"}  # fmt: skip
    variables = {f"{PREFIX}{name}": str(value) for name, value in settings.items()}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "feature_store_deploy.stack.exporter"]
    with subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True) as exporter:
        try:
            deadline = time.monotonic() + 120
            while not (found := asked(f"http://{HOST}:{port}/metrics")):
                assert exporter.poll() is None, exporter.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            exporter.send_signal(signal.SIGTERM)
            assert exporter.wait(60) == 0
        finally:
            exporter.kill()

    assert [found[f"exporter_part_up{{{part}}}"] for part in ("declared", "dagster", "alerts", "stream")] == [1] * 4


def asked(url):
    """What it tells; nothing before it has looked at everything."""
    try:
        return samples(text_string_to_metric_families(CLIENT.get(url).text))
    except httpx.TransportError:
        return {}


def test_a_port_that_is_taken_is_named_with_its_setting():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"`metrics_port`: {port} of 127.0.0.1 cannot be had .*METRICS_PORT"):
            listen(Settings(metrics_port=port), CollectorRegistry())
