"""Loaders and loading: files to events in the lake, what is no event to `rejected_events`, and clear errors."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import shop
from sales_world import DAY, HEADER, START, Sale, accounted, events, load, opening, rejected

from feature_store import EventSource, FeatureStore, InputError, Settings
from feature_store.errors import UnknownNameError
from feature_store.loaders import csv, parquet, read_file
from feature_store.schema import arrow_schema


@pytest.fixture
def open_store(tmp_path):
    with opening(tmp_path) as build:
        yield build


def written(path, text):
    path.write_text(HEADER + text)
    return str(path)


def test_cells_of_a_csv_are_read_by_the_types_of_the_schema(open_store, tmp_path):
    store = open_store(
        csv(written(tmp_path / "a.csv", "007,bath,2024-03-30 10:00:00Z,1.50,3\n08,,2024-03-31T11:00:00+02:00,,\n"))
    )

    result = load(store)

    assert (result.rows, result.rejected, result.days) == (2, 0, (date(2024, 3, 30), date(2024, 3, 31)))
    at = [START + timedelta(hours=10), START + DAY + timedelta(hours=9)]
    us = [int(moment.timestamp()) * 1_000_000 for moment in at]
    assert events(store) == [
        ("007", "bath", at[0], 1.5, 3, "007", us[0], None, date(2024, 3, 30)),
        ("08", None, at[1], None, None, "08", us[1], None, date(2024, 3, 31)),
    ]


def test_rows_that_are_no_events_are_kept_with_their_reason_and_cost_only_themselves(open_store, tmp_path):
    rows = [
        "a,bath,2024-03-30 10:00:00Z,1.5,3",
        "b,bath,2024-03-30 10:00:00Z,many,3",
        "c,bath,2024-03-30 10:00:00Z,-1,3",
        "d,bath,yesterday,1,3",
        ",bath,2024-03-30 10:00:00Z,1,3",
        "e,bath,,1,3",
    ]
    store = open_store(csv(written(tmp_path / "a.csv", "\n".join(rows) + "\n")))

    result = load(store)

    assert (result.rows, result.rejected) == (1, 5)
    place = f"'{tmp_path / 'a.csv'}', line "
    reasons = [
        (event_id, reason.removeprefix(place)) for event_id, reason, kind in rejected(store) if kind == "rejected"
    ]
    assert [event_id for event_id, _ in reasons] == [None, "b", "c", "d", "e"]
    assert reasons[0][1] == "6: column 'uid': must not be null"
    assert reasons[1][1] == "3: column 'amount': 'many' is not double"
    assert "column 'amount'" in reasons[2][1]
    assert "-1" in reasons[2][1]
    assert reasons[3][1] == "5: column 'at': 'yesterday' is not timestamp[us, tz=UTC]"
    assert reasons[4][1] == "7: column 'at': must not be null"


def test_naive_times_of_files_are_in_the_zone_of_the_source(open_store, tmp_path):
    # On 31 March 2024 Berlin's clocks went from +01:00 to +02:00.
    text = "a,x,2024-03-30 12:00:00,1,1\nb,x,2024-03-31 12:00:00,1,1\nc,x,2024-03-30 00:30:00,1,1\n"
    store = open_store(csv(written(tmp_path / "a.csv", text)), timezone="Europe/Berlin")

    load(store)

    assert [row[2] for row in events(store)] == [START + timedelta(hours=11), START + DAY + timedelta(hours=10)]


def test_parquet_is_read_for_the_wanted_range_only_with_columns_renamed(open_store, tmp_path):
    times = pa.array([START - DAY, START, START + DAY, START + 2 * DAY], pa.timestamp("us", "UTC"))
    table = pa.table(
        {"uid": list("abcd"), "store": ["x"] * 4, "at": times, "amount": [1.0] * 4, "items": [1.0, 2.0, None, 4.0]}
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    loader = parquet(str(tmp_path / "*.parquet"), rename={"store": "shop"})
    store = open_store(loader)

    read = loader.read(event_time="at", start=START, end=START + 2 * DAY)
    load(store)

    assert read.column("uid").to_pylist() == ["b", "c"]
    assert [(row[0], row[1], row[4]) for row in events(store)] == [("b", "x", 2), ("c", "x", None)]


def test_the_arrival_column_is_kept_and_an_event_from_the_future_is_rejected(open_store, tmp_path):
    (tmp_path / "a.csv").write_text(
        "uid,shop,at,amount,items,came\n"
        "a,x,2024-03-30 10:00:00Z,1,1,2024-03-30 11:00:00Z\n"
        "b,x,2024-03-30 10:02:00Z,1,1,2024-03-30 10:00:59Z\n"
        "c,x,2024-03-30 10:01:00Z,1,1,2024-03-30 10:00:00Z\n"
    )
    store = open_store(csv(str(tmp_path / "a.csv"), arrival="came"))

    assert load(store).rejected == 1
    assert [(row[0], (row[7] - row[6]) // 60_000_000) for row in events(store)] == [("a", 60), ("c", -1)]
    event_id, reason, _ = rejected(store)[0]
    assert event_id == "b"
    assert reason.endswith("a.csv', line 3: column 'at': later than its arrival by more than the tolerance of 1m")


def test_whole_floats_become_integers_and_others_are_rejected(open_store):
    def rows(_start, _end):
        at = pa.array([START] * 2, pa.timestamp("us", "UTC"))
        return pa.table({"uid": ["a", "b"], "shop": ["x"] * 2, "at": at, "amount": [1.0] * 2, "items": [2.0, 1.5]})

    store = open_store(rows)

    load(store)

    assert [(row[0], row[4]) for row in events(store)] == [("a", 2)]
    assert rejected(store)[0][:2] == ("b", "column 'items': 1.5 is not int64")


def test_a_function_may_yield_batches_whose_types_differ_and_more_than_was_asked_for(open_store):
    asked = []

    def rows(start, end):
        asked.append((start, end))
        for n, items in enumerate([[1, 2], ["3", "many"], [5.0, None]]):
            at = pa.array([START + n * DAY] * 2, pa.timestamp("us", "UTC"))
            ids = [f"{n}a", f"{n}b"]
            yield pa.record_batch({"uid": ids, "shop": ["x"] * 2, "at": at, "amount": [1.0] * 2, "items": items})

    store = open_store(rows)

    result = load(store)

    assert asked == [(START, START + 2 * DAY)]
    assert (result.rows, result.rejected) == (3, 1)
    assert [(row[0], row[4]) for row in events(store)] == [("0a", 1), ("0b", 2), ("1a", 3)]
    assert rejected(store)[0][:2] == ("1b", "column 'items': 'many' is not int64")


def test_a_function_that_yields_nothing_has_loaded_empty_days(open_store):
    store = open_store(lambda _start, _end: iter(()))

    assert load(store).rows == 0
    assert store.lake.days("sales").loaded == [date(2024, 3, 30), date(2024, 3, 31)]


def test_a_function_that_fails_between_two_batches_has_loaded_nothing(open_store):
    def rows(_start, _end):
        at = pa.array([START], pa.timestamp("us", "UTC"))
        yield pa.table({"uid": ["a"], "shop": ["x"], "at": at, "amount": [1.0], "items": [1]})
        raise ConnectionError("the other side hung up")

    store = open_store(rows)

    with pytest.raises(ConnectionError, match="the other side hung up"):
        load(store)

    assert not accounted(store)


def test_loading_again_gives_the_same_rows_and_an_empty_day_is_loaded_too(open_store, tmp_path):
    store = open_store(csv(written(tmp_path / "a.csv", "a,x,2024-03-30 10:00:00Z,1,1\n")))

    load(store)
    before = events(store)
    load(store)

    assert events(store) == before
    assert store.lake.days("sales").loaded == [date(2024, 3, 30), date(2024, 3, 31)]


def test_repeated_rows_are_counted_and_conflicting_ones_kept_aside(open_store, tmp_path):
    rows = "a,x,2024-03-30 10:00:00Z,1,1\n" * 2 + "b,x,2024-03-30 10:00:00Z,1,1\nb,x,2024-03-30 10:00:00Z,2,1\n"
    store = open_store(csv(written(tmp_path / "a.csv", rows)))

    result = load(store)

    assert (result.rows, result.duplicates, result.conflicts) == (2, 1, 1)


@pytest.mark.parametrize("many", [20, 25])
def test_what_memory_does_not_hold_waits_in_files_and_the_load_is_the_same(many, open_store, monkeypatch):
    def rows(_start, _end):
        for n in range(many):  # each id twice, one of them with another amount; some rows are no events
            at = pa.array([START + n * timedelta(hours=1)], pa.timestamp("us", "UTC"))
            item, shop = [n if n % 4 else -1.5], [None if n % 3 else "x"]
            yield pa.table({"uid": [f"u{n // 2}"], "shop": shop, "at": at, "amount": [n / 2], "items": item})

    whole = open_store(rows)
    expected = load(whole)
    monkeypatch.setattr("feature_store.loaders.part.PART_ROWS", 2)
    monkeypatch.setattr("feature_store.history.loading.HELD_ROWS", 4)
    parted = open_store(rows)

    found = load(parted)

    assert min(expected.rows, expected.rejected, expected.conflicts) > 0
    assert found == replace(expected, snapshot=found.snapshot)
    assert (events(parted), rejected(parted)) == (events(whole), rejected(whole))


def test_long_ranges_are_loaded_in_batches_of_days_and_a_row_without_a_time_counts_once(open_store, tmp_path):
    text = "".join(f"{n},x,{(START + n * DAY).isoformat()},1,1\n" for n in range(70)) + "none,x,,1,1\n"
    store = open_store(csv(written(tmp_path / "a.csv", text)))

    result = load(store, days=70)

    assert (result.rows, result.rejected) == (70, 1)
    assert len(rejected(store)) == 1


def no_file(tmp_path: Path):
    return csv(str(tmp_path / "none-*.csv")), "no file matches '.*none-\\*.csv'"


def empty_file(tmp_path: Path):
    (tmp_path / "empty.parquet").touch()
    return parquet(str(tmp_path / "empty.parquet")), "file '.*empty.parquet' is empty"


def damaged_file(tmp_path: Path):
    (tmp_path / "damaged.parquet").write_text("no Parquet at all, whatever its name says")
    return parquet(str(tmp_path / "damaged.parquet")), "files '.*damaged.parquet' cannot be read: "


def empty_csv(tmp_path: Path):
    (tmp_path / "empty.csv").touch()
    return csv(str(tmp_path / "empty.csv")), "file '.*empty.csv' is empty"


def missing_column(tmp_path: Path):
    (tmp_path / "a.csv").write_text("uid,shop,at,amonut,items\na,x,2024-03-30,1,1\n")
    return csv(str(tmp_path / "a.csv")), "source 'sales': loaded rows: unknown column 'amount'; did you mean 'amonut'"


def missing_time(tmp_path: Path):
    (tmp_path / "a.csv").write_text("uid,shop,when\na,x,2024-03-30\n")
    return csv(str(tmp_path / "a.csv")), "unknown event time column 'at'"


def missing_renamed(tmp_path: Path):
    (tmp_path / "a.csv").write_text("uid,shop,at\n")
    return csv(str(tmp_path / "a.csv"), rename={"place": "shop"}), "unknown column in `rename` 'place'"


def wrong_type(_tmp_path: Path):
    def rows(_start, _end):
        at = pa.array([START], pa.timestamp("us", "UTC"))
        return pa.table({"uid": ["a"], "shop": ["x"], "at": at, "amount": at, "items": [1]})

    return rows, "source 'sales', column 'amount': the schema says DOUBLE, but the loaded rows have TIMESTAMP WITH TIME"


def no_table(_tmp_path: Path):
    return (
        lambda _start, _end: [{"uid": "a"}]
    ), "source 'sales': `load` must return or yield pyarrow Tables or RecordBatches, got a dict"


def no_loader(_tmp_path: Path):
    return None, "source 'sales' has no `load=`"


@pytest.mark.parametrize(
    "case",
    [
        no_file,
        empty_file,
        empty_csv,
        damaged_file,
        missing_column,
        missing_time,
        missing_renamed,
        wrong_type,
        no_table,
        no_loader,
    ],
)
def test_a_wrong_loader_or_file_is_a_clear_error_and_nothing_is_written(case, open_store, tmp_path):
    loader, message = case(tmp_path)
    store = open_store(loader)

    with pytest.raises(InputError, match=message):
        load(store)

    assert not accounted(store)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (datetime(2024, 1, 1), START, "`start` must carry a time zone, got the naive datetime 2024-01-01T00:00:00"),  # noqa: DTZ001
        (START, START + timedelta(hours=5), "`end` must be midnight UTC, because whole days are written"),
        (START, START, "`start` must lie before `end`"),
    ],
)
def test_a_range_must_be_whole_days(start, end, message, open_store):
    store = open_store(lambda _start, _end: None)

    with pytest.raises(InputError, match=message):
        store.load("sales", start=start, end=end)


def test_an_unknown_source_names_those_that_exist(open_store):
    with pytest.raises(UnknownNameError, match="unknown source 'sale'; did you mean 'sales'"):
        open_store(None).load("sale", start=START, end=START + DAY)


def schema():
    return arrow_schema(EventSource("sales", schema=Sale, event_time="at", event_id="uid"))


def test_a_file_to_publish_has_the_types_of_the_schema(tmp_path):
    found = read_file(Path(written(tmp_path / "a [1].csv", "007,,2024-03-30 10:00:00+00,1.5,3\n")), schema())

    assert found.schema.types == schema().types
    assert found.to_pylist()[0] == {
        "uid": "007",
        "shop": None,
        "at": START + timedelta(hours=10),
        "amount": 1.5,
        "items": 3,
    }
    pa.parquet.write_table(found, tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet", schema()).to_pylist() == found.to_pylist()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,x,2024-03-30 10:00:00Z,many,3", "a.csv', row 1, column 'amount': 'many' is not double"),
        ("a,x,2024-03-30 10:00:00,1,3", "row 1, column 'at': '2024-03-30 10:00:00' is not a time with a zone"),
        ("a,x,yesterday,1,3", "row 1, column 'at': 'yesterday' is not a time with a zone"),
    ],
)
def test_a_cell_to_publish_that_does_not_fit_is_named(row, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_file(Path(written(tmp_path / "a.csv", row + "\n")), schema())


def test_only_known_kinds_of_files_can_be_published(tmp_path):
    with pytest.raises(InputError, match=r"a\.xlsx' must be a \.parquet or \.csv file"):
        read_file(tmp_path / "a.xlsx", schema())


def test_a_null_where_the_schema_allows_none_costs_its_row_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["p1,ada,10.0,2026-03-01 09:00:00Z", "p2,ada,,2026-03-01 09:10:00Z", "p3,,7.0,2026-03-01 09:20:00Z"]
    (tmp_path / "payments.csv").write_text("payment_id,customer,amount,paid_at\n" + "\n".join(rows) + "\n")

    with FeatureStore(settings=Settings(home=tmp_path / "home"), registry=shop.registry) as store:
        result = store.load("payments", start=datetime(2026, 3, 1, tzinfo=UTC), end=datetime(2026, 3, 2, tzinfo=UTC))
        reasons = rejected(store)

    assert (result.rows, result.rejected) == (1, 2)
    assert [(event_id, "line 3" in reason and "amount" in reason) for event_id, reason, _ in reasons] == [
        ("p2", True),
        ("p3", False),
    ]
