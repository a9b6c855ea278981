"""The asset `lake/maintenance`: fewer files, forgotten snapshots, and what was pinned reads as before."""

import pytest
from dagster_world import Deployment, live, midnight, ride, told

from feature_store.clock import SystemClock
from feature_store.errors import LakeError
from feature_store.log.protocol import Record
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US

ASSET = "lake/maintenance"


@pytest.fixture
def deployment(tmp_path):
    """Two days that were loaded three times, a month before the clock of the deployment."""
    made = Deployment(tmp_path, rows=[ride(n, at=n * 0.25) for n in range(8)])
    made.clock.move_to(SystemClock().now_us() + 31 * DAY_US)
    with made.store() as store:
        for _ in range(3):
            store.load("rides", start=midnight(0), end=midnight(2))
            made.rows.pop()
    return made


def events(store: FeatureStore, snapshot=None):
    with store.lake.cursor() as cursor:
        text = store.lake.events_sql("rides", snapshot=snapshot)
        return cursor.execute(f"SELECT * FROM ({text}) ORDER BY ALL").fetchall()


def config(**options):
    return {"ops": {"dev__lake__maintenance": {"config": options}}}


def test_files_are_merged_and_snapshots_forgotten_except_pinned_ones(deployment):
    with deployment.store() as store:
        first = store.lake.snapshot()
        store.load("rides", start=midnight(0), end=midnight(1))
        unpinned = store.lake.snapshot()
        for number in range(3):
            rows = live(ride(90 + number, at=0.1 * number), offset=number)
            store.lake.append_live("rides", rows, owner="o", start={0: number}, end={0: number + 1})
        store.lake.pin(first, reason="training set of a test")
        before = events(store), events(store, first)
        old = events(store, unpinned)
        snapshots = store.lake.extent().snapshots

    dry = told(deployment.run(ASSET, run_config=config(dry_run=True)), ASSET)
    with deployment.store() as store:
        assert (store.lake.extent().snapshots, events(store), events(store, unpinned)) == (snapshots, before[0], old)
    metadata = told(deployment.run(ASSET), ASSET)

    assert metadata["merged_away"] == dry["merged_away"]
    assert metadata["snapshots_forgotten"] > dry["snapshots_forgotten"] > 0  # those of the merging, by this clock
    assert metadata["files_after"] < metadata["files_before"]
    assert metadata["merged_away"]["events_rides_live"] == 2
    assert metadata["snapshots_forgotten"] > 0
    assert metadata["snapshots_kept"] < snapshots
    assert metadata["kept_because"] == "1 pinned; the newest; those of the last 30 days"
    assert f"| {first} | training set of a test |" in metadata["pinned"]
    with deployment.store() as store:
        assert (events(store), events(store, first)) == before
        with pytest.raises(LakeError, match=f"cannot be read at snapshot {unpinned}"):
            events(store, unpinned)


def test_a_snapshot_stays_for_as_many_days_as_are_asked_for(deployment):
    metadata = told(deployment.run(ASSET, run_config=config(days=32)), ASSET)

    assert metadata["snapshots_forgotten"] == 0
    assert metadata["kept_because"] == "0 pinned; the newest; those of the last 32 days"
    assert metadata["pinned"] == "none"


def test_where_another_environment_lives_nothing_is_forgotten_until_it_is_named(deployment, tmp_path):
    other = Deployment(tmp_path, environment="staging")
    with other.store() as store:
        store.load("rides", start=midnight(0), end=midnight(1))

    refused = told(deployment.run(ASSET), ASSET)
    named = told(deployment.run(ASSET, run_config=config(environments=["staging"])), ASSET)

    assert refused["snapshots_forgotten"] == 0
    assert "the lake also holds the environment 'staging'" in refused["kept_because"]
    assert named["snapshots_forgotten"] > 0


def test_what_it_would_do_elsewhere_is_an_asset_for_each_task(valkey, tmp_path, environment):
    deployment = Deployment(tmp_path, url=valkey.url, environment=environment, rows=[ride(1, at=0.5)])
    with deployment.store() as store:
        store.apply()
        store.log("rides").publish([Record("r1", b"{}", 0)])

    names = [f"housekeeping/{name}" for name in ("retired", "keys", "events", "logs", "costs")]
    result = deployment.run(*names)

    found = {name.partition("/")[2]: told(result, name) for name in names}
    assert found["logs"] == {
        "dry_run": False,
        "records": 0,
        "examined": 0,
        "removed": "none",
        "kept": "| what | why |\n| --- | --- |\n| log rides | no archiver reads it (`feature-store stream --archive`) |",
    }
    assert found["events"]["days"] == 0
    assert (found["costs"]["features"], found["costs"]["unused"]) == (4, 0)
    assert found["retired"]["views"] == found["keys"]["values"] == 0
    assert {
        spec.group_name for spec in deployment.definitions.resolve_all_asset_specs() if "housekeeping" in spec.key.path
    } == {"housekeeping"}


def test_its_schedule_runs_it_once_a_day(deployment):
    repository = deployment.definitions.get_repository_def()
    schedule = repository.get_schedule_def("dev__lake__maintenance__schedule")

    assert (schedule.cron_schedule, schedule.execution_timezone) == ("40 3 * * *", "UTC")
    assert repository.get_job("dev__lake__maintenance__job").asset_layer.selected_asset_keys == {
        deployment.key("lake", "maintenance")
    }
