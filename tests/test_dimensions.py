"""Tables of what holds since when: their latest rows are features, as of any moment, nulls and all."""

import random
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    InputError,
    ManualClock,
    Registry,
    Settings,
    Status,
    agg,
    csv,
    dimension,
    parquet,
    redis_stream,
)
from feature_store.log.publish import publish_events
from feature_store.registry import fingerprint
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import compile_registry

START, DAY = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=1)
DAYS = 40
COLUMNS = ["merchant", "site", "category", "rating", "closed", "valid_from"]


class Merchant(pandera.DataFrameModel):
    merchant: str
    site: int
    category: str = pandera.Field(nullable=True)
    rating: float = pandera.Field(nullable=True)
    closed: bool
    valid_from: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def merchants(load=None, **options):
    return dimension(
        "merchants", schema=Merchant, key=["merchant", "site"], valid_from="valid_from", load=load, **options
    )


def view(source, name="merchant", **options):
    return FeatureView(
        name,
        entity=Entity("merchant", join_keys=["merchant", "site"]),
        source=source,
        features=[
            agg.latest("category", name="category"),
            agg.latest("rating", name="rating"),
            agg.latest("CASE WHEN NOT closed THEN category END", name="open_category"),
            agg.count(over=None, name="changes"),
        ],
        **options,
    )


def row(merchant, at, *, site=1, category="toys", rating=1.0, closed=False):
    return dict(zip(COLUMNS, (merchant, site, category, rating, closed, at), strict=True))


def table(rows):
    schema = compile_registry(Registry(views=[view(merchants())])).schemas["merchants"]
    return pa.Table.from_pylist(rows, schema=schema)


# --- values ---------------------------------------------------------------------------------------------------------


def test_a_row_holds_from_just_after_its_moment_until_the_next_and_its_nulls_are_values(replay):
    #    a: toys           null             food
    #       |0-------------|1d--------------|2d----->
    rows = [
        row("a", START),
        row("a", START + DAY, category=None, rating=None),
        row("a", START + 2 * DAY, category="food"),
    ]
    live = view(merchants(log=redis_stream("merchants")))
    daily = view(merchants(), name="daily", online="batch", freshness_sla="2d")
    trained = view(merchants(), name="trained", online=None)
    for each in (live, daily, trained):
        result = replay(each, {"merchants": [*rows[::-1], rows[0]]})
        key = {"merchant": "a", "site": 1}

        def category(at, name=f"{each.name}:category", key=key, result=result):
            return result.at(name, time=at, **key), result.status(name, time=at, **key).name

        assert [rejection.kind for rejection in result.rejected] == ["duplicate"]
        assert category(START) == (None, "EMPTY")
        assert category(START + DAY) == ("toys", "PRESENT"), "the row that begins now does not hold before now"
        after = timedelta(0) if each.is_batch else timedelta(microseconds=1)
        assert category(START + DAY + (DAY if each.is_batch else after)) == (None, "EMPTY")
        assert category(START + 3 * DAY) == ("food", "PRESENT")
        assert result.at(f"{each.name}:changes", time=START + 3 * DAY, **key) == 3


def test_a_row_that_says_something_else_for_the_same_moment_is_a_conflict(replay):
    result = replay(
        view(merchants()), {"merchants": [row("a", START), row("a", START, category="food"), row("b", START)]}
    )

    assert [(rejection.event, rejection.kind) for rejection in result.rejected] == [(1, "conflict")]
    assert "event id 'a|1|1704067200000000' was seen before" in result.rejected[0].reason
    assert result.at("merchant:category", time=START + DAY, merchant="a", site=1) == "toys"


def test_ids_of_several_columns_do_not_run_into_each_other(replay):
    rows = [row("a|1", START, category="x"), row("a", START, category="y", site=11), row("a%7C1", START, category="z")]

    result = replay(view(merchants()), {"merchants": rows})

    assert not result.rejected
    found = [result.at("merchant:category", time=START + DAY, merchant=r["merchant"], site=r["site"]) for r in rows]
    assert found == ["x", "y", "z"]


