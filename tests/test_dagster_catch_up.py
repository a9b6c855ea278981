"""A daemon that was away: one mutation makes everything fresh; and a backfill that was killed goes on where it was."""

import json
import re
import time
from collections import Counter
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import catch_up_world as world
import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.test_utils import instance_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_jobs
from dagster_graphql.schema import create_schema
from dagster_world import day, midnight, quiet
from feature_store_deploy.assets.backfill import submit
from feature_store_deploy.assets.books import quicken_books
from feature_store_deploy.assets.driver import Driver
from feature_store_deploy.assets.resume import LAST, resume
from graphql import get_variable_values, parse, validate
from lake_rows import begun

from feature_store.errors import InputError
from feature_store.time_rule import HOUR_US, MINUTE_US, to_us

# Dagster warns of itself where it loads definitions, and resumes backfills, in the process that asks.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Property .ScheduleDefinition.environment_vars. is deprecated:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:Function `AssetSelection:DeprecationWarning"),
]

AWAY, BACK, END = 3, 6, 9
"""The days before AWAY were built; then the daemon is away until BACK. The days from there to END are a backfill's."""
DAYS_PER_RUN = 2
PATIENCE_S = 60
PAGE = (Path(__file__).parent.parent / "docs/dagster.md").read_text()
CALL = json.loads(re.search(r"^curl [^\n]*/graphql .*?<<'JSON'\n(.*?)^JSON$", PAGE, re.DOTALL | re.MULTILINE)[1])
"""What the page has one post; its mutation is the one that is tried here."""
HISTORY = ("events/trips", "tiles/hourly", "rows/daily")


class Deployment:
    """A home and an environment of its own, whose days before AWAY were built in time."""

    def __init__(self, home, env, url, variables):
        self.env = env
        home.mkdir()
        for name, value in {"HOME": begun(home, env), "ENVIRONMENT": env, "REDIS_URL": url}.items():
            variables.setenv(f"FEATURE_STORE_{name}", str(value))
        variables.setenv("FEATURE_STORE_BACKFILL_DAYS", str(DAYS_PER_RUN))
        world.CLOCK.move_to(to_us(midnight(AWAY)) + MINUTE_US)
        with world.opened() as store:
            store.apply()
            store.lake.ensure_source("rides", store.compiled.schemas["rides"])
            store.load("trips", start=midnight(0), end=midnight(AWAY))
            for number in range(AWAY):
                world.archive(store, number)
            for view in ("hourly", "daily"):
                store.materialize(view, start=midnight(0), end=midnight(AWAY))
            store.publish_view("daily")

    def live(self, first, end, *, when_over=lambda _: None):
        """Live through some days and the hour after them."""
        for number in range(first, end):
            with world.opened() as store:
                world.archive(store, number)
            world.CLOCK.move_to(to_us(midnight(number + 1)) + MINUTE_US)
            when_over(number)
        world.CLOCK.move_to(to_us(midnight(end)) + HOUR_US)

    def key(self, path):
        return dg.AssetKey([self.env, *path.split("/")])


@contextmanager
def dagster(home):
    """Dagster's books in a folder, and the definitions as the variables describe them."""
    here = InProcessWorkspaceLoadTarget(
        InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="catch_up_world", attribute="definitions"))
    )
    launcher = {"module": "catch_up_world", "class": "InProcess"}
    quicken_books()
    with (
        instance_for_test(overrides={"run_launcher": launcher}, temp_dir=str(home)) as instance,
        WorkspaceProcessContext(instance, here) as context,
    ):
        yield context


def mutate(context, assets):
    """Asks for a backfill as the UI does; returns its id."""
    done = create_schema().execute(
        CALL["query"],
        variable_values={"params": {"partitionsByAssets": assets}},
        context_value=context.create_request_context(),
    )
    assert done.errors is None
    launched = done.data["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def everything(deployment):
    """The days that were missed, of every asset with days, and the publication."""
    span = {"ranges": [{"start": day(AWAY), "end": day(BACK - 1)}]}
    listed = [{"assetKey": {"path": deployment.key(path).path}, "partitions": span} for path in HISTORY]
    return [*listed, {"assetKey": {"path": deployment.key("online/daily").path}, "partitions": None}]


def content():
    """What the lake holds, but for when and by which commit it was built; what a reader gets; which days are outdated."""
    with world.opened() as store, store.lake.cursor() as cursor:
        queries = {
            "events": store.lake.events_sql("trips"),
            "tiles": f"SELECT * FROM {store.lake.table_sql('tiles_hourly_v1')}",
            "rows": f"SELECT * EXCLUDE (row_version, _available_us) FROM ({store.lake.partitions.latest_sql('rows_daily_v1')})",
        }
        lake = {name: cursor.execute(f"FROM ({sql}) ORDER BY ALL").fetchall() for name, sql in queries.items()}
        vector = store.get_online_features(["daily:count_2d", "daily:fare_sum_1d"], {"city": "york"})
        outdated = {view: list(store.outdated_days(view)) for view in ("hourly", "daily")}
    return {"lake": lake, "read": (vector.values, vector.statuses), "outdated": outdated}


def drive(context, backfill_id, *, until):
    """Do the daemon's part."""
    deadline = time.monotonic() + PATIENCE_S
    with Driver(context, backfill_id, concurrency=1) as driver:
        while not until():
            assert time.monotonic() < deadline, "the backfill does not end"
            driver.step()
            time.sleep(0.02)


def finish(context, backfill_id):
    def status():
        return context.instance.get_backfill(backfill_id).status

    drive(context, backfill_id, until=lambda: status() in BULK_ACTION_TERMINAL_STATUSES)
    return status()


def runs_of(context, backfill_id):
    return context.instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id}), ascending=True)


