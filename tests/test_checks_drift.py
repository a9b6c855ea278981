"""A month with tripled delays turns the drift check red and names the column; the untouched month is green."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from dagster_world import evaluations, run
from feature_store_deploy.checks.distance import Asked, evidently_distances, quick_distances
from feature_store_deploy.checks.drift import measure_drift
from feature_store_deploy.checks.drifted import newest_drift
from feature_store_deploy.checks.samples import Sample
from feature_store_deploy.checks.values import OF_SOURCE
from feature_store_deploy.stack.definitions import build_definitions
from lake_rows import begun
from orders_world import DAYS, Shop, day, midnight

from feature_store.declare.check import Check
from feature_store.history.baseline import newest_manifest
from feature_store.registry import Registry, load_registry
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from features import flights

APRIL, MAY = datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 5, 1, tzinfo=UTC)
EVENTS = dg.AssetKey(["dev", "events", "departures"])
ONLINE = dg.AssetKey(["dev", "online", "airport_departures"])


class Month:
    """The departures around a month, whose delays a test may multiply."""

    def __init__(self, home):
        self.factor = 1
        declared = load_registry("features:registry").view("airport_departures")
        source = replace(declared.source, load=self.load)
        self.registry = Registry(views=[replace(declared, source=source, features=declared.features)])
        self.settings = Settings(home=begun(home))
        self.definitions = build_definitions(self.registry, self.settings)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(home))

    def load(self, start, end):
        rows = flights.load_departures(start, end)
        delays = rows.column("dep_delay")
        changed = pc.if_else(
            pc.greater_equal(rows.column("departed_at"), APRIL), pc.multiply(delays, self.factor), delays
        )
        changed = pc.min_element_wise(changed, 2880)  # what the schema allows
        changed = pc.max_element_wise(changed, -120)
        return rows.set_column(rows.schema.get_field_index("dep_delay"), "dep_delay", changed.cast("int64"))

    def check(self, *, first, last):
        """Load days and evaluate the checks of events and features for them."""
        loaded = run(self.definitions, self.instance, {EVENTS}, first=first, last=last)
        drift = dg.AssetCheckKey(ONLINE, "drift")
        config = {"ops": {"dev__online__airport_departures__checks": {"config": {"days": f"{first}/{last}"}}}}
        asked = run(self.definitions, self.instance, (), checks={drift}, run_config=config)
        assert loaded.success
        assert asked.success
        return evaluations(loaded) | evaluations(asked)


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    month = Month(tmp_path_factory.mktemp("drift"))
    with FeatureStore(month.registry, settings=month.settings) as store:
        store.load("departures", start=APRIL - timedelta(days=31), end=APRIL)
    return month


def test_the_untouched_month_is_green(month):
    month.factor = 1

    found = month.check(first="2013-04-01", last="2013-04-30")

    of_source = {"schema", "volume", "missing_rate", "range", "categories", "drift", "dead_letters"}
    assert {name: each.passed for name, each in found.items()} == {
        **{f"events/departures:{name}": True for name in of_source}, "online/airport_departures:drift": True,
    }  # fmt: skip
    drift = found["online/airport_departures:drift"]
    assert drift.metadata["days"].value == "2013-04-01/2013-04-30"
    assert drift.metadata["reference"].value == "2013-03-02/2013-03-31"
    assert drift.metadata["drifted"].value == []
    assert {"dep_delay", "distance", "origin", "carrier"} <= found["events/departures:drift"].metadata[
        "figures"
    ].value.keys()
    assert "report" not in found["events/departures:drift"].metadata  # a load does not wait for a page without a reason
    assert Path(drift.metadata["report"].value).stat().st_size > 100_000
    assert drift.metadata["report_link"].value.startswith("file:///")


def test_the_month_with_tripled_delays_is_red_and_names_the_column(month):
    month.factor = 3

    found = month.check(first="2013-04-01", last="2013-04-30")

    drift = found["events/departures:drift"]
    assert not drift.passed
    assert drift.severity is dg.AssetCheckSeverity.WARN
    assert drift.metadata["drifted"].value == ["dep_delay"]
    assert drift.description.startswith("dep_delay: ")
    assert drift.metadata["method"].value == "Evidently's distances, by column"
    assert drift.metadata["report_link"].value.startswith("file:///")
    assert found["events/departures:schema"].passed
    features = found["online/airport_departures:drift"]
    assert not features.passed
    assert "dep_delay_mean_24h" in features.metadata["drifted"].value
    assert not {"count_1h", "count_24h"} & set(features.metadata["drifted"].value)


DRAW = np.random.default_rng(5)
SPINE = {"dev__training__pricing": {"config": {"allow_incomplete": True}}}
AMOUNTS, WORDS = DRAW.lognormal(8, 1, 800), DRAW.choice(["a", "b", "c", None], 800, p=[0.5, 0.3, 0.1, 0.1])


def test_the_quick_distances_are_evidentlys():
    half = [Sample(pa.table({"x": AMOUNTS[part], "n": np.floor(AMOUNTS[part] / 3000), "w": list(WORDS[part])}))
            for part in (slice(0, 300), slice(250, None))]  # fmt: skip
    asked = [
        Asked(column="x", threshold=0.1, method="wasserstein", is_text=False),
        Asked(column="n", threshold=0.1, method="wasserstein", is_text=False),
        Asked(column="w", threshold=0.1, method="jensenshannon", is_text=True),
    ]

    quick = {each.column: each.distance for each in quick_distances(*half, asked)}

    assert quick == pytest.approx(evidently_distances(*half, asked, report=None), rel=1e-9)
    assert min(quick.values()) > 0.01


@pytest.mark.parametrize(
    ("size", "shift", "expected"), [(20, 0.0, []), (500, 0.0, []), (150, 0.5, ["x"]), (500, 0.5, ["x"])]
)
def test_chance_is_no_drift_and_half_a_standard_deviation_is(size, shift, expected):
    reference = np.random.default_rng(1).lognormal(8, 1, 4000)
    current = np.random.default_rng(2).lognormal(8, 1, size) + shift * reference.std()
    asked = [Asked(column="x", threshold=0.1, method="wasserstein", is_text=False)]

    found = quick_distances(Sample(pa.table({"x": current})), Sample(pa.table({"x": reference})), asked)

    assert [each.column for each in found if each.drifted] == expected


def heavy(draw):
    """Distributions whose next value may lie farther out than all before: by name."""
    return {
        "log-normal": lambda size: draw.lognormal(8, 2, size),
        "Pareto": lambda size: draw.pareto(1.0, size),
        "Student's t": lambda size: draw.standard_t(2, size),
        "mostly nothing": lambda size: np.where(draw.random(size) < 0.01, draw.lognormal(8, 1, size), 0.0),
        "rare giants": lambda size: np.where(draw.random(size) < 0.002, 1000.0, draw.normal(size=size)),
    }


def drift_of(current, reference):
    asked = [Asked(column="x", threshold=0.3, method="wasserstein", is_text=False)]
    [found] = quick_distances(Sample(pa.table({"x": current})), Sample(pa.table({"x": reference})), asked)
    return found


@pytest.mark.parametrize("name", heavy(None))
@pytest.mark.parametrize(("size", "known"), [(149, 1043), (149, 4000), (500, 3500)])
def test_the_few_values_that_heavy_tails_put_far_out_are_no_drift(name, size, known):
    draw = heavy(np.random.default_rng(3))[name]

    found = [drift_of(draw(size), draw(known)) for _ in range(150)]

    assert [each for each in found if each.drifted] == []


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("outliers", "expected"), [(5, False), (25, True)])
def test_values_beyond_all_of_the_reference_are_drift_once_they_are_too_many_for_chance(sign, outliers, expected):
    draw = np.random.default_rng(4)
    reference, current = draw.normal(size=1000), draw.normal(size=150)
    current[:outliers] = 50.0

    found = drift_of(sign * current, sign * reference)

    assert found.drifted is expected
    assert found.distance > 1


@pytest.mark.parametrize("name", heavy(None))
def test_a_shift_is_found_under_heavy_tails_where_most_values_move_by_half_a_standard_deviation(name):
    draw = heavy(np.random.default_rng(5))[name]
    reference = draw(2000)

    found = drift_of(draw(300) - 0.5 * reference.std(), reference)

    assert found.drifted


def test_a_model_whose_features_have_moved_is_told_against_its_baseline(tmp_path):
    shop = Shop(tmp_path, source={"checks": dict.fromkeys(OF_SOURCE)}).filled()
    training, last = dg.AssetKey(["dev", "training", "pricing"]), DAYS - 1
    wanted = {dg.AssetCheckKey(training, name) for name in ("drift", "retraining")}
    config = {"ops": {"dev__training__pricing__checks": {"config": {"days": str(day(last))}}}}
    alike = shop.run("training/pricing", run_config={"ops": {**config["ops"], **SPINE}})
    with shop.store() as store:
        manifest = newest_manifest(store.training_folder(store.registry.service("pricing")))
        store.pin_baseline("pricing", manifest)
    shop.change = {
        n: lambda rows: [{**row, "amount": (row["amount"] or 100) + 10} for row in rows] for n in (last - 1, last)
    }
    with shop.store() as store:
        store.load("orders", start=midnight(last - 1), end=midnight(last + 1))

    moved = shop.run(checks=wanted, run_config=config)

    assert alike["training/pricing:drift"].passed
    drift = moved["training/pricing:drift"]
    assert not drift.passed
    assert drift.metadata["drifted"].value == ["spending:amount_mean_1d"]
    assert drift.metadata["figures"].value.keys() == {"spending:count_1d", "spending:amount_mean_1d", "spending:kind"}
    assert drift.metadata["reference"].value == f"{manifest} (pinned)"
    assert drift.metadata["baseline"].value == str(manifest)
    assert Path(drift.metadata["report"].value).stat().st_size > 100_000
    told = newest_drift(shop.instance, training)
    assert (told.features, told.baseline) == (("spending:amount_mean_1d",), str(manifest))
    assert told.report == drift.metadata["report_link"].value


def sample(*values):
    return Sample(pa.table({"x": [float(v) for v in values] * 100}))


def drifted(current, reference, check):
    found = measure_drift(current, reference, check=check, default=0.5, report=None, said="before")
    return [each.name for each in found.figures if each.is_over]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, ["x"]),
        ({"x": 2.0}, []),
        ({"x": None}, []),
        ({"x": 0.01}, ["x"]),
        ({"x": ("psi", 0.1)}, ["x"]),
        ({"x": ("psi", 100.0)}, []),
    ],
)
def test_a_declaration_may_set_a_columns_method_and_threshold_or_not_watch_it(declared, expected):
    assert drifted(sample(1, 2, 3), sample(2, 3, 4), Check(by=declared)) == expected


def test_a_few_rows_say_nothing():
    few = Sample(pa.table({"x": [1.0]}))

    found = measure_drift(few, sample(5, 6), check=Check(), default=0.5, report=None, said="before")

    assert (found.figures, found.said) == ((), "too few rows to compare")
