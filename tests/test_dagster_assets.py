"""Assets in this process: a range of days in one run, refused rows, publishing, training sets."""

import json
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster_world import Deployment, day, evaluations, midnight, quiet, ride, told

from feature_store.online.keys import statistics_key
from feature_store.reader import Status

LAKE = ("events/rides", "tiles/hourly", "rows/daily")


@pytest.fixture
def deployment(tmp_path, valkey, environment):
    return Deployment(
        tmp_path, url=valkey.url, environment=environment, rows=[ride(n, at=n * 0.25, fare=float(n)) for n in range(20)]
    )


def count(store, table):
    with store.lake.cursor() as cursor:
        return cursor.execute(f"SELECT count(*) FROM {store.lake.table_sql(table)}").fetchone()[0]


def test_a_run_materializes_all_its_days_and_says_what_it_wrote(deployment):
    result = deployment.run(*LAKE, first=day(0), last=day(4))

    assert result.success
    assert len(result.get_asset_materialization_events()) == 3 * 5
    events = told(result, "events/rides")
    assert events["rows_written"] == events["dagster/row_count"] == 20
    assert events["rejected"] == events["duplicates"] == 0
    assert events["days"] == "2024-03-01 to 2024-03-05"
    assert "| r0 | york |" in events["preview"]
    assert events["bytes_written"] > 1000
    assert 0 < events["seconds"] < 60
    tiles, rows = told(result, "tiles/hourly"), told(result, "rows/daily")
    assert events["snapshot_id"] < tiles["snapshot_id"]
    assert rows["rows_written"] == 5
    assert tiles["dagster/column_schema"].columns[0].name == "_key"
    with deployment.store() as store:
        assert count(store, "events_rides_loaded") == 20
        assert count(store, "rows_daily_v1") == 5


def test_a_day_that_is_run_again_replaces_itself_alone(deployment):
    deployment.run(*LAKE, first=day(0), last=day(4))
    deployment.rows = [row | {"fare": 1.0} for row in deployment.rows[:-1]]

    result = deployment.run("events/rides", first=day(2))

    assert told(result, "events/rides")["rows_written"] == 4
    with deployment.store() as store, store.lake.cursor() as cursor:
        fares = cursor.execute(f"SELECT fare FROM ({store.lake.events_sql('rides')}) ORDER BY _event_us").fetchall()
    assert [fare for (fare,) in fares] == [*map(float, range(8)), 1.0, 1.0, 1.0, 1.0, *map(float, range(12, 20))]


def test_days_without_events_are_materialized_as_empty(deployment):
    result = deployment.run(*LAKE, first=day(8), last=day(9))

    assert result.success
    assert told(result, "events/rides")["rows_written"] == 0
    assert told(result, "events/rides")["preview"] == "no rows"


def test_refused_rows_fail_the_schema_check_and_hold_back_what_is_built_from_them(deployment):
    deployment.rows += [ride(98, at=1.5, fare=-4.0), ride(99, at=1.6, fare=-5.0)]

    result = deployment.run("events/rides", "tiles/hourly", first=day(0), last=day(4))

    schema = evaluations(result)["events/rides:schema"]
    assert not schema.passed
    assert schema.description == "2 rows were refused"
    assert schema.metadata["rejected"].value == 2
    assert "r98" in schema.metadata["rejected_rows"].value
    assert "greater_than_or_equal_to(0)" in schema.metadata["rejected_rows"].value
    assert {event.asset_key.path[1] for event in result.get_asset_materialization_events()} == {"events"}


