"""What fails, is overdue or recovers reaches a webhook, once each; what could not be delivered is delivered later."""

import json
import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo
from dagster_world import Deployment, day, quiet, ride
from feature_store_deploy.assets.books import quicken_books
from feature_store_deploy.checks.alerts import outbox
from feature_store_deploy.checks.alerts.failing import check_change
from feature_store_deploy.checks.alerts.message import Alert, shown
from feature_store_deploy.checks.alerts.sensor import begin, build_alert_sensor
from feature_store_deploy.checks.alerts.state import Held, State, load
from feature_store_deploy.checks.alerts.told import KINDS
from webhook_receiver import receiving

from feature_store.clock import ManualClock
from feature_store.settings import Settings
from feature_store.time_rule import SECOND_US

RUNBOOKS = Path(__file__).parent.parent / "docs/runbooks"
NOW_S = 1_893_456_130
"""2030-01-01 00:02:10: after anything that Dagster stamps here, between two ticks of every schedule."""


@pytest.fixture
def webhook():
    with receiving() as hook:
        yield hook


@pytest.fixture
def deployment(tmp_path, webhook):
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0", alert_webhook_url=webhook.url)
    return Deployment(tmp_path, settings=settings, rows=[ride(n, at=n * 0.25) for n in range(8)])


class Sensor:
    """The sensor as the daemon drives it: tick after tick, each a fresh process that knows Dagster's books alone."""

    def __init__(self, deployment, *, cursor=None):
        self.deployment, self.instance, self.cursor = deployment, deployment.instance, cursor
        self.clock = ManualClock(NOW_S * SECOND_US)
        self._repository = deployment.definitions.get_repository_def()

    def tick(self, *, after_s=0.0, report=()):
        self.clock.move_to(self.clock.now_us() + int(after_s * SECOND_US))
        for event in report:
            self.instance.report_runless_asset_event(event)
        sensor = build_alert_sensor(self.deployment.registry, self.deployment.settings, clock=self.clock)
        with quiet(), dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self._repository
        ) as context:  # fmt: skip
            return sensor.evaluate_tick(context).skip_message

    @property
    def state(self):
        return load(self.instance, self.deployment.environment)


def load_days(deployment, *, bad):
    """Load the first two days, with a row that is refused on the second or without."""
    deployment.rows = [row for row in deployment.rows if row["fare"] >= 0]
    if bad:
        deployment.rows.append(ride(99, at=1.5, fare=-1.0))
    schema = dg.AssetCheckKey(deployment.key("events", "rides"), "schema")
    return deployment.run("events/rides", first=day(0), last=day(1), checks=frozenset([schema]))


