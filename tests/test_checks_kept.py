"""Samples of days are drawn once, anew when the lake has changed, and the oldest go."""

import pyarrow as pa
import pytest
from feature_store_deploy.checks import kept
from orders_world import Shop, day, midnight


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("kept"))


def test_a_day_is_drawn_once_and_anew_when_asked_after_the_lake_has_changed(shop):
    drawn = []

    with shop.store() as store:
        folder = kept.folder_of(store, "x", "meaning")

        def draw(days):
            drawn.append([each.day for each in days])
            return {folder: pa.table({"n": list(range(len(days))), "_day": pa.array(days, pa.date32())})}

        def ask(*numbers, anew=False):
            return kept.kept_days(store, folder, [day(n) for n in numbers], draw, anew=anew)

        assert ask() is None
        assert ask(0, 1).num_rows == 2
        assert ask(1, 2).column("_day").to_pylist() == [day(1), day(2)]
        ask(1, anew=True)
        assert drawn == [[1, 2], [3]]
        store.load("orders", start=midnight(0), end=midnight(1))
        ask(1)
        assert drawn == [[1, 2], [3]]
        ask(1, anew=True)
        assert drawn == [[1, 2], [3], [2]]
        assert folder != kept.folder_of(store, "x", "another meaning")


def test_more_days_may_be_asked_for_than_stay(shop, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_SAMPLES", 2)
    with shop.store() as store:
        folder = kept.folder_of(store, "many", "meaning")

        def draw(days):
            return {folder: pa.table({"n": list(range(len(days))), "_day": pa.array(days, pa.date32())})}

        for numbers in (range(5), range(3, 9)):
            days = [day(n) for n in numbers]
            found = kept.kept_days(store, folder, days, draw, anew=False)

            assert found.column("_day").to_pylist() == days
            assert len(list(folder.iterdir())) == 2


def test_only_the_newest_files_stay(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.parquet").touch()

    kept.drop_older(tmp_path.glob("*.parquet"), keep=2)

    assert len(list(tmp_path.iterdir())) == 2
