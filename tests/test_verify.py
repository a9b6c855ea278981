"""`feature-store verify`: nothing where nothing is wrong; a fault planted in 100 of 10,000 values found there, with its cause.

What a fault would have served is said by the naive twin in `verify_world`, which shares no code with the search for causes.
"""

import dataclasses
import json

import dagster as dg
import pyarrow as arrow  # noqa: ICN001 - as in verify_world
import pytest
from dagster_world import quiet
from feature_store_deploy.assets.instance import dagster_instance
from feature_store_deploy.checks.evaluate import evaluate_checks
from feature_store_deploy.checks.schedules import SKEW
from feature_store_deploy.checks.skew import NAME as SKEW_CHECK
from feature_store_deploy.stack.definitions import build_definitions
from verify_world import BEGIN_US, HOUR_US, MINUTE_US, World, planted, windows

from feature_store import FeatureView, Registry, agg
from feature_store.cli import app
from feature_store.lake.books.stream import STREAM_COMMITS, STREAM_RUNS
from feature_store.proof.verify import verify
from feature_store.transforms.compiled import compile_registry

PLANTED, VALUES = 100, 10_000


@pytest.fixture(scope="module")
def lived(valkey, tmp_path_factory, module_environment):
    world = World(valkey.url, tmp_path_factory.mktemp("verify"), module_environment)
    yield world
    world.close()


@pytest.fixture
def world(lived):
    """The deployment, with what was really served on record again afterwards."""
    yield lived
    lived.put(lived.record)


def counted_late(world, city, at):
    """What comes later is counted already."""
    missed = world.unknown(city, at)
    return windows(world.known(city, at) + missed[:1], at) if missed else {}


def late_left_out(world, city, at):
    """What came late is not counted though it had come."""
    known = world.known(city, at)
    late = [each for each in known if BEGIN_US < each.time < each.arrived - 10 * MINUTE_US]
    return windows([each for each in known if each is not late[-1]], at) if late else {}


def head_counted(world, city, at):
    """An event at the very time of the read is counted."""
    now = [each for each in world.events if each.city == city and each.time == at]
    return windows(world.known(city, at) + now, at) if now else {}


def tail_shifted(world, city, at):
    """Windows begin one hop too late."""
    return windows(world.known(city, at), at, shift=1)


def tail_too_early(world, city, at):
    return windows(world.known(city, at), at, shift=-1)


def steps_not_taken(world, city, at):
    """The value of half an hour ago, served past its validity: what has left the windows since is still there."""
    return windows(world.known(city, at), at, tail_at=at - 30 * MINUTE_US)