def said(passed, days="", *, check="schema", key=("dev", "events", "rides"), severity="ERROR", **metadata):
    """An evaluation."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(key),
        check_name=check,
        passed=passed,
        severity=dg.AssetCheckSeverity[severity],
        description="three rows <!channel>",
        metadata={**({"days": days} if days else {}), **metadata},
    )


# ---- what is told


def test_a_failed_check_and_its_recovery_reach_the_webhook_once_each(deployment, webhook):
    sensor = Sensor(deployment)
    for bad in (True, True, False, False):
        load_days(deployment, bad=bad)
        sensor.tick()
        sensor.tick()

    failed, recovered = webhook.received
    assert [failed["state"], recovered["state"]] == ["failed", "recovered"]
    assert failed["check"] == recovered["check"] == "schema"
    assert failed["asset"] == "dev/events/rides"
    assert failed["partition"] == "2024-03-01/2024-03-02"
    assert failed["severity"] == "ERROR"
    assert failed["owner"] == "team:taxis"
    assert failed["feature_group"] == "hourly, daily"
    assert failed["description"] == "1 rows were refused"
    assert failed["link"] == "http://127.0.0.1:3000/assets/dev/events/rides?view=checks&checkDetail=schema"
    assert failed["runbook"] == "docs/runbooks/schema.md"
    assert failed["text"].startswith("FAILED: schema of dev/events/rides (2024-03-01/2024-03-02): 1 rows were refused")
    assert recovered["text"].startswith("RECOVERED: schema of dev/events/rides")
    assert failed["key"] == recovered["key"] != failed["id"] != recovered["id"]
    assert [headers["Idempotency-Key"] for headers in webhook.headers] == [failed["id"], recovered["id"]]


def test_a_message_names_owner_feature_group_figure_limit_link_and_next_step(deployment, webhook):
    bad = said(
        False, "2024-03-02", check="missing_rate", owner="team:x",
        figures={"fare": 0.3125, "city": 0.01, "odd": float("nan")}, limits={"fare": 0.1, "city": 0.1}, limit=0.1,
    )  # fmt: skip
    Sensor(deployment).tick(report=[bad])

    [message] = webhook.received
    assert (message["figure"], message["limit"], message["owner"]) == ("fare: 0.3125", "0.1", "team:x")
    assert message["text"].splitlines() == [
        "FAILED: missing_rate of dev/events/rides (2024-03-02): three rows &lt;!channel&gt;",
        "severity: ERROR, owner: team:x, feature group: hourly, daily, figure: fare: 0.3125, limit: 0.1",
        "http://127.0.0.1:3000/assets/dev/events/rides?view=checks&amp;checkDetail=missing_rate",
        "next step: docs/runbooks/missing_rate.md",
    ]


def test_the_report_and_the_manifest_of_a_drift_are_linked(deployment, webhook):
    drifted = said(False, check="retraining", key=("dev", "training", "pricing"), report_link="file:///r.html",
                   baseline="/m.json")  # fmt: skip
    Sensor(deployment).tick(report=[drifted])

    [message] = webhook.received
    assert (message["report"], message["manifest"]) == ("file:///r.html", "/m.json")
    assert "report: file:///r.html\nmanifest: /m.json\n" in message["text"]
    assert (message["owner"], message["feature_group"]) == ("team:ml", "hourly, daily")


def test_a_check_of_the_newest_days_fails_once_and_recovers_though_the_days_move_on(deployment, webhook):
    sensor, job = Sensor(deployment), deployment.definitions.resolve_job_def("dev__drift__job")
    for number, passed in enumerate((False, False, True)):
        run = deployment.instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
        days = f"{day(number)}/{day(number + 27)}"
        deployment.instance.report_dagster_event(evaluated(said(passed, days, check="drift")), run.run_id)
        sensor.tick()

    assert webhook.told == [("failed", "drift"), ("recovered", "drift")]
    assert webhook.received[0]["partition"] == f"{day(0)}/{day(27)}"


def evaluated(evaluation):
    """As a run reports it."""
    return DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION.value, "some_job", event_specific_data=evaluation, message=""
    )


def test_figures_are_few_and_always_json():
    many = {f"f{n}": 1.0 for n in range(7)}
    assert shown(many) == "f0: 1, f1: 1, f2: 1, f3: 1, f4: 1 and 2 more"
    assert shown({"a": float("nan"), "b": float("inf")}, {"a": 1.0, "b": 1.0}) == "b: inf"
    assert shown(None) == ""


def test_several_changes_between_two_looks_are_all_told(deployment, webhook):
    sensor = Sensor(deployment)

    assert sensor.tick(report=[said(False), said(True), said(False)]) == "3 alerts"
    assert [state for state, _ in webhook.told] == ["failed", "recovered", "failed"]


def test_without_a_webhook_nothing_waits(tmp_path):
    sensor = Sensor(Deployment(tmp_path, url="redis://127.0.0.1:1/0"))

    assert sensor.tick(report=[said(False)]) == "1 alerts"
    assert sensor.state.waiting == []


def test_a_sensor_that_raises_is_not_evaluated_to_its_end(deployment, webhook, monkeypatch):
    sensor = Sensor(deployment)
    sensor.tick()
    assert sensor.state.evaluated_s == NOW_S
    monkeypatch.setattr("feature_store_deploy.checks.alerts.sensor.look", raising)

    with pytest.raises(OSError, match="the disk is full"):
        sensor.tick(after_s=10)

    assert sensor.state.evaluated_s == NOW_S
    monkeypatch.undo()
    sensor.tick(after_s=10)
    assert sensor.state.evaluated_s == NOW_S + 20


def raising(*_args, **_named):
    raise OSError("the disk is full")


def test_checks_of_another_environment_are_its_own_business(deployment, webhook):
    sensor = Sensor(deployment)

    assert sensor.tick(report=[said(False, key=("prod", "events", "rides"))]) == "0 alerts"
    assert webhook.received == []


@pytest.mark.parametrize(
    ("story", "told"),
    [
        ([(True, "")], [None]),
        ([(False, ""), (False, ""), (True, ""), (True, "")], ["failed", None, "recovered", None]),
        ([(False, "2024-03-02"), (True, "2024-03-03")], ["failed", None]),  # another day is no recovery
        ([(False, "2024-03-02"), (True, "2024-03-01/2024-03-31")], ["failed", "recovered"]),
        ([(False, "2024-03-01/2024-03-31"), (True, "2024-03-02")], ["failed", None]),  # a part is none either,
        ([(False, "2024-03-01/2024-03-03"), (True, "2024-03-02"), (True, "2024-03-01"), (True, "2024-03-03")],
         ["failed", None, None, "recovered"]),  # all parts are
        ([(False, "2024-03-02"), (False, "2024-03-05"), (True, "2024-03-02"), (True, "2024-03-05")],
         ["failed", "failed", None, "recovered"]),
        ([(False, ""), (True, "2024-03-02"), (True, "")], ["failed", None, "recovered"]),  # now is no day
        ([(False, "2024-03-02"), (True, ""), (True, "2024-03-02")], ["failed", None, "recovered"]),
        ([(False, "europe"), (True, "asia"), (True, "europe")], ["failed", None, "recovered"]),  # no days at all
    ],
)  # fmt: skip
def test_a_check_recovers_when_it_has_passed_for_all_days_that_had_failed(story, told):
    failing = {}

    assert [check_change(failing, said(passed, days), days) for passed, days in story] == told


def test_a_warning_that_becomes_an_error_is_told_again():
    failing = {}

    changes = [
        check_change(failing, said(False, severity=each), "") for each in ("WARN", "WARN", "ERROR", "ERROR", "WARN")
    ]

    assert changes == ["failed", None, "failed", None, None]


def test_what_an_earlier_version_knew_is_still_known():
    cursor = json.dumps({"read": 7, "failing": {"a:b": {"2024-03-02": "ERROR"}}})

    assert begin(cursor) == State(read=7, failing={"a:b": {"2024-03-02": Held(severity="ERROR", left=["2024-03-02"])}})
    assert begin(None) == State()


def test_every_kind_of_check_and_alert_has_its_runbook(deployment):
    checks = {key.name for key in deployment.definitions.resolve_asset_graph().asset_check_keys}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")}

    assert {"schema", "freshness", "stream"} <= checks
    assert checks | set(KINDS) <= pages
    listed = re.findall(r"^\| \[([a-z_]+)\]\(\1\.md\)", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(pages - {"README"})


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("[a-z]*.md")), ids=lambda page: page.stem)
def test_a_runbook_says_what_it_means_what_to_do_and_when_it_is_over(page):
    text = page.read_text()

    assert text.startswith(f"# `{page.stem}`: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What to do", "Over when"]
    assert "\n1. " in text


def test_what_nobody_owns_is_of_whoever_runs_the_deployment(tmp_path, webhook):
    settings = Settings(
        home=tmp_path, redis_url="redis://127.0.0.1:1/0", alert_webhook_url=webhook.url, owner="team:platform"
    )
    deployment = Deployment(tmp_path, settings=settings)
    graph = deployment.definitions.resolve_asset_graph()
    kept = [deployment.key("lake", "maintenance"), deployment.key("housekeeping", "keys")]
    health = graph.get_check_spec(dg.AssetCheckKey(kept[0], "health"))
    failed = {"check": "run_failed", "key": kept[1].path}

    assert health.metadata["owner"] == "team:platform"
    assert [list(graph.get(key).owners) for key in kept] == [["team:platform"]] * 2
    Sensor(deployment).tick(report=[said(False, **failed), said(False)])
    assert [message["owner"] for message in webhook.received] == ["team:platform", "team:taxis"]


# ---- delivery


def test_a_receiver_that_is_down_for_ten_minutes_loses_nothing_and_gets_everything_once_in_order(deployment, webhook):
    sensor = Sensor(deployment)
    sensor.tick(report=[said(False, "2024-03-01", check="volume")])
    webhook.stop()
    for n in range(60):  # a tick each ten seconds; each third one something happens
        passed, name = n % 6 == 3, f"check_{n // 6}"
        sensor.tick(after_s=10, report=[said(passed, check=name)] if n % 3 == 0 else [])
    assert len(webhook.received) == 1
    assert "20 were not delivered" in sensor.tick()

    webhook.start()
    for _ in range(7):  # it is tried at least once a minute
        sensor.tick(after_s=10)

    assert webhook.told[1:] == [(state, f"check_{n}") for n in range(10) for state in ("failed", "recovered")]
    assert len(set(webhook.tried)) == len(webhook.tried) == 21
    assert sensor.state.waiting == []


def test_a_receiver_that_is_away_is_left_alone_for_longer_and_longer(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda _: 503
    sensor.tick(report=[said(False)])
    for _ in range(60):
        sensor.tick(after_s=10)

    assert 10 <= len(webhook.tried) <= 15  # after 5, 10, 20, 40 s, then once a minute

    webhook.refuses, webhook.retry_after = lambda _: 429, "300"
    sensor.tick(after_s=60)
    tried = len(webhook.tried)
    sensor.tick(after_s=290)
    assert len(webhook.tried) == tried
    webhook.refuses = lambda _: 200
    assert sensor.tick(after_s=20) == "1 alerts"


def test_a_receiver_that_is_busy_gets_nothing_out_of_order(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda message: 503 if message["check"] == "first" else 200
    sensor.tick(report=[said(False, check="first"), said(False, check="second")])
    assert webhook.received == []

    webhook.refuses = lambda _: 200
    sensor.tick(after_s=10)
    assert webhook.told == [("failed", "first"), ("failed", "second")]


def test_a_message_that_is_refused_blocks_only_what_is_said_of_the_same_thing(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda message: 400 if (message["check"], message["state"]) == ("poison", "failed") else 200
    sensor.tick(report=[said(False, check="poison"), said(False, check="volume"), said(True, check="poison")])
    assert webhook.told == [("failed", "volume")]
    assert "2 were not delivered yet: 400 Bad Request" in sensor.tick(after_s=61)

    webhook.refuses = lambda _: 200
    sensor.tick(after_s=600)
    assert webhook.told[1:] == [("failed", "poison"), ("recovered", "poison")]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_address_that_was_withdrawn_loses_nothing_however_long_it_stays(deployment, webhook, status):
    sensor = Sensor(deployment)
    webhook.refuses = lambda _: status
    sensor.tick(report=[said(False, check="volume"), said(False), said(True)])
    for _ in range(72):
        assert f"3 were not delivered yet: {status} " in sensor.tick(after_s=3600)
    assert sensor.state.given_up == 0

    webhook.refuses = lambda _: 200
    for _ in range(13):
        sensor.tick(after_s=10)
    assert sorted(webhook.told) == [("failed", "schema"), ("failed", "volume"), ("recovered", "schema")]
    assert (sensor.state.waiting, sensor.state.problem) == ([], "")


def test_a_closed_address_is_asked_once_a_minute_and_not_for_each_message(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda _: 404
    sensor.tick(report=[said(False, check=f"check_{n}") for n in range(8)])
    for _ in range(60):
        sensor.tick(after_s=10)

    assert 10 <= len(webhook.tried) <= 15
    assert len(set(webhook.tried)) > 1  # in turn, in case it is one of them after all


def test_one_message_that_is_forbidden_does_not_hold_up_the_others(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda message: 403 if message["check"] == "poison" else 200
    sensor.tick(report=[said(False, check="poison"), said(False, check="volume")])
    sensor.tick(after_s=10)

    assert webhook.told == [("failed", "volume")]


def test_each_tick_says_why_messages_wait_also_while_nobody_is_asked(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda _: 400
    sensor.tick(report=[said(False)])
    said_then = "0 alerts; 1 were not delivered yet: 400 Bad Request (docs/runbooks/delivery.md)"

    assert [sensor.tick(after_s=10) for _ in range(3)] == [said_then] * 3
    assert len(webhook.tried) == 1


def test_a_message_that_is_refused_for_a_day_is_given_up(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.refuses = lambda message: 413 if message["state"] == "failed" else 200
    sensor.tick(report=[said(False), said(True)])
    for _ in range(25):
        sensor.tick(after_s=3600)

    assert webhook.told == [("recovered", "schema")]
    assert (sensor.state.waiting, sensor.state.given_up) == ([], 1)


def test_a_crash_between_delivery_and_its_note_repeats_one_message_with_its_id(deployment, webhook, monkeypatch):
    sensor = Sensor(deployment)
    reports = [said(False, check=f"check_{n}") for n in range(4)]

    class Killed(BaseException):
        pass

    def dies(message):
        if message["check"] == "check_2":
            monkeypatch.setattr(dg.DagsterInstance, "daemon_cursor_storage", property(_die))
        return 200

    def _die(_):
        raise Killed

    webhook.refuses = dies
    with pytest.raises(Killed):
        sensor.tick(report=reports)
    monkeypatch.undo()
    webhook.refuses = lambda _: 200
    sensor.tick()

    assert [message["check"] for message in webhook.received] == [f"check_{n}" for n in (0, 1, 2, 2, 3)]
    assert len(set(webhook.tried)) == 4


def test_a_tick_ends_in_time_and_the_next_one_goes_on(deployment, webhook, monkeypatch):
    monkeypatch.setattr(outbox, "BUDGET_S", -1.0)
    sensor = Sensor(deployment)
    assert sensor.tick(report=[said(False)]) == "0 alerts; 1 were not delivered yet (docs/runbooks/delivery.md)"

    monkeypatch.undo()
    assert sensor.tick() == "1 alerts"


def test_an_alert_has_the_same_id_whenever_it_is_made():
    def made(**facts):
        alert = {"kind": "drift", "state": "failed", "name": "a", "days": "", "owner": "", "groups": "", "said": "",
                 "link": "", "at_s": 7.0} | facts  # fmt: skip
        return Alert(**alert).message(env="dev", runbook_url="docs")

    assert made() == made()
    assert len({made(**other)["id"] for other in ({}, {"state": "recovered"}, {"at_s": 8.0}, {"days": "x"})}) == 4
    assert len(made(said="x" * 5000)["text"]) < 1500


# ---- runs


def break_loader(deployment, *, broken):
    deployment.rows = (
        [{"begun": None}] if broken else [ride(n, at=n * 0.25) for n in range(8)]
    )  # a comparison with None fails


def test_a_failed_run_is_told_and_recovers_when_others_have_built_all_of_its_days(deployment, webhook):
    sensor = Sensor(deployment)
    break_loader(deployment, broken=True)
    unchecked = {"checks": frozenset()}
    failed = deployment.run("events/rides", first=day(0), last=day(1), **unchecked)
    sensor.tick()
    sensor.tick()

    [message] = webhook.received
    assert (message["state"], message["check"], message["asset"]) == ("failed", "run_failed", "dev/events/rides")
    assert message["partition"] == f"{day(0)}/{day(1)}"
    assert (message["owner"], message["feature_group"]) == ("team:taxis", "hourly, daily")
    assert "not supported between" in message["description"]
    assert message["link"] == f"http://127.0.0.1:3000/runs/{failed.run_id}"
    assert message["runbook"] == "docs/runbooks/run_failed.md"

    break_loader(deployment, broken=False)
    deployment.run("events/rides", first=day(0), **unchecked)
    sensor.tick()
    assert len(webhook.received) == 1
    deployment.run("events/rides", "tiles/hourly", first=day(1), **unchecked)
    sensor.tick()
    assert webhook.told[1:] == [("recovered", "run_failed")]
    assert webhook.received[1]["key"] == message["key"]
    assert sensor.state.runs == {}


# ---- overdue


@pytest.fixture
def kept(deployment):
    """The same with books on disk, which know schedules, too."""
    quicken_books()
    with dg.instance_for_test(temp_dir=str(deployment.home)) as instance:
        deployment.instance = instance
        yield deployment


def books(deployment, name, kind=InstigatorType.SCHEDULE):
    """A schedule or a sensor in Dagster's books, as a daemon writes it."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("feature_store"), "__repository__")
    data = ScheduleInstigatorData("*/5 * * * *") if kind is InstigatorType.SCHEDULE else None
    state = InstigatorState(RemoteInstigatorOrigin(repository, name), kind, InstigatorStatus.DECLARED_IN_CODE, data)
    deployment.instance.add_instigator_state(state)
    return state


