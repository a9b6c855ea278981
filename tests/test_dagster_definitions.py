"""What Dagster is told: keys, owners, descriptions, versions, schedules; and that the workspace loads."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster_world import registry
from feature_store_deploy.assets.instance import dagster_instance, prepare_dagster_home, workspace_file
from feature_store_deploy.assets.lineage import LINEAGE
from feature_store_deploy.assets.partitions import HISTORY_POOL, daily_partitions, newest_partition
from feature_store_deploy.assets.schedules import cron
from feature_store_deploy.stack.definitions import build_definitions, load_definitions

from feature_store.declare.check import SERVICE_CHECKS, SOURCE_CHECKS, VIEW_CHECKS
from feature_store.errors import SettingsError
from feature_store.fold.run import live_sources
from feature_store.registry import load_registry
from feature_store.settings import Settings
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, parse_duration

FLIGHTS = load_registry("features:registry")

SHARED = ("lake", "catalog", "housekeeping")


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("home"), environment="staging")
    return build_definitions(FLIGHTS, settings)


def test_every_asset_says_whose_it_is_what_it_is_and_where_it_belongs(flights):
    # Lake and catalog are everybody's: what keeps them is not declared and has no owner.
    specs = [spec for spec in flights.resolve_all_asset_specs() if spec.key.path[1] not in SHARED]

    streams = len(live_sources(FLIGHTS))
    assert len(specs) == streams + 2 * len(FLIGHTS.sources) + 2 * len(FLIGHTS.views) + 3 * len(FLIGHTS.services)
    for spec in specs:
        assert spec.owners, spec.key
        assert spec.description, spec.key
        assert spec.group_name != "default", spec.key
        assert spec.kinds, spec.key
        assert spec.code_version, spec.key


def test_every_check_says_whose_it_is_and_what_it_asserts(flights):
    graph = flights.resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]

    names = {spec.name for spec in specs}
    assert names == {*SOURCE_CHECKS, *VIEW_CHECKS, *SERVICE_CHECKS, "retraining", "health", "stream", "up_to_date"}
    specs = [spec for spec in specs if spec.name != "health"]  # of the lake, which is everybody's
    assert all(spec.description and str(spec.metadata["owner"]).startswith("team:") for spec in specs)
    assert {spec.asset_key.path[1] for spec in specs if spec.blocking} == {"events"}


def test_an_asset_costs_a_step_for_all_its_checks_and_views_and_services_cost_no_job(flights):
    graph, repository = flights.resolve_asset_graph(), flights.get_repository_def()
    checked = {(key.asset_key, graph.get_check_spec(key).blocking) for key in graph.asset_check_keys}
    made = [key for key in graph.get_all_asset_keys() if graph.get(key).is_executable]

    assert len(flights.resolve_implicit_global_asset_job_def().nodes) == len(made) + len(checked)
    assert {job.name.removeprefix("staging__") for job in repository.get_all_jobs()} == {
        "__ASSET_JOB", "history__job", "watch__job", "skew__job", "drift__job", "upkeep__job",
        "catalog__statistics__job", "housekeeping__job", "housekeeping__costs__job", "lake__maintenance__job",
    }  # fmt: skip


def test_definitions_are_built_once_for_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))
    first = load_definitions(Path.cwd())

    # Dagster asks twice when it loads a code location.
    assert load_definitions(Path.cwd()) is first
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", "staging")
    assert load_definitions(Path.cwd()) is not first


def test_keys_begin_with_the_environment_and_follow_the_lineage(flights):
    graph = flights.resolve_asset_graph()

    assert {key.path[0] for key in graph.get_all_asset_keys()} == {"staging"}
    assert graph.get(dg.AssetKey(["staging", "online", "carrier_arrivals"])).parent_keys == {
        dg.AssetKey(["staging", "rows", "carrier_arrivals"])
    }
    assert graph.get(dg.AssetKey(["staging", "tiles", "airport_departures"])).parent_keys == {
        dg.AssetKey(["staging", "events", "departures"])
    }


def test_the_graph_leads_from_where_history_is_to_what_a_model_asks_for(flights):
    graph = flights.resolve_asset_graph()

    def parents(name):
        return {"/".join(key.path[1:]) for key in graph.get(dg.AssetKey(["staging", *name.split("/")])).parent_keys}

    assert parents("sources/departures") == set()
    assert "sources/departures" in parents("events/departures")
    assert parents("tiles/airport_departures") == {"events/departures"}
    assert "tiles/airport_departures" in parents("online/airport_departures")
    assert {"online/airport_departures", "training/arrival_delay"} <= parents("services/arrival_delay")
    assert graph.get(dg.AssetKey(["staging", "sources", "departures"])).kinds == {"python"}


def origins(definitions, name):
    """Column of an asset -> the columns that it is made of."""
    specs = {"/".join(spec.key.path[1:]): spec for spec in definitions.resolve_all_asset_specs()}
    lineage = specs[name].metadata[LINEAGE].deps_by_column
    return {
        column: {f"{'/'.join(each.asset_key.path[1:])}:{each.column_name}" for each in made}
        for column, made in lineage.items()
    }


def test_every_column_says_what_it_is_made_of(tmp_path):
    found = build_definitions(registry(None), Settings(home=tmp_path))
    # A source without a loader has events all the same.
    assert "sources" not in {spec.key.path[1] for spec in found.resolve_all_asset_specs()}
    tiles = origins(found, "tiles/hourly")

    mean = set(tiles) - {"_key", "events"}
    assert tiles == {
        "_key": {"events/rides:city"},
        "events": {"events/rides:begun"},
        **{column: {"events/rides:fare"} for column in mean},
    }
    assert mean
    assert origins(found, "rows/daily") == {
        "_key": {"events/rides:city"}, "count_2d": {"events/rides:begun"}, "fare_sum_1d": {"events/rides:fare"},
    }  # fmt: skip
    assert origins(found, "online/hourly") == {
        "count_1h": {"tiles/hourly:events"}, "fare_mean_1d": {f"tiles/hourly:{column}" for column in mean},
    }  # fmt: skip
    assert origins(found, "training/pricing")["daily__fare_sum_1d"] == {"rows/daily:fare_sum_1d"}
    assert origins(found, "services/pricing")["hourly__fare_mean_1d"] == {"online/hourly:fare_mean_1d"}


def test_the_columns_of_online_values_say_what_they_are(flights):
    specs = {"/".join(spec.key.path[1:]): spec for spec in flights.resolve_all_asset_specs()}
    columns = specs["online/airport_departures"].metadata["dagster/column_schema"].columns

    told = {column.name: (column.type, column.description) for column in columns}
    assert told["dep_delay_mean_1h"] == ("float", "mean of `dep_delay` over 1h: minutes")
    assert told["count_1h"][1].startswith("count over 1h")


def test_features_that_are_computed_name_all_that_they_read(flights):
    made = origins(flights, "services/arrival_delay")
    resolved = FLIGHTS.resolve(FLIGHTS.services[0])
    assert len(made) == len(resolved)
    for item, origin in zip(resolved, made.values(), strict=True):
        assert origin == {f"online/{ref.view}:{ref.feature}" for ref in item.refs}


def test_assets_link_to_their_pages_in_the_catalog(tmp_path):
    settings = Settings(home=tmp_path, api_url="https://features.example/shop/")
    specs = {"/".join(spec.key.path): spec for spec in build_definitions(FLIGHTS, settings).resolve_all_asset_specs()}

    links = {name: spec.metadata["catalog"].value for name, spec in specs.items() if "catalog" in spec.metadata}
    unlinked = {name for name in set(specs) - set(links) if not name.startswith("dev/housekeeping/")}
    assert unlinked == {"dev/lake/maintenance"}
    base = "https://features.example/shop/catalog"
    assert links["dev/events/departures"] == f"{base}#/sources/departures"
    assert links["dev/tiles/airport_departures"] == f"{base}#/views/airport_departures@1"
    assert links["dev/online/airport_departures"] == f"{base}#/views/airport_departures@1"
    assert links["dev/training/arrival_delay"] == f"{base}#/services/arrival_delay@1"
    assert specs["dev/tiles/airport_departures"].metadata["entity"] == "airport (origin)"


def test_a_changed_feature_changes_the_code_version_of_its_view_and_of_the_services_that_use_it(tmp_path):
    before, after = (
        build_definitions(registry(None, fare_over=over), Settings(home=tmp_path)).resolve_asset_graph()
        for over in ("1d", "7d")
    )

    changed = {
        key for key in before.get_all_asset_keys() if before.get(key).code_version != after.get(key).code_version
    }
    assert {"/".join(key.path) for key in changed} == {
        "dev/tiles/hourly",
        "dev/online/hourly",
        "dev/training/pricing",
        "dev/served/pricing",
        "dev/services/pricing",
    }


def test_each_batch_view_has_one_schedule(flights):
    names = {schedule.name for schedule in flights.schedules if "rows" in schedule.name}

    assert names == {"staging__rows__carrier_arrivals__schedule", "staging__rows__origin_weather__schedule"}


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("1d", ["1 0 * * *"]),
        ("12h", ["1 0 * * *", "1 12 * * *"]),
        ("1h", "1 * * * *"),
        ("15m", "1,16,31,46 * * * *"),
        ("1m", "* * * * *"),
        ("30s", "* * * * *"),
        ("480m", ["1 0 * * *", "1 8 * * *", "1 16 * * *"]),
    ],
)
def test_a_schedule_runs_a_minute_after_every_step(every, expected):
    assert cron(parse_duration(every)) == expected


@pytest.mark.parametrize(
    ("now", "every_us", "expected"),
    [
        (10 * DAY_US, DAY_US, "1970-01-10"),  # the row of midnight knows the day that ends there
        (10 * DAY_US + MINUTE_US, HOUR_US, "1970-01-10"),
        (10 * DAY_US + HOUR_US, HOUR_US, "1970-01-11"),
        (10 * DAY_US + 90 * MINUTE_US, HOUR_US, "1970-01-11"),
    ],
)
def test_the_newest_rows_belong_to_the_day_in_which_their_step_ends(now, every_us, expected):
    assert newest_partition(now, every_us=every_us) == expected


def test_partitions_begin_where_the_first_history_does_and_reach_to_today():
    keys = daily_partitions(FLIGHTS).get_partition_keys()

    assert keys[0] == "2013-01-01"
    assert len(keys) > 3650


def test_the_workspace_loads(tmp_path):
    environment = os.environ | {
        "DAGSTER_HOME": str(prepare_dagster_home(Settings(home=tmp_path))),
        "FEATURE_STORE_HOME": str(tmp_path),
    }
    program = Path(sys.executable).with_name("dagster")

    done = subprocess.run(
        [program, "definitions", "validate", "-w", workspace_file()],
        check=False, capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_dagsters_home_is_prepared_once_and_sends_nothing_home(tmp_path):
    home = prepare_dagster_home(Settings(home=tmp_path))
    written = home / "dagster.yaml"
    assert "telemetry:\n  enabled: false" in written.read_text()
    written.write_text("telemetry:\n  enabled: false\n# mine\n")

    assert prepare_dagster_home(Settings(home=tmp_path)) == home
    assert "# mine" in written.read_text()


def test_a_backfill_of_years_leaves_room_for_checks_and_publications(flights, tmp_path):
    graph = flights.resolve_asset_graph()
    days = {key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned}
    with dagster_instance(Settings(home=tmp_path)) as instance:
        limits = instance.get_concurrency_config()

    assert {pool for key in days for pool in graph.get(key).pools} == {HISTORY_POOL}
    assert (limits.pool_config.default_pool_limit, limits.pool_config.pool_granularity.value) == (2, "run")
    assert limits.run_queue_config.max_concurrent_runs == 4


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match=r"setting `home`: '.*file/dagster/dev' cannot be written: Not a directory"):
        prepare_dagster_home(Settings(home=tmp_path / "file"))