def counted_twice(world, city, at):
    known = world.known(city, at)
    return windows([*known, known[-1 if city % 2 else len(known) // 3]], at)


def counted_three_times(world, city, at):
    known = world.known(city, at)
    event = known[-1 if city % 2 else len(known) // 3]
    return windows([*known, event, event], at)


def under_version_2(world, city, at):
    return windows([each for each in world.known(city, at) if each.fare > 50], at)


def miscounted(world, city, at):
    true = windows(world.known(city, at), at)
    return true | {"count_1h": true["count_1h"] + 1}


FAULTS = {
    counted_late: "late",
    late_left_out: "late",
    head_counted: "boundary",
    tail_shifted: "boundary",
    tail_too_early: "boundary",
    steps_not_taken: "expired",
    counted_twice: "duplicate",
    counted_three_times: "duplicate",
    under_version_2: "redefinition",
    miscounted: "logic",
}


def plant(world, fault):
    """Row -> feature -> value of exactly `PLANTED` values that a fault changes, at rows all over the record."""
    sums = {0: {}}
    for row, city, at in sorted(world.vectors(), key=lambda each: (each[0] * 7919) % 1000):
        true, wrong = windows(world.known(city, at), at), fault(world, city, at)
        if changed := {name: value for name, value in wrong.items() if value != true[name]}:
            for total, rows in list(sums.items()):
                sums.setdefault(total + len(changed), {**rows, row: changed})
        if PLANTED in sums:
            return sums[PLANTED]
    raise AssertionError("too few places")


def test_nothing_is_unequal_where_nothing_is_wrong(world):
    [verdict] = world.store.verify()

    assert (verdict.vectors, verdict.values, verdict.unequal, verdict.pending) == (1000, VALUES, 0, 0)
    assert (verdict.defects, verdict.score, verdict.unequals) == (0, 0.0, [])
    assert (verdict.oracle_values, verdict.oracle_unequal) == (2000, 0)


def test_the_twin_says_what_was_served(world):
    for row, city, at in world.vectors():
        expected = windows(world.known(city, at), at)
        assert expected == {name: world.record.column(f"busy__{name}")[row].as_py() for name in expected}


@pytest.mark.parametrize(("fault", "cause"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_a_fault_planted_alone_is_found_where_it_is_with_its_cause(world, fault, cause):
    wrong = plant(world, fault)
    world.put(planted(world.record, wrong))

    [verdict] = world.store.verify()

    ids = world.record.column("vector_id").to_pylist()
    found = {(each.difference.vector, each.difference.feature.removeprefix("busy:")) for each in verdict.unequals}
    assert verdict.causes == {cause: PLANTED}
    assert found == {(ids[row], name) for row, each in wrong.items() for name in each}
    assert (verdict.values, verdict.unequal) == (VALUES, PLANTED)
    assert verdict.score == PLANTED / (VALUES + verdict.oracle_values)
    assert verdict.defects == (0 if cause == "redefinition" else PLANTED)


# --- what is excused, and what is not --------------------------------------------------------------------------------


def without_commits(world, rows):
    """The record with commits of the same run that nobody knows; the vectors were served long before the newest one."""
    values = {row: {"n": 10**6 + row} for row in rows}
    column = world.record.column("busy_v1__n").to_pylist()
    for row, each in values.items():
        column[row] = each["n"]
    place = world.record.schema.get_field_index("busy_v1__n")
    return world.record.set_column(place, world.record.schema.field(place), arrow.array(column, arrow.int64()))


def test_a_commit_that_is_missing_is_unprovable_and_excused_once_the_loss_of_the_store_is_on_record(world):
    world.put(without_commits(world, range(10)))

    [before] = world.store.verify()
    lost_store(world)
    [after] = world.store.verify()
    with world.store.lake.cursor() as cursor:
        cursor.execute(f"DELETE FROM {STREAM_RUNS}")

    assert (before.causes, before.defects) == ({"unprovable": 100}, 100)
    assert (after.causes, after.defects, after.excused) == ({"store loss": 100}, 0, 100)


def lost_store(world):
    """The run of the world, and one after it that found another store."""
    run = world.record.column("busy_v1__run")[0].as_py()
    rows = [
        {"run": number, "snapshot": world.store.lake.snapshot(), "began_us": number, "generation": name, "shards": 1}
        for number, name in ((run, "before"), (run + 1, "after"))
    ]
    world.store.lake.append(STREAM_RUNS, arrow.Table.from_pylist(rows))


def test_a_commit_that_may_still_come_makes_a_vector_wait(world):
    with world.store.lake.cursor() as cursor:
        [newest] = cursor.execute(f"SELECT max(visible_at_us) FROM {STREAM_COMMITS}").fetchone()
    table = without_commits(world, [999])
    served = [*table.column("served_us").to_pylist()[:-1], newest]
    table = table.set_column(table.schema.get_field_index("served_us"), "served_us", arrow.array(served, arrow.int64()))
    world.put(table)

    [verdict] = world.store.verify()

    assert (verdict.vectors, verdict.pending, verdict.unequal) == (999, 1, 0)


def test_a_feature_that_had_another_definition_when_it_was_served_is_excused(world):
    wrong = {row: {"count_1h": 10**6} for row in range(5)}
    world.put(planted(world.record, wrong))
    lake = world.store.lake
    other = {"view": "busy@1", "feature": "count_1h", "fingerprint": "other", "applied_us": BEGIN_US + 1}
    lake.append("registry_versions", arrow.Table.from_pylist([other]))

    [verdict] = world.store.verify()
    with lake.cursor() as cursor:
        cursor.execute("DELETE FROM registry_versions WHERE fingerprint = 'other'")

    assert (verdict.causes, verdict.excused, verdict.defects) == ({"redefinition": 5}, 5, 0)


def test_two_faults_in_one_record_are_told_apart(world):
    late, twice = plant(world, counted_late), plant(world, counted_twice)
    world.put(planted(world.record, {**twice, **late}))

    [verdict] = world.store.verify()

    doubled = sum(len(each) for row, each in twice.items() if row not in late)
    assert verdict.causes == {"late": PLANTED, "duplicate": doubled}


def test_a_slice_of_time_holds_what_was_served_in_it(world):
    at = world.vectors()[500][2]

    [before] = world.store.verify("fares@1", until_us=at)
    [after] = world.store.verify("fares", since_us=at)
    [none] = world.store.verify(since_us=at + 10 * HOUR_US)

    assert (before.vectors, after.vectors, none.vectors) == (500, 500, 0)
    assert none.score == 0.0


def test_a_feature_that_came_later_is_not_missed_in_older_vectors(world):
    [view, *others] = world.store.registry.views
    more = FeatureView(
        view.name, entity=view.entity, source=view.source, features=[*view.features, agg.min("fare", over="1h")]
    )
    [service] = world.store.registry.services
    declared = Registry(views=[more, *others], services=[dataclasses.replace(service, features=[more])])
    [verdict] = verify(compile_registry(declared), world.store.lake)

    assert (verdict.values, verdict.unequal) == (VALUES, 0)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(world, monkeypatch, capfd):
    """Run `feature-store verify` in the world: exit code and what it said."""
    settings = world.store.settings
    monkeypatch.setenv("FEATURE_STORE_HOME", str(settings.home))
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", settings.environment)
    monkeypatch.setenv("FEATURE_STORE_DECLARATIONS", "verify_world:registry")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        code = app.run(["verify", *arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def test_the_command_says_that_all_is_equal(command):
    code, out, _ = command("--service", "fares")

    assert code == 0
    assert out.splitlines()[-1] == (
        "verify: vectors=1000 values=10000 unequal=0 defects=0 excused=0 unknown=0 stale_unequal=0 pending=0 "
        "oracle_values=2000 oracle_unequal=0"
    )


def test_the_command_shows_defects_with_their_causes_and_ends_with_1(world, command):
    world.put(planted(world.record, plant(world, head_counted)))

    code, out, _ = command()

    assert code == 1
    assert "unequal=100 defects=100 excused=0" in out.splitlines()[-1]
    assert "boundary: busy:" in out
    assert "the head itself, is counted" in out
    assert "feature-store explain busy:" in out


def test_the_command_speaks_json(world, command):
    world.put(planted(world.record, plant(world, miscounted)))

    code, out, _ = command("--format", "json")

    said = json.loads(out)
    assert (code, said["unequal"], said["services"][0]["causes"]) == (1, 100, {"logic": 100})
    assert said["services"][0]["unequals"][0]["difference"]["feature"] == "busy:count_1h"


def test_a_time_without_vectors_is_said(command):
    code, out, _ = command("--since", "2030-01-01T00:00:00Z")

    assert code == 0
    assert "fares@1: no served vectors in this time" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "2024-03-01T09:00:00"], "`--since` must carry a time zone"),
        (["--until", "noon"], "`--until` must be a time such as"),
        (["--since", "2024-03-02T00:00:00Z", "--until", "2024-03-01T00:00:00+01:00"], "`--since` must lie before"),
        (["--service", "faers"], "unknown service 'faers'"),
        (["--format", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_input_gets_one_line_and_exit_code_2(command, arguments, said):
    code, _, err = command(*arguments)

    assert code == 2
    assert said in err


# --- the check -------------------------------------------------------------------------------------------------------


def of_skew(found):
    return [each for each in found if each.check == SKEW_CHECK]


def test_the_check_is_green_and_turns_red_with_its_causes(world):
    store = world.store
    definitions = build_definitions(store.registry, store.settings, clock=world.clock)
    world.clock.move_to(world.vectors()[-1][2] + MINUTE_US)

    with quiet():
        [green] = of_skew(evaluate_checks(definitions, store.settings, jobs=[SKEW]))
        world.put(planted(world.record, plant(world, counted_twice)))
        [red] = of_skew(evaluate_checks(definitions, store.settings, jobs=[SKEW]))
        with dagster_instance(store.settings) as instance:
            key = dg.AssetCheckKey(dg.AssetKey([store.settings.environment, "served", "fares"]), SKEW_CHECK)
            [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
            told = {name: each.value for name, each in record.event.dagster_event.event_specific_data.metadata.items()}
            asset = instance.get_latest_materialization_event(key.asset_key).asset_materialization.metadata

    assert (green.check, green.passed, red.passed, red.severity) == (SKEW_CHECK, True, False, "ERROR")
    assert green.description == f"0 of {VALUES} values are unequal"
    assert red.description == f"{PLANTED} of {VALUES} values are unequal: duplicate {PLANTED}"
    assert told[SKEW_CHECK] == PLANTED / (VALUES + told["oracle_values"])
    assert told["cause: duplicate"] == PLANTED
    assert "is counted" in told["differences"]
    assert asset["vectors"].value == 1000