def ticked(deployment, state, at_s, status=TickStatus.SUCCESS):
    deployment.instance.create_tick(
        TickData(state.instigator_origin_id, state.instigator_name, state.instigator_type, status, float(at_s),
                 selector_id=state.selector_id, run_ids=[],
             skip_reason="x" if status is TickStatus.SKIPPED else None,
             error=SerializableErrorInfo("x", [], None) if status is TickStatus.FAILURE else None)
    )  # fmt: skip


def of(webhook, name):
    return [(each["state"], each["description"]) for each in webhook.received if each["asset"] == name]


def test_a_schedule_whose_time_has_passed_without_a_tick_is_overdue_until_it_ticks(kept, webhook):
    sensor, name = Sensor(kept), "dev__watch__schedule"
    state = books(kept, name)
    sensor.tick()  # 00:02:10, the first look ever; every five minutes something is due
    for _ in range(5):
        sensor.tick(after_s=60)
    ticked(kept, state, NOW_S - 130 + 300, TickStatus.FAILURE)
    assert webhook.received == []  # 00:07:10: that of 00:05 has five minutes

    for _ in range(4):
        sensor.tick(after_s=60)
    assert of(webhook, name) == [("failed", "no run was asked for at 2030-01-01 00:05 UTC: its tick failed")]
    assert [each["asset"] for each in webhook.received] == [name]  # no other was due since somebody looks
    message = webhook.received[0]
    assert (message["check"], message["figure"], message["limit"]) == ("run_overdue", "5 min", "5 min")
    assert message["runbook"] == "docs/runbooks/run_overdue.md"

    ticked(kept, state, NOW_S - 130 + 600)
    sensor.tick(after_s=60)
    sensor.tick(after_s=60)
    assert [state for state, _ in of(webhook, name)] == ["failed", "recovered"]


