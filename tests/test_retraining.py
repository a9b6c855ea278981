"""Drift over its limit proposes a training set once, or starts one; its manifest is then the candidate for the baseline."""

from pathlib import Path

import dagster as dg
import pytest
from dagster_world import evaluations, quiet, run
from feature_store_deploy.assets import training
from feature_store_deploy.assets.keys import training_key
from feature_store_deploy.checks.drifted import Drifted
from feature_store_deploy.checks.retraining import TAG, said_of
from feature_store_deploy.checks.values import OF_SOURCE
from orders_world import A_DAY, Shop, midnight

from feature_store import FeatureService

TRAINING = dg.AssetKey(["dev", "training", "pricing"])
SENSOR = "dev__training__pricing__retraining_sensor"


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


class Sensor:
    """As the daemon drives it."""

    def __init__(self, shop):
        self._repository = shop.definitions.get_repository_def()
        self._sensor, self._shop, self.cursor = self._repository.get_sensor_def(SENSOR), shop, None

    def tick(self):
        with quiet(), dg.build_sensor_context(
            instance=self._shop.instance, cursor=self.cursor, repository_def=self._repository
        ) as context:  # fmt: skip
            data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor if data.cursor is not None else self.cursor
        return data


def drift(shop, *features):
    """What the check of the service has found: nothing, or these features over their limits."""
    metadata = {
        "drifted": dg.MetadataValue.json(list(features)),
        "report_link": dg.MetadataValue.url("file:///reports/page.html"),
        "baseline": dg.MetadataValue.text("/training/first.json"),
    }
    shop.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=TRAINING, check_name="drift", passed=not features, metadata=metadata)
    )


def proposals(shop):
    """The evaluations of `retraining`, the newest first."""
    key = dg.AssetCheckKey(TRAINING, "retraining")
    records = shop.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    return [record.event.dagster_event.asset_check_evaluation_data for record in records]


def test_a_proposal_is_made_once_for_each_change_and_taken_back(shop):
    sensor = Sensor(shop)
    assert sensor.tick().skip_message == "nothing has changed"

    for _ in range(2):
        drift(shop, "spending:kind")
        proposed = sensor.tick()
        sensor.tick()

    assert not proposed.run_requests
    [told] = proposals(shop)
    assert not told.passed
    assert told.severity is dg.AssetCheckSeverity.WARN
    assert told.metadata["owner"].value == "team:ml"
    assert told.metadata[TAG].value == "proposed"
    assert told.description == (
        "'pricing@1' has moved away from what its model was trained on: spending:kind; baseline /training/first.json; "
        "report file:///reports/page.html; next: materialize `training/pricing`, train, and accept its manifest: "
        "`feature-store baseline pricing@1 MANIFEST`"
    )

    drift(shop)
    sensor.tick()
    sensor.tick()
    assert [each.passed for each in proposals(shop)] == [True, False]
    drift(shop, "spending:count_1d")
    sensor.tick()
    assert [each.passed for each in proposals(shop)] == [False, True, False]


def test_a_proposal_names_the_asset_and_the_service_of_its_version():
    service = FeatureService("pricing", features=[], version=2)
    found = Drifted(number=1, features=("x",), report=None, baseline=None, candidate=None, reference=None)

    said = said_of(found, service, training_key("prod", service), started=False)

    assert said.endswith(
        "next: materialize `training/pricing_v2`, train, and accept its manifest: `feature-store baseline pricing@2 MANIFEST`"
    )


def test_a_run_is_started_where_the_settings_say_so_and_drift_stays_until_its_manifest_is_pinned(tmp_path, monkeypatch):
    monkeypatch.setattr("feature_store_deploy.checks.drift.evidently_distances", lambda *_, **__: {})  # a slow import
    monkeypatch.setattr(training, "DEFAULT_ROWS", A_DAY)  # the newest day, which has drifted
    shop = Shop(tmp_path, retraining="start", drift_days=8, source={"checks": dict.fromkeys(OF_SOURCE)})
    shop.change = {11: lambda rows: [{**row, "amount": 10.0 * (row["amount"] or 100)} for row in rows]}
    with shop.store() as store:
        store.load("orders", start=midnight(0), end=midnight(12))
    sensor, wanted = Sensor(shop), {dg.AssetCheckKey(TRAINING, "drift")}
    proposed = shop.run(checks=wanted)["training/pricing:drift"]

    [request] = sensor.tick().run_requests
    assert sensor.tick().run_requests == []
    assert proposals(shop)[0].description.count("a run of it has been started") == 1

    assert request.asset_selection == [TRAINING]
    result = run(shop.definitions, shop.instance, request.asset_selection, tags=request.tags)
    assert result.success
    assert result.dagster_run.tags[TAG] == request.tags[TAG]
    with shop.store() as store:
        pinned, candidate = store.baselines("pricing")
    assert pinned is None
    assert candidate.path.endswith(f"{result.run_id}.json")

    stands = evaluations(result)["training/pricing:drift"]
    assert (proposed.passed, stands.passed) == (False, False)
    assert stands.metadata["reference"].value == proposed.metadata["reference"].value
    assert stands.metadata["candidate"].value == candidate.path
    sensor.tick()
    assert not proposals(shop)[0].passed
    with shop.store() as store:
        store.pin_baseline("pricing", Path(candidate.path))
    accepted = shop.run(checks=wanted)["training/pricing:drift"]
    assert accepted.passed
    assert accepted.metadata["baseline"].value == candidate.path
    sensor.tick()
    assert proposals(shop)[0].passed


def test_it_can_be_turned_off(tmp_path):
    names = {each.name for each in Shop(tmp_path / "off", retraining="off").definitions.sensors}
    without = {
        each.name for each in Shop(tmp_path / "without", service={"checks": {"drift": None}}).definitions.sensors
    }

    assert SENSOR not in names | without
