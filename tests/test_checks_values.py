"""A broken day turns its checks red and names what is wrong; the mended day turns them green."""

from dataclasses import dataclass, field
from datetime import date
from types import SimpleNamespace

import dagster as dg
import pytest
from feature_store_deploy.checks.volume import WEEKS, expected, measure_volume, weekdays_before
from feature_store_deploy.checks.window import Days
from orders_world import A_DAY, DAYS, Shop, day, midnight

from feature_store import Check
from feature_store.clock import ManualClock
from feature_store.lake.books.commits import Days as LakeDays
from feature_store.time_rule import to_us

LAST = DAYS - 1
EVENTS = "events/orders"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    # Drift has tests of its own, because Evidently takes seconds to import.
    return Shop(tmp_path_factory.mktemp("shop"), source={"checks": {"drift": None}}).filled()


def changed(rows, *, fewer=1, missing=0, factor=1, strange=0):
    """A day's rows: a part of them, one in `missing` amounts gone, amounts multiplied, one in `strange` of a new kind."""
    for row in rows[: len(rows) // fewer]:
        number = int(row["order_id"].split("-")[1])
        if row["amount"] is not None:
            row["amount"] *= factor
        if missing and number % missing == 0:
            row["amount"] = None
        if strange and number % strange == 0:
            row["kind"] = "fax"
    return rows[: len(rows) // fewer]


def broken(**how):
    return lambda rows: changed(rows, **how)


def test_a_broken_day_is_red_and_names_what_is_wrong_and_the_mended_one_is_green(shop):
    shop.change = {LAST: broken(fewer=3, missing=3, factor=100, strange=5)}
    red = shop.run(EVENTS, first=LAST)
    shop.change = {}
    mended = shop.run(EVENTS, first=LAST)

    expected = {
        "volume": ("events", "50 events, 150 ± 12 on 4 Thursdays before"),
        "missing_rate": ("amount", "18 of 50"),
        "range": ("amount", "32 of 32 beyond"),
        "categories": ("kind", "10 of 50 unseen before"),
    }
    for check, (name, said) in expected.items():
        found = red[f"{EVENTS}:{check}"]
        assert not found.passed, check
        told = {key: value.value for key, value in found.metadata.items()}
        assert told["worst"] == name
        assert (
            told["figures"][name] == told["figure"] == told[f"figure: {name}"] > told["limit"] == told["limits"][name]
        )
        assert (told["days"], told["owner"], told["sample_size"]) == (str(day(LAST)), "team:shop", A_DAY // 3)
        assert told["reference"]
        assert told["method"]
        assert said in found.description
        warns = check in ("range", "categories")
        assert found.severity is (dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR)
    assert set(mended) == {f"{EVENTS}:{each}" for each in ("schema", *expected)}
    assert all(each.passed for each in mended.values()), mended


def test_a_day_that_a_backfill_breaks_is_found_among_the_others(shop):
    shop.change = {LAST - 2: broken(missing=3)}

    found = shop.run(EVENTS, first=LAST - 6, last=LAST, tags={"dagster/backfill": "some"})
    shop.change = {}
    with shop.store() as store:
        store.load("orders", start=midnight(LAST - 2), end=midnight(LAST - 1))

    assert f"{day(LAST - 2)}: " in found[f"{EVENTS}:missing_rate"].description
    assert not found[f"{EVENTS}:missing_rate"].passed
    assert found[f"{EVENTS}:volume"].passed


def test_the_features_of_a_view_are_looked_at_as_they_were_before_events(shop):
    keys = {dg.AssetCheckKey(dg.AssetKey(["dev", "tiles", "spending"]), name) for name in ("missing_rate", "categories", "range")}  # fmt: skip
    config = {"ops": {"dev__tiles__spending__checks": {"config": {"days": str(day(LAST - 1))}}}}

    found = shop.run(checks=keys, run_config=config)

    assert {name: each.passed for name, each in found.items()} == {
        "tiles/spending:missing_rate": True, "tiles/spending:categories": True, "tiles/spending:range": True,
    }  # fmt: skip
    assert found["tiles/spending:missing_rate"].metadata["figures"].value.keys() == {
        "count_1d",
        "amount_mean_1d",
        "kind",
    }
    assert found["tiles/spending:categories"].metadata["figures"].value == {"kind": 0.0}
    assert found["tiles/spending:range"].metadata["reference"].value == f"{day(LAST - 29)}/{day(LAST - 2)}"


def test_declared_limits_severity_and_blocking_are_kept(tmp_path):
    shop = Shop(
        tmp_path,
        source={
            "checks": {
                "drift": None,
                "categories": None,
                "volume": None,
                "missing_rate": Check(limit=0.001, blocking=True),
                "range": Check(by={"amount": (0, 100)}, severity="error"),
                "schema": Check(blocking=False),
            }
        },
        view={"tags": {"pii": "pseudonymous"}},
    )

    found = shop.run(EVENTS, "tiles/spending", first=0, succeeds=False)

    assert set(found) == {f"{EVENTS}:{name}" for name in ("schema", "missing_rate", "range")}
    missing, bounds = found[f"{EVENTS}:missing_rate"], found[f"{EVENTS}:range"]
    assert (missing.passed, missing.metadata["limits"].value["amount"]) == (False, 0.001)
    assert (bounds.passed, bounds.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert bounds.metadata["figures"].value["amount"] > 0.3
    assert bounds.metadata["reference"].value == "the declaration"
    assert "beyond" not in bounds.description  # bounds that are learned are values of persons
    built = shop.instance.get_latest_materialization_event(dg.AssetKey(["dev", "tiles", "spending"]))
    assert built is None  # what was built from it waits


def test_the_newest_whole_day_is_looked_at_when_no_run_says_which(shop):
    keys = {dg.AssetCheckKey(dg.AssetKey(["dev", "events", "orders"]), "volume")}

    found = shop.run(checks=keys)

    assert found[f"{EVENTS}:volume"].metadata["days"].value == str(day(LAST))


def test_a_lake_without_events_is_no_defect(tmp_path):
    shop = Shop(tmp_path)
    keys = {dg.AssetCheckKey(dg.AssetKey(["dev", "events", "orders"]), "drift")}

    found = shop.run(
        checks=keys, run_config={"ops": {"dev__events__orders__checks": {"config": {"days": str(day(0))}}}}
    )

    assert found[f"{EVENTS}:drift"].passed
    assert found[f"{EVENTS}:drift"].description == "there are no events yet"


def test_a_young_source_from_which_nothing_comes_any_more_is_red(tmp_path):
    shop = Shop(tmp_path)
    shop.change = {LAST: lambda _: []}
    with shop.store() as store:
        store.load("orders", start=midnight(DAYS - 11), end=midnight(DAYS))
        [figure] = measure_volume(store, store.registry.source("orders"), Days.up_to(day(LAST), 1), Check()).figures

    assert figure.is_over
    assert figure.said == f"{day(LAST)}: 0 events, at least {A_DAY} on days before"


@dataclass
class Counted:
    """What a lake knows of the days up to `LAST`, loaded or live; None: nothing was loaded, or nothing came."""

    events: tuple[int | None, ...]
    live: bool = False
    removed: int = 0
    """So many of the first days by their retention."""
    clock: ManualClock = field(default_factory=lambda: ManualClock(to_us(midnight(DAYS))))

    @property
    def lake(self):
        return self

    @property
    def retention(self):
        return self

    def kept_from(self, _, *, snapshot):
        assert snapshot == self.snapshot()
        return day(DAYS - len(self.events) + self.removed) if self.removed else None

    def once(self, _, find):
        return find()

    def counts(self, _, days, *, snapshot):
        assert snapshot == self.snapshot()
        begin = DAYS - len(self.events)
        return {each: (self.events[(each - day(begin)).days] if each >= day(begin) else 0) or 0 for each in days}

    def days(self, _, *, snapshot):
        assert snapshot == self.snapshot()
        begin = DAYS - len(self.events)
        known = [day(begin + n) for n, count in enumerate(self.events) if count is not None]
        return LakeDays([], known, 0) if self.live else LakeDays(known, [], 0)

    def has_source(self, _):
        return True

    def snapshot(self):
        return 1


def alarms(counted):
    found = measure_volume(counted, SimpleNamespace(name="orders"), Days.up_to(day(LAST), 1), Check())
    return [each.said for each in found.figures if each.is_over]


@pytest.mark.parametrize(
    ("events", "live"),
    [
        ((300,) * 10 + (40,), False),
        ((300,) * 4 + (0,), False),
        ((300,) * 10 + (None,), True),
        ((300,) * 10 + (None,) * 8, True),
    ],
    ids=["hardly anything comes", "nothing comes", "nothing comes any more", "for a week nothing has come"],
)
def test_a_young_source_is_red_while_hardly_anything_comes(events, live):
    assert len(alarms(Counted(events, live))) == 1


@pytest.mark.parametrize(
    ("events", "live"),
    [
        ((300, 0), False),
        ((10, 50, 200, 1000, 4000, 9000, 9000, 9000, 12_000), False),
        ((300, 300, 300, 300, 30), False),
        ((300, 300, 300, 300, 300, 20, 0, 300, 300, 300, 300, 300, 20, 0), False),
        ((300, 300, 300, 300, 300, None, None, 300, 300, 300, 300, 300, None), True),
        ((3, 2, 1, 4, 2, 3, 1, 2, 0), False),
        ((0,) * 9, False),
        ((300,) * 10 + (None,), False),
    ],
    ids=[
        "it begins", "it grows", "a quieter weekday is new", "weekends are quiet", "nothing comes at weekends", "a few come",
        "none ever came", "the day was never loaded",
    ],
)  # fmt: skip
def test_a_young_source_that_is_well_is_green(events, live):
    assert alarms(Counted(events, live)) == []


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kept", [10, 40])
def test_days_that_retention_has_removed_say_nothing(kept, live):
    removed = (0,) * (60 - kept)

    assert alarms(Counted((*removed, *(300,) * (kept + 1)), live, len(removed))) == []
    assert len(alarms(Counted((*removed, *(300,) * kept, 0), live, len(removed)))) == 1


@pytest.mark.parametrize("weeks", [1, 5], ids=["young", "with weekdays before"])
def test_a_day_is_judged_when_it_is_over_and_the_days_before_it_at_once(weeks):
    half = Counted((*(300,) * 7 * weeks, 10))
    half.clock.move_to(to_us(midnight(DAYS)) - 1)

    found = measure_volume(half, SimpleNamespace(name="orders"), Days.up_to(day(LAST), 1), Check())
    assert (found.figures, found.sample_size) == ([], 10)
    assert found.said == f"{day(LAST)}: not over yet; judged when it is"

    low = Counted((*(300,) * 7 * weeks, 10, 5), clock=half.clock)
    both = measure_volume(low, SimpleNamespace(name="orders"), Days.up_to(day(LAST), 2), Check())
    assert [each.said[:10] for each in both.figures if each.is_over] == [str(day(LAST - 1))]

    half.clock.move_to(to_us(midnight(DAYS)))
    assert len(alarms(half)) == 1


def test_a_weekday_is_compared_with_the_same_weekday():
    saturday = date(2024, 4, 6)

    before = weekdays_before(saturday)

    assert len(before) == WEEKS
    assert {each.weekday() for each in before} == {saturday.weekday()}
    assert max(before) == date(2024, 3, 30)
    assert expected([40, 42, 1000, 44]).deviations(42) < 1  # one odd week does not count
    assert expected([40, 42]) is None
