"""The whole way: a schedule ticks, a bad day turns its check red, the alert arrives; a backfill by the UI's mutation mends it.

Dagster's own scheduler, sensor and backfill loops, its books on disk and the UI's GraphQL, all in this process.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import alerts_world
import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time, instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster_graphql.schema import create_schema
from dagster_world import Deployment, day, midnight, quiet, ride
from webhook_receiver import receiving

from feature_store.settings import Settings
from feature_store.time_rule import to_us

# Dagster warns of itself where it loads definitions in the process that asks.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Property .ScheduleDefinition.environment_vars. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:Function `AssetSelection:DeprecationWarning"),
]

LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
CHECK = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } } }"""
HERE = {
    "run_launcher": {"module": "alerts_world", "class": "InThread"},
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}
"""Runs are executed at once, in this process."""


class Daemon:
    """Turns the wheels of Dagster's daemon by hand, at times that a test names."""

    def __init__(self, context, *, start):
        self.context, self.now, self._times = context, start, {}
        self._log = logging.getLogger("daemon")

    def pass_time(self, seconds):
        """Let some time pass, then do what the daemon does all the time."""
        self.now += timedelta(seconds=seconds)
        with freeze_time(self.now), quiet():
            errors = [
                *launch_scheduled_runs(self.context, self._log, self.now, self._times),
                *execute_backfill_iteration(self.context, self._log),
                *execute_sensor_iteration(self.context, self._log, None, None),
            ]
        assert not any(isinstance(each, tuple) for each in errors), errors

    def ask(self, query, **variables):
        """What the UI asks."""
        context = self.context.create_request_context()
        done = asyncio.run(create_schema().execute_async(query, variable_values=variables, context_value=context))
        assert done.errors is None, done.errors
        return done.data


@pytest.fixture
def webhook():
    with receiving() as hook:
        yield hook


@pytest.fixture
def deployment(tmp_path, valkey, environment, webhook):
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment, alert_webhook_url=webhook.url)
    made = Deployment(
        tmp_path, environment=environment, settings=settings, log=False, rows=[ride(n, at=n * 0.25) for n in range(16)]
    )
    made.clock.move_to(to_us(midnight(2)) + 90_000_000)
    with made.store() as store:
        store.apply()
    return made


@pytest.fixture
def daemon(tmp_path, deployment, monkeypatch):
    monkeypatch.setattr(alerts_world, "DEPLOYMENT", deployment)
    here = InProcessWorkspaceLoadTarget(
        InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="alerts_world", attribute="definitions"))
    )
    with (
        instance_for_test(overrides=HERE, temp_dir=str(tmp_path)) as instance,
        WorkspaceProcessContext(instance, here) as context,
    ):
        yield Daemon(context, start=datetime(2024, 3, 3, 0, 0, 30, tzinfo=UTC))


def state_of(daemon, key, check):
    """As the UI shows it."""
    found = daemon.ask(CHECK, key={"path": list(key.path)})["assetNodeOrError"]["assetChecksOrError"]["checks"]
    [shown] = [each["executionForLatestMaterialization"] for each in found if each["name"] == check]
    return shown and shown["status"]


def test_a_bad_day_is_told_once_and_its_recovery_when_a_backfill_has_mended_it(deployment, daemon, webhook):
    events, rows = deployment.key("events", "rides"), deployment.key("rows", "daily")
    deployment.rows.append(ride(99, at=1.5, fare=-1.0))
    daemon.pass_time(0)
    assert webhook.received == []

    daemon.pass_time(60)  # 00:01 is over: the schedules of both views tick for the day before
    daemon.pass_time(30)
    assert state_of(daemon, events, "schema") == "FAILED"
    runs = daemon.context.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": day(1)}))
    assert {run.status for run in runs} == {dg.DagsterRunStatus.FAILURE}
    assert webhook.told == [("failed", "schema")]
    failed = webhook.received[0]
    assert (failed["asset"], failed["partition"]) == (events.to_user_string(), day(1))
    assert (failed["owner"], failed["feature_group"]) == ("team:taxis", "hourly, daily")

    deployment.rows = [row for row in deployment.rows if row["fare"] >= 0]
    params = {
        "partitionNames": [day(1)],
        "assetSelection": [{"path": list(key.path)} for key in (events, rows)],
        "title": "mended",
    }
    launched = daemon.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    for _ in range(3):
        daemon.pass_time(30)

    assert state_of(daemon, events, "schema") == "SUCCEEDED"
    assert webhook.told == [("failed", "schema"), ("recovered", "schema")]
    assert webhook.received[1]["key"] == failed["key"]
    with deployment.store() as store, store.lake.cursor() as cursor:
        table = store.lake.table_sql("rows_daily_v1")
        assert cursor.execute(f"SELECT count(*) FROM {table}").fetchall() != [(0,)]