def schedules(deployment, instance):
    """What the daemon does when a day is over: the jobs of the views' schedules."""
    definitions = world.definitions()
    repository = definitions.get_repository_def()

    def run(number):
        at = midnight(number + 1) + timedelta(minutes=1)
        for path in ("tiles/hourly", "rows/daily"):
            schedule = repository.get_schedule_def("__".join([*deployment.key(path).path, "schedule"]))
            with dg.build_schedule_context(
                scheduled_execution_time=at, instance=instance, repository_def=repository
            ) as context:
                (request,) = schedule.evaluate_tick(context).run_requests
            assert request.partition_key == day(number)
            job = definitions.resolve_job_def(schedule.job_name)
            with quiet():
                done = job.execute_in_process(
                    instance=instance, partition_key=request.partition_key, asset_selection=request.asset_selection
                )
                assert done.success

    return run


def drive_until_asked(context, backfill_id):
    """Until the second run is there; it is not launched."""
    for _ in range(10):
        if len(runs_of(context, backfill_id)) > 1:
            return
        list(execute_backfill_jobs(context, None, [context.instance.get_backfill(backfill_id)]))
    pytest.fail("there is no second run")


def test_a_daemon_that_was_away_and_a_backfill_that_was_killed_leave_no_trace(
    tmp_path, valkey, environment, monkeypatch
):
    # days    0 -- built in time --> 3 -- no daemon --> 6 one mutation; -- no daemon --> 9 a backfill that is killed
    deployment = Deployment(tmp_path / "away", environment, valkey.url, monkeypatch)
    deployment.live(AWAY, BACK)
    with dagster(tmp_path) as context, quiet():
        check_that_one_mutation_makes_everything_fresh(context, deployment)
        after = content()
        deployment.live(BACK, END)
        check_that_what_was_killed_is_resumed(context, deployment)

    with dg.DagsterInstance.ephemeral() as instance:
        twin = Deployment(tmp_path / "twin", f"{environment}_twin", valkey.url, monkeypatch)
        twin.live(AWAY, BACK, when_over=schedules(twin, instance))
        uninterrupted = content()
    assert [len(rows) for rows in uninterrupted["lake"].values()] == [36, 72, 6]
    assert after == uninterrupted
    assert after["outdated"] == {"hourly": [], "daily": []}


def check_that_one_mutation_makes_everything_fresh(context, deployment):
    before, missed = content(), [date.fromisoformat(day(n)) for n in range(AWAY, BACK)]
    assert before["outdated"] == {"hourly": missed, "daily": missed}

    backfill_id = mutate(context, everything(deployment))

    assert finish(context, backfill_id) is BulkActionStatus.COMPLETED_SUCCESS
    # Events and tiles of two days and of one, rows once the days are there that they look back to, the publication.
    assert [len(run.asset_selection) for run in runs_of(context, backfill_id)] == [2, 2, 1, 1, 1]
    assert content()["read"] != before["read"]


def check_that_what_was_killed_is_resumed(context, deployment):
    keys = [deployment.key(path) for path in HISTORY]
    killed = submit(context, first=date.fromisoformat(day(BACK)), last=date.fromisoformat(day(END - 1)), assets=keys)
    # The first run has done its days. The second is at work when everything is killed: nobody marks it as failed.
    drive(context, killed, until=lambda: any(run.is_finished for run in runs_of(context, killed)))
    drive_until_asked(context, killed)
    at_work = runs_of(context, killed)[-1]
    event = DagsterEvent(DagsterEventType.RUN_START.value, at_work.job_name)
    context.instance.report_dagster_event(event, at_work.run_id)

    resumed = resume(context, LAST)

    assert finish(context, resumed) is BulkActionStatus.COMPLETED_SUCCESS
    assert context.instance.get_backfill(killed).status is BulkActionStatus.CANCELED
    assert context.instance.get_run_by_id(at_work.run_id).status is dg.DagsterRunStatus.FAILURE
    done = Counter(
        (entry.dagster_event.asset_key, entry.dagster_event.partition)
        for backfill_id in (killed, resumed)
        for run in runs_of(context, backfill_id)
        for entry in context.instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    )
    assert set(done) == {(key, day(number)) for key in keys for number in range(BACK, END)}
    assert set(done.values()) == {1}
    assert content()["outdated"] == {"hourly": [], "daily": []}
    for name, message in (
        (LAST, "no backfill is unfinished"),
        (killed, f"backfill {killed} was resumed before, as {resumed}"),
        (resumed, f"backfill {resumed} has built all of its partitions"),
        ("nobody", "there is no backfill nobody"),
    ):
        with pytest.raises(InputError, match=message):
            resume(context, name)


def test_the_call_that_the_page_shows_is_one_that_dagster_takes():
    schema, document = create_schema().graphql_schema, parse(CALL["query"])
    assert validate(schema, document) == []

    given = get_variable_values(schema, document.definitions[0].variable_definitions, CALL["variables"])

    assert not isinstance(given, list), given  # of errors
