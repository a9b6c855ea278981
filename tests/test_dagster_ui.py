"""The real thing: webserver and daemon, the UI's own mutations over GraphQL, a run killed and its partitions run again."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import httpx
import pytest
from feature_store_deploy.assets.instance import prepare_dagster_home, workspace_file
from feature_store_deploy.stack import healthy

from feature_store.embedded import free_port
from feature_store.settings import Settings
from feature_store.store import FeatureStore

# A run takes half of the days. From the snowstorm on there are enough cancellations.
START, END, DAYS_PER_RUN = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 3, 14, tzinfo=UTC), 17
DAYS = [str(day) for day in dg.DailyPartitionsDefinition("2013-02-08", end_date="2013-03-14").get_partition_keys()]
SOURCES = ("departures", "cancellations")
VIEWS = ("airport_departures", "aircraft_departures", "airport_cancellations")
KEYS = [["dev", "events", source] for source in SOURCES] + [["dev", "tiles", view] for view in VIEWS]
PATIENCE_S = 240

LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
AGAIN = """mutation($params: ReexecutionParams!) { reexecutePartitionBackfill(reexecutionParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATE = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
    ... on PartitionBackfill { status numPartitions runs(limit: 50) { runId status } } } }"""
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
PAGE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    description groupName owners { ... on TeamAssetOwner { team } } opVersion
    assetMaterializations(limit: 1) { partition metadataEntries { label } } } } }"""


class Dagster:
    """A webserver and a daemon over one home, as `make up` starts them."""

    def __init__(self, home, url):
        self.home, self.port = home, free_port()
        self.directory = prepare_dagster_home(Settings(home=home))
        self.environment = os.environ | {
            "DAGSTER_HOME": str(self.directory),
            "FEATURE_STORE_HOME": str(home),
            "FEATURE_STORE_BACKFILL_DAYS": str(DAYS_PER_RUN),
            "FEATURE_STORE_REDIS_URL": url,
            "PYTHONWARNINGS": "ignore",
        }
        self._log = (home / "dagster.log").open("wb")
        port = str(self.port)
        self._processes = [self._start("dagster-webserver", "-h", "127.0.0.1", "-p", port)]
        self.wait_for(self._answers, "the webserver")

    def start_daemon(self):
        self._processes.append(self._start("dagster-daemon", "run"))

    def _start(self, program, *arguments):
        command = [str(Path(sys.executable).with_name(program)), *arguments, "-w", str(workspace_file())]
        return subprocess.Popen(command, cwd=self.home, env=self.environment, stdout=self._log, stderr=self._log)

    def _answers(self):
        try:
            entries = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except httpx.TransportError:
            return False
        return all(entry["loadStatus"] == "LOADED" for entry in entries)

    def ask(self, query, **variables):
        reply = httpx.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in reply, reply
        return reply["data"]

    def wait_for(self, condition, what, every_s=1.0):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            dead = [process.args for process in self._processes if process.poll() is not None]
            assert not dead, f"{dead} ended; see {self._log.name}"
            time.sleep(every_s)
        pytest.fail(f"{what}: not within {PATIENCE_S} s; see {self._log.name}")

    def stop(self):
        for process in reversed(self._processes):
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            process.wait(PATIENCE_S)
        self._log.close()

    def backfill(self, backfill_id):
        return self.ask(STATE, id=backfill_id)["partitionBackfillOrError"]

    def is_over(self, backfill_id):
        state = self.backfill(backfill_id)
        return state if state["status"] not in ("REQUESTED", "CANCELING") else None

    def runs_are_over(self, backfill_id):
        runs = self.backfill(backfill_id)["runs"]
        return runs if runs and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs) else None


@pytest.fixture
def dagster(tmp_path, flights_home, valkey):
    (tmp_path / "flights").symlink_to(flights_home / "flights")
    running = Dagster(tmp_path, valkey.url)
    yield running
    running.stop()


def worker_of_a_run_that_works(instance):
    """The process of a run that has begun its steps: (run id, pid)."""
    for run in instance.get_runs():
        for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START):
            return run.run_id, event.dagster_event.pid
    return None


def content(store, table):
    with store.lake.cursor() as cursor:
        columns = store.lake.columns(table)
        # A list of different values is a set: its order means nothing.
        listed = ", ".join(f'list_sort("{n}")' if kind.endswith("[]") else f'"{n}"' for n, kind in columns.items())
        return cursor.execute(f"SELECT {listed} FROM {store.lake.table_sql(table)} ORDER BY ALL").fetchall()


def tables():
    return [f"events_{source}_loaded" for source in SOURCES] + [f"tiles_{view}_v1" for view in VIEWS]


@pytest.mark.timeout(600)
def test_a_backfill_from_the_ui_survives_a_killed_run_and_fills_the_lake_as_a_clean_load_does(
    dagster, tmp_path, monkeypatch
):
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))  # where the flights are
    assert healthy.webserver(Settings(ui_port=dagster.port)) is None
    params = {"partitionNames": DAYS, "assetSelection": [{"path": key} for key in KEYS], "title": "five weeks"}
    launched = dagster.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    first = launched["backfillId"]
    assert dagster.backfill(first)["numPartitions"] == 2 * DAYS_PER_RUN

    dagster.start_daemon()
    with dg.DagsterInstance.from_config(str(dagster.directory)) as instance:
        killed, pid = dagster.wait_for(lambda: worker_of_a_run_that_works(instance), "a run", every_s=0.1)
    os.kill(pid, signal.SIGKILL)

    over = dagster.wait_for(lambda: dagster.is_over(first), "the first backfill")
    assert over["status"] == "COMPLETED_FAILED"
    assert sorted((run["runId"] == killed, run["status"]) for run in over["runs"]) == [
        (False, "SUCCESS"), (True, "FAILURE"),
    ]  # fmt: skip

    again = dagster.ask(AGAIN, params={"parentRunId": first, "strategy": "FROM_FAILURE"})["reexecutePartitionBackfill"]
    assert again["__typename"] == "LaunchBackfillSuccess", again
    done = dagster.wait_for(lambda: dagster.runs_are_over(again["backfillId"]), "the second backfill")
    assert [run["status"] for run in done] == ["SUCCESS"]

    with (
        FeatureStore(settings=Settings(home=tmp_path)) as filled,
        FeatureStore(settings=Settings(home=tmp_path, environment="clean")) as clean,
    ):
        for source in SOURCES:
            clean.load(source, start=START, end=END)
        for view in VIEWS:
            clean.materialize(view, start=START, end=END)
        for table in tables():
            expected = content(clean, table)
            assert len(expected) > 500
            assert content(filled, table) == expected, table
    assert_page_tells(dagster, ["dev", "tiles", "airport_departures"])


def assert_page_tells(dagster, path):
    page = dagster.ask(PAGE, key={"path": path})["assetNodeOrError"]
    assert page["owners"] == [{"team": "network-ops"}]
    assert page["groupName"] == "airport"
    assert "How late an airport is running now" in page["description"]
    labels = {entry["label"] for entry in page["assetMaterializations"][0]["metadataEntries"]}
    assert {"dagster/row_count", "rows_written", "snapshot_id", "preview"} <= labels
