"""Checks that count what is on record: dead letters, defaults that readers were given, what piles up in the lake."""

import dagster as dg
import pyarrow as pa
import pytest
from dagster_world import Deployment, evaluations, live, midnight, quiet, registry, ride
from feature_store_deploy.checks import health
from feature_store_deploy.checks.dead_letters import measure_dead_letters
from feature_store_deploy.checks.declared import judged
from feature_store_deploy.checks.default_values import measure_default_values
from feature_store_deploy.checks.schedules import DRIFT, UPKEEP, job_name
from feature_store_deploy.checks.values import OF_SOURCE
from feature_store_deploy.stack.definitions import build_definitions
from orders_world import Shop

from feature_store import Check
from feature_store.proof.layout import served_layout
from feature_store.proof.served_table import append_served
from feature_store.time_rule import HOUR_US, to_us

ERROR = dg.AssetCheckSeverity.ERROR


def figures(found):
    return {each.name: (round(each.value, 4), each.is_over) for each in found.figures}


@pytest.fixture(scope="module")
def rides(tmp_path_factory):
    """A hundred rides that came over the log on day 10, and some records that were none."""
    deployment = Deployment(tmp_path_factory.mktemp("letters"))
    store = deployment.store()
    store.lake.ensure_source("rides", store.compiled.schemas["rides"])
    arrived = to_us(midnight(10))
    rows = pa.concat_tables([live(ride(n, at=9), offset=n) for n in range(100)])
    kinds = ["rejected"] * 8 + ["conflict"] * 2 + ["duplicate"] * 40
    letters = pa.table(
        {
            "source": ["rides"] * 50,
            "partition": pa.array([0] * 50, pa.int32()),
            "offset": list(range(100, 150)),
            "arrived_us": [arrived - 48 * HOUR_US if n == 0 else arrived for n in range(50)],
            "reason": ["column 'fare': must be at least 0"] * 8 + ["seen before"] * 42,
            "payload": [b"{}"] * 50,
            "kind": kinds,
        }
    )
    deployment.clock.move_to(arrived)
    store.lake.append_live("rides", rows, owner="o", start={0: 0}, end={0: 150}, rejected=letters)
    yield store
    store.close()


def test_records_that_are_no_events_are_a_share_of_those_that_came(rides):
    source = rides.registry.source("rides")

    found = measure_dead_letters(rides, source, Check())

    assert figures(found) == {"records": (round(9 / 109, 4), True)}  # duplicates are none, and one came too long ago
    assert found.sample_size == 109
    said = judged(found, key=dg.AssetCheckKey("x", "dead_letters"), owner=None, severity=ERROR).description
    assert "9 of 109, most often rejected: column 'fare': must be at least 0" in said
    assert figures(measure_dead_letters(rides, source, Check(limit=0.1))) == {"records": (round(9 / 109, 4), False)}


def test_a_few_dead_letters_of_a_quiet_source_are_no_rate(rides):
    quiet = rides.clock.now_us()
    rides.clock.move_to(quiet + 30 * HOUR_US)

    found = measure_dead_letters(rides, rides.registry.source("rides"), Check())

    rides.clock.move_to(quiet)
    assert (figures(found), found.sample_size) == ({"records": (0.0, False)}, 0)


def test_the_schedules_check_a_source_that_only_streams(rides, tmp_path):
    definitions = build_definitions(registry(None), rides.settings, clock=rides.clock)

    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance, quiet():
        jobs = [definitions.resolve_job_def(job_name("dev", kind)) for kind in (UPKEEP, DRIFT)]
        results = [job.execute_in_process(instance=instance) for job in jobs]
    found = {name: each for result in results for name, each in evaluations(result).items()}

    of_events = {name.partition(":")[2]: each for name, each in found.items() if name.startswith("events/rides")}
    assert set(of_events) == {"dead_letters", *OF_SOURCE}
    assert not of_events["dead_letters"].passed
    assert "9 of 109" in of_events["dead_letters"].description
    assert of_events["volume"].metadata["sample_size"].value == 100


def vectors(store, statuses, *, hours_ago=1):
    """Vectors with these statuses of `spending:kind`; the other features are there."""
    layout = served_layout(store.compiled, "pricing@1")
    of = {each.status: each.name for each in layout.features}
    served = store.clock.now_us() - hours_ago * HOUR_US
    known = {"vector_id": "v{}-{}", "service": "pricing@1", "served_us": served}
    rows = [
        {
            each.name: (
                known[each.name].format(hours_ago, n) if each.name == "vector_id"
                else known[each.name] if each.name in known
                else (status if of[each.name] == "spending:kind" else 0) if each.name in of
                else None
            )
            for each in layout.schema
        }
        for n, status in enumerate(statuses)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=layout.schema)


def test_defaults_that_readers_were_given_are_counted_by_feature(tmp_path):
    present, unknown, stale = 0, 2, 3
    with Shop(tmp_path).store() as store:
        service = store.registry.service("pricing")
        assert measure_default_values(store, service, Check()).said == "no vectors were logged in the last 24 hours"
        table = vectors(store, [present] * 80 + [unknown] * 12 + [stale] * 8)
        append_served(store.compiled, store.lake, table)
        append_served(store.compiled, store.lake, vectors(store, [unknown] * 100, hours_ago=30))

        found = measure_default_values(store, service, Check())
        declared = measure_default_values(store, service, Check(limit=0.2, by={"spending:count_1d": None}))

    assert found.sample_size == 100
    assert figures(found) == {
        "spending:count_1d": (0.0, False), "spending:amount_mean_1d": (0.0, False), "spending:kind": (0.12, True),
    }  # fmt: skip
    assert figures(declared) == {"spending:amount_mean_1d": (0.0, False), "spending:kind": (0.12, False)}


def test_what_piles_up_in_the_lake_is_named_with_what_to_do(tmp_path, monkeypatch):
    with Shop(tmp_path).store() as store:
        well = health.measure_health(store, unkept_days=0.5)
        monkeypatch.setattr(health, "FILES", -1)
        ill = health.measure_health(store, unkept_days=4.0)

    assert {name for name, (_, over) in figures(well).items() if over} <= {"disk_used"}  # which is this machine's
    assert set(figures(well)) == {"files", "snapshots", "pending_days", "disk_used", "unkept_days"}
    assert {"files", "unkept_days"} <= {name for name, (_, over) in figures(ill).items() if over}
    result = judged(ill, key=dg.AssetCheckKey("x", "health"), owner=None, severity=ERROR)
    assert "`feature-store lake compact`" in result.description
    assert "materialize `lake/maintenance`" in result.description


def test_a_lake_that_is_kept_is_green_under_dagster(tmp_path):
    shop = Shop(tmp_path)
    found = shop.run("lake/maintenance")

    assert "unkept_days" in found["lake/maintenance:health"].metadata["figures"].value