def test_a_closed_merchant_has_no_category_by_an_expression(replay):
    result = replay(view(merchants()), {"merchants": [row("a", START), row("a", START + DAY, closed=True)]})

    found = [result.at("merchant:open_category", time=START + after, merchant="a", site=1) for after in (DAY, 2 * DAY)]
    assert found == ["toys", None]


# --- a whole store --------------------------------------------------------------------------------------------------


def history(seed=5):
    """Changes of some merchants over the days, times of day included."""
    draw = random.Random(seed)
    return [
        row(
            f"m{number % 7}",
            START + timedelta(seconds=draw.randrange(DAYS * 86_400)),
            site=draw.choice([1, 2]),
            category=draw.choice([None, "toys", "food", "books"]),
            rating=draw.choice([None, 0.5, 4.0]),
            closed=draw.random() < 0.1,
        )
        for number in range(120)
    ]


def brute_force(rows, merchant, site, at):
    """The newest row of the merchant that begins before a moment, by looking at each."""
    mine = sorted((r for r in rows if (r["merchant"], r["site"]) == (merchant, site)), key=lambda r: r["valid_from"])
    before = bisect_left([r["valid_from"] for r in mine], at)
    return mine[before - 1] if before else dict.fromkeys(COLUMNS)


def snapshots(folder, rows):
    """A full snapshot of the table for every tenth day: rows stand in all that come after them."""
    for day in range(10, DAYS + 1, 10):
        known = [r for r in rows if r["valid_from"] < START + day * DAY]
        pq.write_table(table(known), folder / f"{day:03}.parquet")
    return parquet(str(folder / "*.parquet"))


def one_file(folder, rows):
    pyarrow.csv.write_csv(table(rows), folder / "merchants.csv")
    return csv(str(folder / "merchants.csv"))


def whole_table(_folder, rows):
    return lambda _start, _end: table(rows)


@pytest.fixture
def make(tmp_path, valkey, environment):
    stores = []

    def build(load, *, clock):
        source = merchants(load)
        views = [
            view(source, name="trained", online=None),
            view(source, name="daily", online="batch", freshness_sla="36h"),
        ]
        service = FeatureService("shopping", features=[views[1]])
        settings = Settings(home=tmp_path / "home", redis_url=valkey.url, environment=environment.replace("-", "_"))
        stores.append(FeatureStore(Registry(views=views, services=[service]), settings=settings, clock=clock))
        return stores[-1]

    yield build
    for store in stores:
        store.close()


@pytest.mark.parametrize("loaded", [snapshots, one_file, whole_table])
def test_training_sees_what_held_at_each_moment(loaded, tmp_path, make):
    rows = history()
    store = make(loaded(tmp_path, rows), clock=ManualClock(to_us(START + DAYS * DAY)))
    result = store.load("merchants", start=START, end=START + DAYS * DAY)
    assert (result.rows, result.conflicts, result.rejected) == (len(rows), 0, 0)
    assert (result.duplicates > 0) == (loaded is snapshots)
    draw = random.Random(9)
    asked = [
        (f"m{draw.randrange(8)}", draw.choice([1, 2]), draw.choice(rows)["valid_from"] + timedelta(microseconds=after))
        for after in [0, 1, -1] * 300
    ]
    spine = pd.DataFrame(asked, columns=["merchant", "site", "event_timestamp"])

    found = store.get_historical_features(spine, ["trained:category", "trained:rating"], allow_incomplete=True)

    expected = [brute_force(rows, *each) for each in asked]
    table_found = found.to_arrow()
    assert table_found.column("trained__category").to_pylist() == [each["category"] for each in expected]
    assert table_found.column("trained__rating").to_pylist() == [each["rating"] for each in expected]