def test_rows_that_contradict_an_event_are_a_warning_that_nothing_waits_for(deployment):
    deployment.rows += [deployment.rows[3] | {"fare": 99.0}, deployment.rows[4] | {"fare": 99.0}]

    result = deployment.run("events/rides", "tiles/hourly", first=day(0), last=day(4))

    schema = evaluations(result)["events/rides:schema"]
    assert (schema.passed, schema.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert schema.description == "2 rows contradict an event, which stands as it first came"
    assert {event.asset_key.path[1] for event in result.get_asset_materialization_events()} == {"events", "tiles"}


def test_the_schema_check_is_green_once_the_rows_are_mended(deployment):
    deployment.rows.append(ride(99, at=1.5, fare=-4.0))
    deployment.run("events/rides", first=day(1))
    deployment.rows.pop()

    result = deployment.run("events/rides", "tiles/hourly", first=day(1))

    assert result.success
    assert evaluations(result)["events/rides:schema"].passed


def test_a_backfill_of_the_past_checks_its_days_and_no_drift(deployment):
    result = deployment.run(*LAKE, first=day(0), last=day(4))

    assert result.success
    said = {"schema", "volume", "missing_rate", "range", "categories", "dead_letters"}
    assert set(evaluations(result)) == {f"events/rides:{name}" for name in said}


def test_published_rows_are_what_readers_get(deployment):
    deployment.clock.move_to(int(midnight(5).timestamp()) * 1_000_000 + 1)
    with deployment.store() as store:
        store.apply()
    deployment.run(*LAKE, first=day(0), last=day(4))

    result = deployment.run("online/daily")

    assert result.success
    assert told(result, "online/daily")["dagster/row_count"] == 1
    assert told(result, "online/daily")["age_seconds"] == 1e-6
    assert "york" in told(result, "online/daily")["preview"]
    with deployment.store() as store:
        found = store.get_online_features(["daily:count_2d", "daily:fare_sum_1d"], {"city": "york"})
    assert found.values == [8, 16.0 + 17 + 18 + 19]
    assert found.statuses == [Status.PRESENT, Status.PRESENT]


def test_the_job_of_a_batch_view_builds_and_publishes_in_one_run(deployment):
    deployment.clock.move_to(int(midnight(5).timestamp()) * 1_000_000 + 1)
    with deployment.store() as store:
        store.apply()
    deployment.run("events/rides", first=day(0), last=day(4))
    repository = deployment.definitions.get_repository_def()
    schedule = repository.get_schedule_def("__".join([*deployment.key("rows", "daily").path, "schedule"]))
    with dg.build_schedule_context(
        scheduled_execution_time=midnight(5), instance=deployment.instance, repository_def=repository
    ) as context:
        request = schedule.evaluate_tick(context).run_requests[0]

    with quiet():
        job = deployment.definitions.resolve_job_def(schedule.job_name)
        result = job.execute_in_process(
            instance=deployment.instance, partition_key=request.partition_key, asset_selection=request.asset_selection
        )

    assert request.partition_key == day(4)
    assert result.success
    assert told(result, "online/daily")["dagster/row_count"] == 1


def test_a_source_without_a_log_is_loaded_by_the_schedules_of_its_views(tmp_path):
    deployment = Deployment(tmp_path, log=False)
    repository = deployment.definitions.get_repository_def()

    for name, keys in (
        ("rows__daily", ["events/rides", "rows/daily", "online/daily"]),
        ("tiles__hourly", ["events/rides", "tiles/hourly"]),
    ):
        with dg.build_schedule_context(
            scheduled_execution_time=midnight(5), instance=deployment.instance, repository_def=repository
        ) as context:
            request = repository.get_schedule_def(f"dev__{name}__schedule").evaluate_tick(context).run_requests[0]
        assert request.asset_selection == [deployment.key(*key.split("/")) for key in keys]


def test_a_training_set_is_a_file_with_its_manifest(deployment):
    deployment.run(*LAKE, first=day(0), last=day(4))

    result = deployment.run("training/pricing")

    metadata = told(result, "training/pricing")
    rows = pq.read_table(metadata["path"])
    assert rows.num_rows == metadata["dagster/row_count"] == 20
    assert rows.column_names == [
        "city", "event_timestamp", "hourly__count_1h", "hourly__fare_mean_1d", "daily__count_2d", "daily__fare_sum_1d",
    ]  # fmt: skip
    manifest = json.loads(Path(metadata["path"]).with_suffix(".json").read_text())
    assert manifest["service"] == "pricing@1"
    assert manifest["snapshot"] == metadata["snapshot_id"]


def test_a_training_set_may_be_asked_for_any_spine(deployment):
    deployment.run(*LAKE, first=day(0), last=day(4))
    name = "__".join(deployment.key("training", "pricing").path)
    spine = "SELECT 'york' AS city, TIMESTAMPTZ '2024-03-02 12:00:00+00' AS event_timestamp"

    result = deployment.run("training/pricing", run_config={"ops": {name: {"config": {"spine": spine}}}})

    rows = pq.read_table(told(result, "training/pricing")["path"])
    assert rows.column("hourly__fare_mean_1d").to_pylist() == [(2 + 3 + 4 + 5) / 4]


def test_the_catalog_is_told_how_values_are_distributed(deployment):
    deployment.run("events/rides", first=day(0), last=day(4))

    result = told(deployment.run("catalog/statistics"), "catalog/statistics")

    assert result["views"] == 2
    assert "| `hourly@1` | 20 | 2024-02-28 | 2024-03-05 |" in result["samples"]
    with deployment.store() as store:
        kept = store.redis.hget(statistics_key(deployment.environment), "hourly@1")
    counted = json.loads(kept)["features"][0]
    assert (counted["name"], dict(counted["quantiles"])["max"]) == ("count_1h", 0.0)
