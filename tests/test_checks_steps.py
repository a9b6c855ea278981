"""All checks of an asset are one step, in which each is still one for itself."""

import dagster as dg
import pytest
from dagster_world import quiet
from feature_store_deploy.assets.resource import STORE
from feature_store_deploy.checks.steps import Checks, build_steps, takes_days

EVENTS, OTHER, BUILT = (dg.AssetKey(["dev", *path]) for path in (("events", "rides"), ("online", "v"), ("tiles", "v")))


def spec(name, key=EVENTS, **options):
    return dg.AssetCheckSpec(name, asset=key, **options)


def says(name, passed=True, key=EVENTS, **options):
    """A check that says so."""
    return Checks.of_one(spec(name, key, **options), lambda _: dg.AssetCheckResult(passed=passed))


def breaks(name, error, **options):
    """A check that cannot be evaluated."""

    def judge(_):
        raise error

    return Checks.of_one(spec(name, **options), judge)


def together(*names, broken=(), seen=None):
    """Checks that are evaluated together, as those of values are: the first that is broken ends it."""

    def evaluate(_, chosen):
        for name in chosen:
            if seen is not None:
                seen.append(name)
            if name in broken:
                raise ValueError(f"{name} is broken")
            yield dg.AssetCheckResult(passed=True, check_name=name)

    return Checks(specs=[spec(name) for name in names], evaluate=evaluate)


@dg.asset(key=EVENTS)
def events():
    return dg.MaterializeResult()


@dg.asset(key=BUILT, deps=[EVENTS])
def built():
    return dg.MaterializeResult()


class Ran:
    """What came of a run of these checks, with both assets or alone."""

    def __init__(self, *checks, chosen=None, assets=(EVENTS, BUILT), **options):
        steps = build_steps(checks)
        definitions = dg.Definitions(
            assets=[events, built], asset_checks=steps, resources={STORE: object()}, executor=dg.in_process_executor
        )
        whole = definitions.resolve_implicit_global_asset_job_def()
        keys = {key for step in steps for key in step.check_keys if chosen is None or key.name in chosen}
        job = whole.get_subset(asset_selection=set(assets), asset_check_selection=keys)
        with dg.DagsterInstance.ephemeral() as instance, quiet():
            result = job.execute_in_process(instance=instance, raise_on_error=False, **options)
            self.statuses = {name: self._status(instance, name) for name in ("good", "bad", "worse", "red")}
        self.success = result.success
        self.said = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
        self.built = {event.asset_key for event in result.get_asset_materialization_events()}
        self.failures = [event.event_specific_data.error for event in result.all_events if event.is_step_failure]

    @staticmethod
    def _status(instance, name):
        records = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(EVENTS, name), limit=1)
        return records[0].status.value if records else None


def test_an_asset_has_one_step_and_what_others_wait_for_another():
    steps = build_steps([says("a"), says("b", key=OTHER), says("c", blocking=True), together("d", "e"), says("f")])

    assert {step.op.name: {key.name for key in step.check_keys} for step in steps} == {
        "dev__events__rides__checks": {"a", "d", "e", "f"},
        "dev__events__rides__blocking_checks": {"c"},
        "dev__online__v__checks": {"b"},
    }


def test_a_spec_is_kept_as_it_was_declared():
    declared = spec("a", description="what it says", metadata={"owner": "team:taxis"}, blocking=True)

    [step] = build_steps([Checks.of_one(declared, lambda _: None)])

    assert list(step.check_specs) == [declared]


def test_a_check_can_be_chosen_alone():
    seen = []

    ran = Ran(says("good"), together("red", "bad", seen=seen), says("worse"), chosen=["bad"], assets=())

    assert ran.said == {"bad": True}
    assert seen == ["bad"]
    assert ran.statuses == {"good": None, "bad": "SUCCEEDED", "worse": None, "red": None}


def test_a_check_that_raises_silences_no_other_and_is_seen_to_have_failed():
    ran = Ran(breaks("bad", ValueError("no such column")), says("good"), says("red", passed=False), assets=())

    assert ran.said == {"good": True, "red": False}
    # Planned in a run that has failed: Dagster shows "execution failed".
    assert ran.statuses == {"good": "SUCCEEDED", "bad": "PLANNED", "worse": None, "red": "FAILED"}
    assert not ran.success
    [failure] = ran.failures
    assert failure.cause.message.strip() == "ValueError: no such column"


def test_checks_that_are_evaluated_together_are_evaluated_alone_when_one_of_them_raises():
    ran = Ran(together("good", "bad", "red", broken=["bad"]), assets=())

    assert ran.said == {"good": True, "red": True}
    assert [failure.cause.message.strip() for failure in ran.failures] == ["ValueError: bad is broken"]


def test_several_that_raise_are_all_named():
    ran = Ran(
        breaks("bad", ValueError("no such column")), breaks("worse", OSError("no such file")), says("good"), assets=()
    )

    assert ran.said == {"good": True}
    [failure] = ran.failures
    assert "2 checks could not be evaluated: bad: no such column; worse: no such file" in failure.cause.message


def test_a_check_that_has_nothing_to_say_of_a_run_is_no_failure():
    ran = Ran(Checks.of_one(spec("good"), lambda _: None), says("red"), assets=())

    assert ran.success
    assert ran.said == {"red": True}


def test_what_is_blocked_waits_for_the_blocking_check_alone():
    ran = Ran(says("good", blocking=True), breaks("bad", ValueError("no such column")), says("red", passed=False))

    assert ran.said == {"good": True, "red": False}
    assert ran.built == {EVENTS, BUILT}
    assert not ran.success


@pytest.mark.parametrize(
    "check", [says("red", passed=False, blocking=True), breaks("red", ValueError("no"), blocking=True)]
)
def test_a_blocking_check_that_is_red_or_raises_stops_what_is_built_from_its_asset(check):
    ran = Ran(check, says("good"))

    assert ran.said["good"]
    assert ran.built == {EVENTS}


def test_days_are_asked_of_steps_that_look_at_days():
    asked = []

    def judge(step):
        asked.append((str(step.days), step.reference, step.in_a_load))
        return dg.AssetCheckResult(passed=True)

    looking = Checks(specs=[spec("good")], evaluate=Checks.of_one(spec("good"), judge).evaluate, takes_days=True)
    steps = build_steps([looking, says("red", key=OTHER)])
    assert [takes_days(step.op) for step in steps] == [True, False]

    config = {"ops": {"dev__events__rides__checks": {"config": {"days": "2024-03-01/2024-03-02"}}}}
    assert Ran(looking, assets=(), run_config=config).success
    assert Ran(looking, assets=(EVENTS,)).success
    assert asked == [("2024-03-01/2024-03-02", None, False), ("None", None, True)]
    wrong = Ran(looking, assets=(), run_config={"ops": {"dev__events__rides__checks": {"config": {"days": "monday"}}}})
    assert "`days` must be days such as '2013-03-01/2013-03-31', got 'monday'" in wrong.failures[0].cause.message