def test_after_a_pause_dagster_has_time_to_catch_up(kept, webhook):
    sensor, name = Sensor(kept), "dev__watch__schedule"
    books(kept, name)
    sensor.tick()
    sensor.tick(after_s=86_400)  # nobody looked for a day: nor did the schedules tick
    for _ in range(4):
        sensor.tick(after_s=60)
    assert webhook.received == []

    sensor.tick(after_s=60)
    assert "it has not ticked" in of(webhook, name)[0][1]


def test_a_run_that_waits_for_too_long_is_overdue_unless_it_belongs_to_a_backfill(deployment, webhook):
    sensor = Sensor(deployment)
    job = deployment.definitions.resolve_job_def("dev__skew__job")
    started = {"job_def": job, "status": dg.DagsterRunStatus.STARTING}
    waits = deployment.instance.create_run_for_job(**started)
    deployment.instance.create_run_for_job(**started, tags={"dagster/backfill": "some"})
    created_s = deployment.instance.get_run_record_by_id(waits.run_id).create_timestamp.timestamp()

    sensor.clock.at_us = int((created_s + 59 * 60) * SECOND_US)
    sensor.tick()
    assert webhook.received == []

    sensor.tick(after_s=120)
    [message] = webhook.received
    assert (message["check"], message["asset"]) == ("run_overdue", "dev__skew__job")
    assert (message["description"], message["limit"]) == ("the run waits for 61 minutes", "60 min")
    assert message["owner"] == "team:ml"

    deployment.instance.report_run_canceled(waits)
    sensor.tick(after_s=60)
    assert webhook.told == [("failed", "run_overdue"), ("recovered", "run_overdue")]
    assert webhook.received[1]["key"] == message["key"]