def test_a_published_dimension_is_not_stale_because_nothing_changes(tmp_path, make):
    rows = history()
    clock = ManualClock(to_us(START + (DAYS + 30) * DAY))  # the last change is a month ago
    store = make(one_file(tmp_path, rows), clock=clock)
    store.apply()
    store.load("merchants", start=START, end=START + (DAYS + 30) * DAY)
    last = START + (DAYS + 29) * DAY
    store.materialize("daily", start=last, end=last + DAY)

    published = store.publish_view("daily")

    keys = sorted({(r["merchant"], r["site"]) for r in rows})
    assert published.entities == len(keys)
    for merchant, site in keys:
        vector = store.get_online_features("shopping", {"merchant": merchant, "site": site})
        expected = brute_force(rows, merchant, site, last + DAY)
        for name in ("category", "rating"):
            status = Status.EMPTY if expected[name] is None else Status.PRESENT
            assert vector[f"daily:{name}"][:2] == (expected[name], status)
    nobody = store.get_online_features("shopping", {"merchant": "nobody", "site": 1})
    assert nobody["daily:changes"][:2] == (0, Status.EMPTY)
    spine = pd.DataFrame([keys[0]], columns=["merchant", "site"]).assign(event_timestamp=last + DAY)
    trained = store.get_historical_features(spine, "shopping").to_arrow()
    served = store.get_online_features("shopping", dict(zip(["merchant", "site"], keys[0], strict=True)))
    assert [trained.column(name)[0].as_py() for name in trained.column_names[3:]] == served.values


def test_a_conflict_in_a_snapshot_is_reported_and_the_rest_is_loaded(tmp_path, make):
    rows = [row("a", START + DAY), row("a", START + DAY, category="food"), row("b", START + DAY)]
    store = make(one_file(tmp_path, rows), clock=ManualClock(to_us(START + 3 * DAY)))

    result = store.load("merchants", start=START, end=START + 3 * DAY)

    assert (result.rows, result.conflicts) == (2, 1)
    with store.lake.cursor() as cursor:
        letters = cursor.execute("SELECT kind, event_id FROM " + store.lake.table_sql("rejected_events")).fetchall()
    assert letters == [("conflict", f"a|1|{to_us(START + DAY)}")]


# --- declarations ---------------------------------------------------------------------------------------------------


def test_a_snapshot_table_without_valid_from_is_refused_with_the_reason():
    with pytest.raises(InputError) as caught:
        dimension("merchants", schema=Merchant, key="merchant")
    assert str(caught.value) == (
        "dimension 'merchants' needs `valid_from`, the column that says since when a row holds: without it a training row "
        "of last year would see the values of today"
    )
    unknown = dimension("merchants", schema=Merchant, key="merchant", valid_from="since")
    with pytest.raises(DeclarationError, match="source 'merchants': unknown `event_time` column 'since'"):
        Registry(views=[view(unknown)])


def test_a_key_without_one_text_is_refused_and_so_is_a_null_in_it(replay):
    by_rating = EventSource("m", schema=Merchant, event_time="valid_from", event_id=["merchant", "rating"])
    with pytest.raises(DeclarationError, match="source 'm': `event_id` column 'rating': must be an integer, text"):
        compile_registry(Registry(views=[view(by_rating)]))
    by_category = EventSource("m", schema=Merchant, event_time="valid_from", event_id=["category", "valid_from"])
    registry = Registry(views=[view(by_category)])
    result = replay(registry, {"m": [row("a", START, category=None)]}, allow_rejected=True)
    assert [rejection.reason for rejection in result.rejected] == [
        "column 'category' or 'valid_from': must not be null"
    ]


def test_one_id_column_means_what_it_always_did():
    by_name, by_list = (
        EventSource("m", schema=Merchant, event_time="valid_from", event_id=i) for i in ("merchant", ["merchant"])
    )
    feature = view(by_name).feature("category")

    assert by_name.id_columns == by_list.id_columns == ("merchant",)
    assert fingerprint(view(by_name), feature) != fingerprint(view(merchants()), feature)


class Kept:
    """A log that keeps what is published."""

    def publish(self, records):
        self.records = records
        return []


def test_changes_of_one_thing_go_to_one_partition_however_their_time_is_written():
    source, log, clock = merchants(log=redis_stream("merchants", partitions=4)), Kept(), ManualClock(to_us(START))

    publish_events(source, log, [row("a", START), row("a", "2024-01-01T00:00:00Z")], clock=clock)

    assert [record.event_id for record in log.records] == ["a|1", "a|1"]
    with pytest.raises(InputError, match="row 0: the event id `site` is missing"):
        publish_events(source, log, [row("a", START, site=None)], clock=clock)


def test_the_first_day_of_a_dimension_is_declared_as_of_any_source():
    assert merchants(history_start=date(2000, 1, 1)).history_start == date(2000, 1, 1)
