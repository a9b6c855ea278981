"""Outdated days: the books name exactly those, one sensor starts them, and a check proposes the others."""

import functools
import shutil
import time
from datetime import date, timedelta

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster_world import FIRST, Deployment, day, evaluations, live, midnight, quiet, registry, ride
from feature_store_deploy.assets.outdated import TAG
from feature_store_deploy.assets.resource import STORE
from feature_store_deploy.stack.definitions import build_definitions

from feature_store.history.outdated import MISSED_DAYS, Reason, outdated_days
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from feature_store.time_rule import HOUR_US, MINUTE_US, to_us

LATE_DAY = 3


# Dagster warns of itself where a sensor asks for a backfill.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetSelection.keys` is deprecated:DeprecationWarning")


def rides():
    return [ride(n, at=n * 0.5) for n in range(12)]


def number(found):
    return (found - FIRST).days


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Homes whose days 0 to 9 were built on day 10; each is built once."""

    @functools.cache
    def build(policy, log):
        made = Deployment(tmp_path_factory.mktemp("built"), rows=rides(), late_events=policy, log=log)
        with made.store() as store:
            store.load("rides", start=midnight(0), end=midnight(10))
            for view in ("daily", "hourly"):
                store.materialize(view, start=midnight(0), end=midnight(10))
        return made.home

    return build


@pytest.fixture
def make(tmp_path, built):
    """A deployment on day 10, whose days 0 to 9 were built."""

    def build(policy="correct", *, log=True):
        shutil.copytree(built(policy, log) / "lake", tmp_path / "lake")  # a lake may be moved
        made = Deployment(tmp_path, rows=rides(), late_events=policy, log=log)
        made.clock.move_to(to_us(midnight(10)) + HOUR_US)
        return made

    return build


@pytest.fixture
def late(make):
    """Such a deployment, and then a ride of day 3 comes, on day 10."""

    def build(policy):
        made = make(policy)
        with made.store() as store:
            add_late(store)
        return made

    return build


def add_late(store):
    store.lake.append_live("rides", live(ride(99, at=LATE_DAY + 0.1, fare=40.0)), owner="o", start={0: 0}, end={0: 1})


def tick(deployment, definitions=None):
    """What the sensor says: its run requests, and why there are none."""
    repository = (definitions or deployment.definitions).get_repository_def()
    resources = {STORE: (definitions or deployment.definitions).resources[STORE]}
    with (
        quiet(),
        dg.build_sensor_context(
            instance=deployment.instance, repository_def=repository, resources=resources
        ) as context,
    ):
        return repository.get_sensor_def("dev__outdated_sensor").evaluate_tick(context)


def asked(deployment, definitions=None):
    """Asset -> the days of the backfill that the sensor asks for."""
    requests = tick(deployment, definitions).run_requests or ()
    assert len(requests) <= 1
    return {
        "/".join(key.path[1:]): sorted(number(date.fromisoformat(name)) for name in subset.get_partition_keys())
        for request in requests
        for key, subset in request.asset_graph_subset.partitions_subsets_by_asset_key.items()
    }


def states(deployment, view):
    """Day -> why it is outdated."""
    with deployment.store() as store:
        found = outdated_days(store.lake, deployment.registry.view(view), now_us=deployment.clock.now_us())
    return {number(each): reasons for each, reasons in found.items()}


def test_late_events_have_exactly_the_days_built_again_whose_windows_hold_them(late):
    deployment = late("recompute")

    # The rows of midnight count over two days.
    assert asked(deployment) == {"rows/daily": [3, 4], "tiles/hourly": [3]}

    with deployment.store() as store:
        store.materialize("daily", start=midnight(LATE_DAY), end=midnight(LATE_DAY + 2))
        store.materialize("hourly", start=midnight(LATE_DAY), end=midnight(LATE_DAY + 1))
    assert asked(deployment) == {}


def test_late_events_do_not_change_the_rows_of_other_policies(late):
    deployment = late("correct")
    assert asked(deployment) == {"tiles/hourly": [3]}

    nothing = Settings(home=deployment.home, redis_url=deployment.url, rebuild="none")
    assert asked(deployment, build_definitions(deployment.registry, nothing, clock=deployment.clock)) == {}


def test_events_that_are_loaded_again_mark_exactly_the_days_that_read_what_is_different(make):
    deployment = make()
    assert asked(deployment) == {}
    deployment.rows = [row | {"fare": 99.0} if row["ride_id"] == "r8" else row for row in deployment.rows]  # of day 4

    with deployment.store() as store:
        store.load("rides", start=midnight(0), end=midnight(10))

    assert asked(deployment) == {"rows/daily": [4, 5], "tiles/hourly": [4]}
    assert states(deployment, "hourly") == {4: {Reason.LOADED}}

    deployment.rows = [*deployment.rows[:10], ride(98, at=8.5)]  # day 5 has no event any more, day 8 has one
    with deployment.store() as store:
        store.load("rides", start=midnight(0), end=midnight(10))
    assert list(states(deployment, "hourly")) == [4, 5, 8]


def redefined(deployment, **options):
    """The deployment with one view defined otherwise."""
    deployment.registry = registry(deployment.load, **options)
    return deployment


def test_another_definition_marks_every_day_of_its_own_view_and_no_other(make):
    deployment = redefined(make(), fare_over="7d")

    assert states(deployment, "hourly") == {n: {Reason.CHANGED} for n in range(10)}
    assert states(deployment, "daily") == {}

    with deployment.store() as store:
        store.materialize("hourly", start=midnight(0), end=midnight(2))
    assert list(states(deployment, "hourly")) == list(range(2, 10))

    # Builds from before definitions were noted are taken as they are.
    with deployment.store() as store, store.lake.cursor() as cursor:
        cursor.execute(f"UPDATE {store.lake.table_sql('builds')} SET meanings = NULL")
    assert states(deployment, "hourly") == {}


def test_what_another_definition_made_is_proposed_or_started_as_the_setting_says(make):
    deployment = redefined(make(), fare_over="7d")

    def by(rebuild):
        settings = Settings(home=deployment.home, redis_url=deployment.url, rebuild=rebuild)
        return build_definitions(deployment.registry, settings, clock=deployment.clock)

    assert asked(deployment, by("events")) == {}
    assert asked(deployment, by("none")) == {}
    assert asked(deployment, by("all")) == {"tiles/hourly": list(range(10))}

    deployment.definitions = by("events")
    told = evaluations(deployment.run("tiles/hourly", first=day(0), past=False))["tiles/hourly:up_to_date"]
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert told.description == "9 days should be built again (the definition has changed: 9)"
    assert told.metadata["next_step"].value == (
        "feature-store backfill tiles/hourly --start 2024-03-02 --end 2024-03-11"
    )


def test_days_that_were_missed_are_built_but_none_without_events_that_came_over_a_log(make):
    deployment = make()
    with deployment.store() as store:
        store.lake.append_live("rides", live(ride(97, at=11.2)), owner="o", start={0: 0}, end={0: 1})
    deployment.clock.move_to(to_us(midnight(13)) + HOUR_US)

    assert asked(deployment) == {"rows/daily": [10, 11, 12], "tiles/hourly": [11]}

    deployment.clock.move_to(to_us(midnight(200)) + HOUR_US)
    assert list(states(deployment, "daily")) == list(range(200 - MISSED_DAYS, 200))  # the others were left out


def test_a_source_without_a_log_is_loaded_for_the_days_that_were_missed(make):
    deployment = make(log=False)
    deployment.clock.move_to(to_us(midnight(12)) + HOUR_US)

    assert asked(deployment) == {"events/rides": [10, 11], "rows/daily": [10, 11], "tiles/hourly": [10, 11]}


def test_a_day_that_was_built_before_it_was_over_lacks_what_came_later_on_it(make):
    deployment = make()
    deployment.clock.move_to(to_us(midnight(10)) + 12 * HOUR_US)
    with deployment.store() as store:
        store.materialize("daily", start=midnight(10), end=midnight(11))
        store.materialize("hourly", start=midnight(10), end=midnight(11))
        store.lake.append_live("rides", live(ride(96, at=10.7)), owner="o", start={0: 0}, end={0: 1})
    assert asked(deployment) == {}  # a day that is not over waits

    deployment.clock.move_to(to_us(midnight(11)) + 5 * MINUTE_US)
    assert asked(deployment) == {}  # and is left to its schedule first

    deployment.clock.move_to(to_us(midnight(11)) + HOUR_US)
    assert states(deployment, "daily") == {10: {Reason.UNFINISHED}}
    assert states(deployment, "hourly") == {10: {Reason.UNFINISHED}}


def test_one_backfill_at_a_time_and_none_soon_after_one_that_failed(late):
    deployment = late("recompute")
    request = tick(deployment).run_requests[0]
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id="earlier", backfill_timestamp=time.time(), tags=dict(request.tags),
        dynamic_partitions_store=deployment.instance, asset_graph_subset=request.asset_graph_subset, title=None,
        description=None, run_config=None,
    )  # fmt: skip
    assert request.tags[TAG] == "dev"

    deployment.instance.add_backfill(backfill)
    assert tick(deployment).skip_message == "backfill earlier is at work"

    deployment.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))
    assert "did not succeed" in tick(deployment).skip_message

    deployment.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert set(asked(deployment)) == {"rows/daily", "tiles/hourly"}


def test_a_view_that_was_never_built_is_not_begun_by_the_sensor(tmp_path):
    deployment = Deployment(tmp_path, rows=[ride(1, at=0.5)])
    with FeatureStore(deployment.registry, settings=deployment.settings, clock=deployment.clock) as store:
        store.load("rides", start=midnight(0), end=midnight(0) + timedelta(days=1))

    assert asked(deployment) == {}
