"""Backfills beside the stream and beside each other, killed and run again: the rows of one clean run, bit for bit."""

import multiprocessing
import random
import shutil
import time
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_work import DAY, LIVE_ROWS, START, TILES, archive, archive_one, backfill, everything, sales, store_of, tiles

from feature_store import FeatureStore, Settings
from feature_store.history.loading import load
from feature_store.history.tiles import materialize_tiles
from feature_store.lake import Lake, LakeLocation

SPAWN = multiprocessing.get_context("spawn")
DAYS = 4
KILLS = 3


def days(first, last):
    return [START.date() + timedelta(days=number) for number in range(first, last + 1)]


# --- processes ------------------------------------------------------------------------------------------------------


def started(*arguments):
    process = SPAWN.Process(target=backfill, args=arguments)
    process.start()
    return process


def until(begun, process):
    while not begun.exists():
        assert process.is_alive()
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [1])
def test_backfills_that_overlap_and_are_killed_beside_the_archiver_leave_what_one_clean_run_leaves(tmp_path, seed):
    """Days 0-2 are backfilled by one process, which is killed again and again; days 1-3 by another; days 0-1 are live."""
    moments = random.Random(seed)
    place, alone = LakeLocation(tmp_path / "here" / "lake"), LakeLocation(tmp_path / "alone" / "lake")
    with store_of(place) as store:
        store.lake.ensure_source("sales", store.compiled.schemas["sales"])
    never, stop = tmp_path / "never", tmp_path / "stop"

    beside = started(place, (1, 3), tmp_path / "beside", stop)
    archiver = SPAWN.Process(target=archive, args=(place,))
    archiver.start()
    for number in range(KILLS):
        begun = tmp_path / f"begun{number}"
        killed = started(place, (0, 2), begun, never)
        until(begun, killed)
        time.sleep(moments.uniform(0, 0.5))
        assert killed.is_alive()
        killed.kill()
        killed.join()
    archiver.join()
    stop.touch()
    resumed = started(place, (0, 2), tmp_path / "resumed", stop)
    for process in (beside, resumed):
        process.join()

    assert [process.exitcode for process in (archiver, beside, resumed)] == [0] * 3
    with store_of(alone) as clean:
        clean.lake.ensure_source("sales", clean.compiled.schemas["sales"])
        archive(alone)
        clean.load("sales", start=START, end=START + DAYS * DAY)
        clean.materialize("shop_sales", start=START, end=START + DAYS * DAY)
        with store_of(place) as found:
            assert everything(found) == everything(clean)
            assert found.lake.builds.stale_days(TILES, source="sales") == []
            assert tiles(found.lake) == tiles(clean.lake)


# --- drawn interleavings --------------------------------------------------------------------------------------------


class KilledError(Exception):
    """The process of a backfill is gone."""


@dataclass
class Interleaved:
    """A lake in which something else happens between what a backfill has read and its commit."""

    lake: Lake
    before_commit: object

    def __getattr__(self, name):
        return getattr(self.lake, name)

    def replace_loaded(self, source, rows, *, days, **options):
        self.before_commit()
        return self.lake.replace_loaded(source, rows, days=days, **options)

    @property
    def partitions(self):
        return self

    def replace(self, table, rows, **options):
        self.before_commit()
        return self.lake.partitions.replace(table, rows, **options)


@dataclass
class Life:
    """What happens to a lake; `loaded` and `live` are what its events have to be."""

    store: FeatureStore
    coming: list
    source: dict
    loaded: dict = field(default_factory=dict)
    live: int = 0

    def happen(self, depth=0):
        """The next thing, inside of which the ones after it may happen."""
        what, first, last, dies, inside = self.coming.pop(0)
        if what == "live":
            archive_one(self.store.lake, self.live)
            self.live += 1
            return

        def before_commit():
            for _ in range(inside):
                if self.coming and depth < 2:
                    self.happen(depth + 1)
            if dies:
                raise KilledError

        try:
            self.run(what, days(first, last), Interleaved(self.store.lake, before_commit))
        except KilledError:
            self.coming.append((what, first, last, False, 0))  # whoever was interrupted runs again

    def run(self, what, chosen, lake):
        compiled = self.store.compiled
        if what == "build":
            materialize_tiles(compiled, lake, self.store.registry.view("shop_sales"), days=chosen)
            return
        self.source["generation"] += 1
        generation = self.source["generation"]
        load(
            compiled,
            lake,
            "sales",
            start=START + (chosen[0] - START.date()),
            end=START + (chosen[-1] - START.date()) + DAY,
        )
        self.loaded |= dict.fromkeys(chosen, generation)

    def expected(self):
        """Every event by day, whichever order it was written in."""
        return dict(sorted(self.loaded.items())), self.live * LIVE_ROWS


RANGES = st.sampled_from([(0, 3), (0, 1), (1, 2), (2, 3), (1, 3)])
STEPS = st.builds(
    lambda what, span, dies, inside: (what, *span, dies, inside),
    st.sampled_from(["load", "build", "build", "live"]),
    RANGES,
    st.booleans(),
    st.integers(0, 2),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A lake that has been loaded and built once."""
    place = LakeLocation(tmp_path_factory.mktemp("template") / "lake")
    with store_of(place) as store:
        store.load("sales", start=START, end=START + DAYS * DAY)
        store.materialize("shop_sales", start=START, end=START + DAYS * DAY)
    return place


def found_events(lake):
    """The generation of each loaded day, which is one, and how many live events there are."""
    with lake.cursor() as cursor:
        rows = cursor.execute(
            f"SELECT _day, min(amount), max(amount), count(*) FROM ({lake.events_sql('sales')}) "
            "WHERE _offset IS NULL GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        live = cursor.execute(
            f"SELECT count(*), count(DISTINCT uid) FROM ({lake.events_sql('sales')}) WHERE _offset IS NOT NULL"
        ).fetchone()
    assert all(low == high and count == 48 for _, low, high, count in rows), rows
    assert live[0] == live[1]
    return {day: int(low) for day, low, _, _ in rows}, live[0]


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=2, max_size=6))
def test_however_backfills_and_commits_interleave_what_the_books_call_fresh_is_a_clean_build(
    template, tmp_path_factory, steps
):
    home = tmp_path_factory.mktemp("life")
    shutil.copytree(template.directory, home / "lake")
    source = {"generation": 0}
    with FeatureStore(sales(lambda: source["generation"]), settings=Settings(home=home)) as store:
        life = Life(store, list(steps), source, dict.fromkeys(days(0, DAYS - 1), 0))
        while life.coming:
            life.happen()

        lake = store.lake
        assert found_events(lake) == life.expected()
        fresh, stale = lake.builds.fresh_days(TILES, source="sales"), lake.builds.stale_days(TILES, source="sales")
        assert sorted([*fresh, *stale]) == days(0, DAYS - 1)
        left = {day: tiles(lake, day) for day in fresh}
        materialize_tiles(store.compiled, lake, store.registry.view("shop_sales"), days=days(0, DAYS - 1))
        assert {day: tiles(lake, day) for day in fresh} == left
        assert lake.builds.stale_days(TILES, source="sales") == []
    shutil.rmtree(home)