def test_a_sensor_that_should_run_and_was_switched_off_is_told_until_it_runs_again(kept, webhook):
    sensor, name = Sensor(kept), "dev__outdated_sensor"
    state = books(kept, name, InstigatorType.SENSOR)
    sensor.tick()
    kept.instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    sensor.tick(after_s=60)
    sensor.tick(after_s=60)

    assert of(webhook, name) == [("failed", "the sensor is switched off")]
    assert (webhook.received[0]["figure"], webhook.received[0]["check"]) == ("", "run_overdue")

    kept.instance.update_instigator_state(state.with_status(InstigatorStatus.RUNNING))
    sensor.tick(after_s=60)
    assert [state for state, _ in of(webhook, name)] == ["failed", "recovered"]


def test_a_sensor_whose_ticks_all_fail_is_told(kept, webhook):
    sensor, name = Sensor(kept), "dev__stream"
    state = books(kept, name, InstigatorType.SENSOR)
    ticked(kept, state, NOW_S - 20, TickStatus.SKIPPED)
    ticked(kept, state, NOW_S - 10, TickStatus.FAILURE)
    sensor.tick()
    assert webhook.received == []

    ticked(kept, state, NOW_S + 300, TickStatus.FAILURE)
    sensor.tick(after_s=300)
    assert of(webhook, name) == [("failed", "each tick of the sensor fails")]

    ticked(kept, state, NOW_S + 310, TickStatus.SKIPPED)
    sensor.tick(after_s=60)
    assert [state for state, _ in of(webhook, name)] == ["failed", "recovered"]
