"""Late events: counted where a view is materialized, and past days built again where the policy says so."""

import dagster as dg
import pytest
from dagster_world import Deployment, day, live, midnight, quiet, ride, told
from feature_store_deploy.assets.resource import STORE

from feature_store.history.late import late_events

LATE_DAY = 3


@pytest.fixture
def make(tmp_path):
    """A deployment whose days 0 to 5 were built, and then a ride of day 3 came, on day 10."""

    def build(policy):
        made = Deployment(tmp_path, rows=[ride(n, at=n * 0.5) for n in range(12)], late_events=policy)
        with made.store() as store:
            store.load("rides", start=midnight(0), end=midnight(6))
            store.materialize("daily", start=midnight(0), end=midnight(6))
            store.materialize("hourly", start=midnight(0), end=midnight(6))
            store.lake.append_live("rides", live(ride(99, at=LATE_DAY + 0.1)), owner="o", start={0: 0}, end={0: 1})
        return made

    return build


def asked(deployment, name):
    """The partitions that a sensor asks for."""
    repository = deployment.definitions.get_repository_def()
    resources = {STORE: deployment.definitions.resources[STORE]}
    with (
        quiet(),
        dg.build_sensor_context(
            instance=deployment.instance, repository_def=repository, resources=resources
        ) as context,
    ):
        data = repository.get_sensor_def(name).evaluate_tick(context)
    return [request.partition_key for request in data.run_requests or ()]


def test_recompute_builds_the_days_again_whose_windows_hold_the_late_event(make):
    deployment = make("recompute")

    # Its count looks back over two days.
    days = asked(deployment, "dev__rows__daily__late_sensor")
    assert days == [day(LATE_DAY), day(LATE_DAY + 1), day(LATE_DAY + 2)]

    with deployment.store() as store:
        store.materialize("daily", start=midnight(LATE_DAY), end=midnight(LATE_DAY + 3))
    assert asked(deployment, "dev__rows__daily__late_sensor") == []


def test_tiles_of_past_days_are_brought_up_to_date_and_rows_of_other_policies_stay(make):
    deployment = make("correct")

    names = {sensor.name for sensor in deployment.definitions.get_repository_def().sensor_defs}
    assert "dev__rows__daily__late_sensor" not in names
    assert asked(deployment, "dev__tiles__hourly__late_sensor") == [day(LATE_DAY)]


def test_a_day_that_is_not_over_waits(make):
    deployment = make("recompute")
    with deployment.store() as store:
        store.materialize("hourly", start=midnight(10), end=midnight(11))
        store.lake.ensure_source("rides", store.compiled.schemas["rides"])
        store.lake.append_live("rides", live(ride(98, at=10.1), offset=1), owner="o", start={0: 1}, end={0: 2})

    assert asked(deployment, "dev__tiles__hourly__late_sensor") == [day(LATE_DAY)]


def test_late_events_and_their_delays_are_told_with_the_materialization(make):
    deployment = make("recompute")

    result = deployment.run("rows/daily", first=day(LATE_DAY))

    assert told(result, "rows/daily")["late"] == 1
    assert told(result, "rows/daily")["late_delays"] == "1 of 1 (recompute): 1 up to 7 d"
    with deployment.store() as store:
        view = store.registry.view("hourly")
        none = late_events(store.compiled, store.lake, view, start=midnight(4), end=midnight(6))
    assert str(none) == "none of 0 (correct)"
