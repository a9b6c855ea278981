"""What drift is measured against: a training set that was made while drift was over its limit counts once it is pinned."""

import dagster as dg
import pytest
from feature_store_deploy.assets.training import write_training_set
from feature_store_deploy.checks.drifted import Drifted, newest_drift, standard_of
from feature_store_deploy.checks.window import Days
from orders_world import Shop, day, midnight

TRAINING = dg.AssetKey(["dev", "training", "pricing"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("drifted"))
    with shop.store() as store:
        store.load("orders", start=midnight(0), end=midnight(1))
    return shop


def said(*features, baseline=None, candidate=None, reference="2024-03-01/2024-03-07"):
    return Drifted(
        number=1, features=features, report=None, baseline=baseline, candidate=candidate, reference=reference
    )


def test_a_training_set_counts_by_itself_only_if_it_was_made_while_drift_was_within_its_limits(shop):
    spine = f"SELECT shop, ordered AS event_timestamp FROM ({{}}) WHERE ordered < '{day(1)}' LIMIT 20"
    with shop.store() as store:
        service = store.registry.service("pricing")
        found = store.get_historical_features(spine.format(store.lake.events_sql("orders")), service)
        write = lambda name: str(  # noqa: E731
            write_training_set(found, store.training_folder(service), name).with_suffix(".json").absolute()
        )

        def against(last):
            standard = standard_of(store, service, last)
            names = [each.path if each else None for each in (standard.baseline, standard.candidate)]
            return (*names, standard.days)

        before = Days(first=day(0), last=day(6))
        assert against(None) == against(said("x")) == (None, None, None)
        first = write("first")
        assert against(None) == against(said()) == (first, None, None)
        assert against(said("x")) == against(said(candidate=first)) == (None, first, before)
        assert against(said("x", baseline=first)) == (first, None, None)
        second = write("second")
        assert against(said("x", baseline=first)) == (first, second, None)
        assert against(said(baseline=first, candidate=second)) == (first, second, None)  # the values have come back
        third = write("third")
        assert against(said(baseline=first, candidate=second)) == (third, None, None)
        assert against(said("x", baseline=first, candidate=second)) == (first, third, None)
        assert against(said("x", baseline="gone.json")) == (third, None, None)
        store.pin_baseline("pricing", store.training_folder(service) / "second.json")
        assert against(said("x", baseline=first)) == (second, third, None)


def test_what_measured_nothing_or_was_compared_with_other_days_by_request_decides_nothing(shop):
    def report(passed, **metadata):
        shop.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=TRAINING, check_name="drift", passed=passed, metadata=metadata)
        )

    assert newest_drift(shop.instance, TRAINING) is None
    report(False, drifted=["x"], baseline="first.json", candidate="second.json", reference="first.json (not pinned)")
    report(True, reference="none")
    report(True, drifted=[], reference_asked="2024-03-01/2024-03-07")

    assert newest_drift(shop.instance, TRAINING) == Drifted(
        number=1, features=("x",), report=None, baseline="first.json", candidate="second.json",
        reference="first.json (not pinned)",
    )  # fmt: skip
