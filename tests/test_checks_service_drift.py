"""A service of which no source has all join keys is measured all the same: by what readers were served, or by its baseline's entities."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
import pytest
from feature_store_deploy.assets.keys import training_key
from feature_store_deploy.assets.training import write_training_set
from feature_store_deploy.checks.declared import DRIFT, judged
from feature_store_deploy.checks.policy import check_of
from feature_store_deploy.checks.service_drift import measure_service_drift
from feature_store_deploy.checks.window import Days
from lake_rows import begun
from orders_world import FIRST, day, midnight
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.cli.app import run
from feature_store.clock import ManualClock
from feature_store.proof.layout import served_layout
from feature_store.proof.served_table import append_served
from feature_store.time_rule import to_us

Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]
DAYS, A_DAY, SHIFTED = 12, 150, 10
"""Days of the world, events of each source a day, and the day from which on amounts may have moved."""
LAST = Days(first=day(DAYS - 1), last=day(DAYS - 1))
FEATURES = ["shops:amount_mean_1d", "users:amount_mean_1d"]


class Visit(pa.DataFrameModel):
    event: Series[str]
    user: Series[str]
    at: Series[Time]
    amount: Series[float]


class Sale(pa.DataFrameModel):
    event: Series[str]
    shop: Series[str]
    at: Series[Time]
    amount: Series[float]


class Pair:
    """Visits of users and sales of shops: no event has both a user and a shop, and the service needs both."""

    def __init__(self, home):
        self.shift = 0.0
        views = [self._view("users", "user", Visit), self._view("shops", "shop", Sale)]
        self.registry = Registry(views=views, services=[FeatureService("both", features=views, owner="team:ml")])
        self.service = self.registry.service("both")
        self.settings = Settings(home=begun(home, "dev"), redis_url="redis://127.0.0.1:1/0", drift_days=8)
        self.clock = ManualClock(to_us(midnight(DAYS)))

    def _view(self, name, key, schema):
        def load(start, end):
            days = range((start.date() - FIRST).days, (end.date() - FIRST).days)
            rows = [row for n in days for row in self._events(n, key)]
            kinds = [("event", arrow.string()), (key, arrow.string()), ("at", arrow.timestamp("us", "UTC"))]
            return arrow.Table.from_pylist(rows, schema=arrow.schema([*kinds, ("amount", arrow.float64())]))

        source = EventSource(
            f"{name}_events", schema=schema, event_time="at", event_id="event", load=load, history_start=FIRST
        )
        features = agg.mean("amount", over="1d").features()
        return FeatureView(name, entity=Entity(key, join_keys=[key]), source=source, features=features)

    def _events(self, number, key):
        draw = np.random.default_rng([number, len(key), key == "user"])
        amounts = 100 + 20.0 * (np.arange(A_DAY) % 5) + draw.normal(0, 5, A_DAY)
        amounts += self.shift if number >= SHIFTED else 0.0
        return [
            {"event": f"{number}-{n}", key: f"{key}{n % 5}", "at": at(number, n), "amount": amounts[n]}
            for n in range(A_DAY)
        ]

    def store(self):
        return FeatureStore(self.registry, settings=self.settings, clock=self.clock)

    def load(self, first, last):
        with self.store() as store:
            for source in self.registry.sources:
                store.load(source, start=midnight(first), end=midnight(last))

    def trained(self, *, keys=True):
        """The manifest of a training set of the first days, with or without the join keys beside its features."""
        rows = [
            {"user": f"user{i % 5}", "shop": f"shop{i // 2}", "event_timestamp": at(n, 15 * i)}
            for n in range(1, 8) for i in range(10)
        ] * 5  # fmt: skip
        with self.store() as store:
            found = store.get_historical_features(pd.DataFrame(rows), self.service, allow_incomplete=True)
            if not keys:
                found = replace(found, table=found.table.drop_columns(["user", "shop"]))
            return write_training_set(found, store.training_folder(self.service), "first").with_suffix(".json")

    def drift(self, **asked):
        check = check_of(self.service, DRIFT)
        with self.store() as store:
            key = training_key("dev", self.service)
            found = measure_service_drift(store, self.service, key, check, **{"days": LAST, "in_a_load": True, **asked})
        name = dg.AssetCheckKey(key, DRIFT)
        return judged(found, key=name, owner="team:ml", severity=dg.AssetCheckSeverity.ERROR)

    def serve(self, number, amount):
        """Vectors of a day, as readers log them, with both features about an amount."""
        with self.store() as store:
            layout = served_layout(store.compiled, "both@1")
            draw = np.random.default_rng(number)
            rows = [
                {"vector_id": f"{number}-{n}", "service": "both@1", "served_us": to_us(at(number, n)),
                 **{each.column: amount + draw.normal(0, 5) for each in layout.features},
                 **{each.status: 0 for each in layout.features}}
                for n in range(A_DAY)
            ]  # fmt: skip
            rows = [{name: row.get(name) for name in layout.schema.names} for row in rows]
            append_served(store.compiled, store.lake, arrow.Table.from_pylist(rows, schema=layout.schema))


def at(number, n):
    return midnight(number) + timedelta(seconds=n * 86_400 // A_DAY + 60)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.setattr("feature_store_deploy.checks.drift.evidently_distances", lambda *_, **__: {})  # a slow import
    return Pair(tmp_path)


def drifted(found):
    return sorted(found.metadata["drifted"].value)


def test_the_baselines_entities_are_asked_for_on_the_day_where_no_source_has_all_keys(pair):
    pair.load(0, DAYS)
    manifest = pair.trained()
    with pair.store() as store:
        store.pin_baseline("both", manifest)
        manifest.with_suffix(".parquet").unlink()
    alike, elsewhen = pair.drift(), pair.drift(reference=Days(first=day(4), last=day(5)))
    pair.shift = 80.0
    pair.load(SHIFTED, DAYS)

    moved, by_days = pair.drift(), pair.drift(reference=Days(first=day(4), last=day(5)))

    assert (alike.passed, elsewhen.passed) == (True, True)
    assert (moved.passed, drifted(moved), drifted(by_days)) == (False, FEATURES, FEATURES)
    assert moved.metadata["sampled"].value == "the join keys of the baseline's rows, each at its time of day"
    assert moved.metadata["sample_size"].value == 350
    assert moved.metadata["baseline"].value == str(manifest)
    assert "baseline" not in by_days.metadata
    assert by_days.metadata["reference"].value == f"{day(4)}/{day(5)}"


def test_what_readers_were_served_comes_first_where_it_was_logged(pair):
    pair.load(0, DAYS)
    for n in range(SHIFTED - 3, SHIFTED):
        pair.serve(n, 100.0)
    pair.serve(SHIFTED, 101.0)
    pair.serve(DAYS - 1, 180.0)
    before = Days(first=day(SHIFTED), last=day(SHIFTED))

    alike, moved = pair.drift(days=before), pair.drift()
    pair.trained()
    against = pair.drift()

    assert (alike.passed, drifted(moved), drifted(against)) == (True, FEATURES, FEATURES)
    assert moved.metadata["sampled"].value == "vectors that readers have logged"
    assert against.metadata["reference"].value.endswith("first.json (not pinned)")


def test_what_cannot_be_measured_is_a_warning_that_says_what_to_do_and_baseline_says_it_too(pair, monkeypatch, capsys):
    monkeypatch.setattr("feature_store.cli.baseline.FeatureStore", pair.store)
    assert pair.drift(days=None).description == "there are no events yet"
    pair.load(DAYS - 4, DAYS)

    found = pair.drift(days=None)
    run(["baseline", "both"])
    manifest = pair.trained(keys=False)
    still = pair.drift()
    run(["baseline", "both", str(manifest)])
    run(["baseline", "both"])

    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["days"].value == str(LAST)
    assert found.description == still.description == (
        f"nothing to compare: no source has all the columns shop, user, {LAST} has too few logged vectors, and no baseline "
        "has these columns; make a training set with a `spine` of them and accept it with `feature-store baseline both@1 "
        "MANIFEST`, or have vectors logged (`log_rate`)"
    )  # fmt: skip
    told, wrong = capsys.readouterr()
    assert wrong == ""
    told = told.splitlines()
    only = "only where vectors are logged: no source has all the columns shop, user, nor has the training set"
    assert told[0] == (
        "both@1: no baseline and no training set; drift is measured against the days before, only where vectors are "
        "logged: no source has all the columns shop, user"
    )
    assert told[1].endswith(f"drift is measured against it from now on, {only}")
    assert told[2].endswith(f"pinned 0 s ago; drift is measured against it, {only}")
