"""What checks look at of views and services is drawn together, and is what each of them would have drawn alone."""

import dagster as dg
import pytest
from feature_store_deploy.checks import moments, samples
from feature_store_deploy.checks.declared import DRIFT, RANGE
from feature_store_deploy.checks.policy import checks_of
from feature_store_deploy.checks.samples import moments as moments_of
from feature_store_deploy.checks.service_drift import measure_service_drift
from feature_store_deploy.checks.values import OF_VIEW, evaluate_values
from feature_store_deploy.checks.window import Days
from orders_world import DAYS, Shop, day, midnight

from feature_store import Check, agg
from feature_store.history import reading

LAST = DAYS - 1
KEY = dg.AssetKey("spending")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("moments")).filled()


@pytest.fixture
def queries(monkeypatch):
    """The names of what `LakeReading.rows` had to read."""
    read = []

    class Counted(dict):
        def __setitem__(self, name, found):
            read.append(name)
            super().__setitem__(name, found)

    opened = reading.LakeReading.__init__

    def counted(self, *args, **options):
        opened(self, *args, **options)
        if self._remembered is not None:
            self._remembered = Counted()

    monkeypatch.setattr(reading.LakeReading, "__init__", counted)
    return read


@pytest.mark.parametrize("knowledge", ["served", "corrected"])
def test_a_views_events_are_read_once_for_its_own_checks_and_for_its_service(shop, queries, monkeypatch, knowledge):
    monkeypatch.setattr(moments, "knowledge_of", lambda _: knowledge)
    with shop.store() as store:
        view, service, orders = (
            store.registry.view("spending"),
            store.registry.service("pricing"),
            store.registry.source("orders"),
        )
        days = [day(LAST - (knowledge == "served"))]

        of_view = moments.sample_view(store, view, days, anew=True)
        of_service = moments.sample_service(store, service, orders, days, anew=True, knowledge=knowledge)

        spine = moments_of(store, orders, view.entity.join_keys, days, anew=True)
        alone = store.get_historical_features(spine, service, knowledge=knowledge, allow_incomplete=True)
        hindsight = store.get_historical_features(spine, service, knowledge="corrected", allow_incomplete=True)
    assert len(queries) == 1
    assert len(of_view) > 20
    values = [of_service.table.column(n).to_pylist() for n in range(len(alone.feature_columns))]
    assert values == [alone.table.column(name).to_pylist() for name in alone.feature_columns]
    mine = [of_view.table.column(name.split(":")[1]).to_pylist() for name in of_service.table.column_names[:-1]]
    assert mine == [hindsight.table.column(name).to_pylist() for name in hindsight.feature_columns]


def test_moments_are_among_the_events_that_are_drawn_of_the_day(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "EVENTS", 40)
    monkeypatch.setattr(samples, "MOMENTS", 15)
    with Shop(tmp_path).filled().store() as store:
        orders = store.registry.source("orders")
        drawn = samples.sample_events(store, orders, [day(LAST)], anew=True)
        reads = []
        monkeypatch.setattr(samples, "_query", lambda *_: reads.append(1))

        found = samples.moments(store, orders, ["shop"], [day(LAST)], anew=True)

        monkeypatch.undo()
        monkeypatch.setattr(samples, "EVENTS", 40)
        monkeypatch.setattr(samples, "MOMENTS", 15)
        asked = samples.moments(store, orders, ["shop", "order_id"], [day(LAST)], anew=True)  # ids are not kept
    assert reads == []
    assert 0 < len(found) < len(drawn) < 150
    shown = [[each["event_timestamp"] for each in table.to_pylist()] for table in (found, asked)]
    assert sorted(shown[0]) == sorted(shown[1])


def test_a_days_events_are_read_once_for_what_is_counted_and_for_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "EVENTS", 40)
    days = [day(LAST - 1), day(LAST)]
    with Shop(tmp_path).filled().store() as store:
        orders, reads, query = store.registry.source("orders"), [], samples._query
        monkeypatch.setattr(samples, "_query", lambda store, sql: reads.append(sql) or query(store, sql))

        apart = samples.count_events(store, orders, days[1:], ["count(*)", "min(_event_us)"])
        drawn = samples.sample_events(store, orders, days[1:], anew=True)
        once = len(reads)
        both = samples.count_events(store, orders, days, ["count(*)", "min(_event_us)"])  # one of them is drawn
        counts = store.lake.counts("orders", days, snapshot=store.lake.snapshot())
    assert once == 1
    assert apart == both[1:]
    assert {each: count for each, count, _ in both} == counts
    assert 0 < len(drawn) < counts[days[1]]


@pytest.mark.parametrize("named", [False, True])
def test_a_lifetime_count_is_drawn_only_if_a_check_names_it(tmp_path, named):
    by = {"checks": {"drift": {"ever": 0.3}}} if named else {}
    features = [agg.count(over=None, name="ever"), agg.sum("amount", over=None, name="taken")]
    shop = Shop(
        tmp_path,
        view={"features": features, **by},
        service={"checks": {"drift": {"spending:ever": 0.3}}} if named else {},
    )

    with shop.filled().store() as store:
        view, service = store.registry.view("spending"), store.registry.service("pricing")
        of_view = moments.sample_view(store, view, [day(LAST)], anew=True)
        of_service = moments.sample_service(
            store, service, store.registry.source("orders"), [day(LAST)], anew=True, knowledge="corrected"
        )

    expected = ["ever", "taken"] if named else ["taken"]
    assert of_view.table.column_names == [*expected, "_day"]
    assert of_service.table.column_names == [*(f"spending:{name}" for name in expected), "_day"]
    assert len(of_view) > 20


def test_a_view_of_lifetime_counts_alone_reads_nothing(tmp_path, queries):
    shop = Shop(tmp_path, view={"features": [agg.count(over=None, name="ever")]})
    with shop.filled().store() as store:
        view = store.registry.view("spending")
        assert len(moments.sample_view(store, view, [day(LAST)], anew=True)) == 0
        said = list(
            evaluate_values(
                store, view, view.source, KEY, checks_of(view, OF_VIEW), days=Days(first=day(LAST), last=day(LAST))
            )
        )
    assert queries == []
    assert [(each.check_name, each.passed) for each in said] == [(name, True) for name in OF_VIEW]


def test_features_are_compared_as_soon_as_history_fills_their_windows(tmp_path):
    features = [agg.count(over="1d"), agg.mean("amount", over="1d"), agg.mean("amount", over="7d")]
    shop = Shop(tmp_path, view={"features": features})
    shop.change = {LAST: lambda rows: [{**row, "amount": 1000.0} for row in rows]}
    with shop.store() as store:
        store.load("orders", start=midnight(DAYS - 11), end=midnight(DAYS))
        view, service = store.registry.view("spending"), store.registry.service("pricing")
        well, broken = (Days(first=day(number), last=day(number)) for number in (LAST - 1, LAST))

        of_view = [*evaluate_values(store, view, view.source, KEY, {DRIFT: Check()}, days=well, in_a_load=True)]
        of_service = measure_service_drift(store, service, KEY, Check(), days=well, in_a_load=True)
        [bounds] = evaluate_values(store, view, view.source, KEY, {RANGE: Check()}, days=broken)

    assert of_view[0].metadata["figures"].value.keys() == {"count_1d", "amount_mean_1d"}  # 7 of 10 days are too few
    assert {each.name for each in of_service.figures} == {"spending:count_1d", "spending:amount_mean_1d"}
    assert (bounds.passed, bounds.metadata["worst"].value) == (False, "amount_mean_1d")
