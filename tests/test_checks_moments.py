"""What checks look at of views and services is drawn together, and is what each of them would have drawn alone."""

import pytest
from feature_store_deploy.checks import moments
from feature_store_deploy.checks.samples import moments_sql
from orders_world import DAYS, Shop, day

from feature_store.history import reading

LAST = DAYS - 1


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

        spine = moments_sql(store, orders, view.entity.join_keys, days)
        alone = store.get_historical_features(spine, service, knowledge=knowledge, allow_incomplete=True)
        hindsight = store.get_historical_features(spine, service, knowledge="corrected", allow_incomplete=True)
    assert len(queries) == 1
    assert len(of_view) > 20
    values = [of_service.table.column(n).to_pylist() for n in range(len(alone.feature_columns))]
    assert values == [alone.table.column(name).to_pylist() for name in alone.feature_columns]
    mine = [of_view.table.column(name.split(":")[1]).to_pylist() for name in of_service.table.column_names[:-1]]
    assert mine == [hindsight.table.column(name).to_pylist() for name in hindsight.feature_columns]
