"""Windows that are read from tiles of past days are, to the last bit, those that are read from their events."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from lake_rows import begun
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.clock import ManualClock
from feature_store.history import window_rows
from feature_store.history.tiles import tiles_table
from feature_store.history.training import get_historical_features, open_reading
from feature_store.registry import meanings_of
from feature_store.time_rule import to_us

START, DAYS, A_DAY = datetime(2024, 1, 1, tzinfo=UTC), 12, 60
DAY = timedelta(days=1)
UNBUILT, AGAIN, SILENT, HALF_SILENT = 3, 5, 6, 7
"""Days that were never built, were loaded again after that, and of which no event, or only some, say when they arrived."""


class Sale(pandera.DataFrameModel):
    uid: Series[str]
    shop: Series[str] = pandera.Field(nullable=True)
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    seen: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, nullable=True)
    amount: Series[float] = pandera.Field(nullable=True)


def sales(day, *, count=A_DAY):
    """A day's sales: one in six comes up to four days late, some lack a shop or an amount."""
    draw = np.random.default_rng(day)
    at = [START + day * DAY + timedelta(seconds=int(s)) for s in draw.integers(0, 86_400, count)]
    late = np.where(draw.random(count) < 1 / 6, draw.integers(0, 4 * 86_400, count), 5)
    silent = day == SILENT or (day == HALF_SILENT and draw.random(count) < 0.5)
    seen = [
        None if hidden else time + timedelta(seconds=int(by))
        for time, by, hidden in zip(at, late, np.broadcast_to(silent, count), strict=True)
    ]
    return {
        "uid": [f"{day}-{n}" for n in range(count)],
        "shop": [None if n % 20 == 7 else f"s{n % 5}" for n in range(count)],
        "at": at,
        "seen": seen,
        "amount": [None if n % 9 == 4 else float(value) for n, value in enumerate(draw.normal(10, 5, count))],
    }


class World:
    """A store with its days built, but for those that a test is about."""

    def __init__(self, home):
        self.again = False
        source = EventSource(
            "sales", schema=Sale, event_time="at", event_id="uid", load=self.load, arrival="seen", timezone="UTC"
        )
        entity = Entity("shop", join_keys=["shop"])
        sums = FeatureView(
            "sums", entity=entity, source=source, where="amount > 4 OR amount IS NULL",
            features=[agg.count(over="7d"), agg.mean("amount", over="4d"), agg.sum("amount", over=None, name="ever"),
                      agg.stddev("amount", over="36h"), agg.mean("amount", over="5d", hop="1d", name="daily")],
        )  # fmt: skip
        ends = FeatureView(
            "ends", entity=entity, source=source,
            features=[agg.min("amount", over="3d"), agg.max("amount", over="6h"), agg.count(over="3d", name="n")],
        )  # fmt: skip
        newest = FeatureView("newest", entity=entity, source=source, features=[agg.last("amount", over="3d")])
        self.views, other = [sums, ends, newest], sums.keyed(shop="other", prefix="other_")
        self.registry = Registry(views=self.views, services=[FeatureService("all", features=[*self.views, other])])
        self.store = FeatureStore(
            self.registry, settings=Settings(home=begun(home, "dev")), clock=ManualClock(to_us(START + DAYS * DAY))
        )
        self.store.load("sales", start=START, end=START + DAYS * DAY)
        for view in self.views:
            self.store.materialize(view.id, start=START, end=START + UNBUILT * DAY)
            self.store.materialize(view.id, start=START + (UNBUILT + 1) * DAY, end=START + DAYS * DAY)
        self.again = True
        self.store.load("sales", start=START + AGAIN * DAY, end=START + (AGAIN + 1) * DAY)

    def load(self, start, end):
        days = range((start - START).days, (end - START).days)
        tables = [pa.table(sales(d, count=A_DAY + 15 * self.again), schema=SCHEMA) for d in days]
        return pa.concat_tables(tables)

    def asked(self, features, spine, *, knowledge, tiles, beside=None):
        store = self.store
        with open_reading(store.lake, tiles=tiles, beside=beside) as reading:
            return get_historical_features(
                store.compiled, store.lake, spine, features, knowledge=knowledge, allow_incomplete=True, reading=reading,
                statuses=True,
            )  # fmt: skip


TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [("uid", pa.string()), ("shop", pa.string()), ("at", TIME), ("seen", TIME), ("amount", pa.float64())]
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("tiles"))
    with made.store:
        yield made


def spine(day, *, rows=40):
    draw = np.random.default_rng([day, rows])
    times = [START + day * DAY + timedelta(seconds=int(s)) for s in draw.integers(0, 86_400, rows)]
    shops = [f"s{n % 6}" if n % 11 else None for n in range(rows)]
    return pa.table({"shop": shops, "other": shops[::-1], "event_timestamp": pa.array(times, TIME)})


@pytest.mark.parametrize("knowledge", ["served", "corrected"])
@pytest.mark.parametrize("day", [7, 8, 11])
@pytest.mark.parametrize("are_found", [False, True])
def test_values_and_what_rows_knew_are_those_of_the_events(world, tmp_path, knowledge, day, are_found):
    tiles = {tiles_table(view): ("sales", meanings_of(view)) for view in world.views}

    from_tiles = world.asked(
        "all", spine(day), knowledge=knowledge, tiles=tiles, beside=tmp_path if are_found else None
    )

    from_events = world.asked("all", spine(day), knowledge=knowledge, tiles=None)
    assert from_tiles.table.equals(from_events.table)
    assert from_tiles.manifest == from_events.manifest
    counted = from_events.table.column("sums__count_7d").to_pylist()
    assert len({*counted}) > 5


def tiled_days(world, view, day, *, knowledge, monkeypatch):
    """Days of each hop that are read from tiles, and as single events."""
    seen = []
    of = window_rows.past_tiles
    monkeypatch.setattr(window_rows, "past_tiles", lambda *a, **k: seen.append(of(*a, **k)) or seen[-1])
    world.asked(
        [view],
        spine(day),
        knowledge=knowledge,
        tiles={tiles_table(each): ("sales", meanings_of(each)) for each in world.views},
    )
    [found] = seen
    if found is None:
        return None
    return [[(each - START.date()).days for each in days] for days in (found.days, found.rest, found.late)]


def test_days_are_read_from_tiles_where_these_hold(world, monkeypatch):
    sums, ends, newest = world.views

    assert tiled_days(world, sums, 11, knowledge="corrected", monkeypatch=monkeypatch) == [
        [0, 1, 2, 4, 6, 7, 8, 9, 10], [UNBUILT, AGAIN, 11], []
    ]  # fmt: skip
    tiles, events, late = tiled_days(world, sums, 11, knowledge="served", monkeypatch=monkeypatch)
    assert (tiles, events) == ([0, 1, 2, 4, 6, 8, 9, 10], [UNBUILT, AGAIN, HALF_SILENT, 11])
    assert {9, 10} <= {*late} <= {8, 9, 10}
    assert tiled_days(world, ends, 11, knowledge="corrected", monkeypatch=monkeypatch)[0] == [7, 8, 9, 10]
    assert tiled_days(world, ends, 11, knowledge="served", monkeypatch=monkeypatch) is None  # nothing leaves a minimum
    assert tiled_days(world, newest, 11, knowledge="corrected", monkeypatch=monkeypatch) is None


def test_a_build_of_another_definition_does_not_hold(world):
    sums = world.views[0]
    with open_reading(world.store.lake, tiles={tiles_table(sums): ("sales", ["count_7d=other"])}) as reading:
        assert not reading.tiled(tiles_table(sums))
    with open_reading(world.store.lake, tiles={tiles_table(sums): ("sales", meanings_of(sums))}) as reading:
        assert len(reading.tiled(tiles_table(sums))) == DAYS - 2
