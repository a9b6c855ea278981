"""CSV and Parquet that are not as they should be: what fits is loaded, the rest is reported with its path and line."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from sales_world import DAY, HEADER, START, accounted, events, load, opening, query, rejected

from feature_store import InputError
from feature_store.history.conform import conform
from feature_store.loaders import csv, parquet

ROW = "{},x,2024-03-30 10:00:00Z,{},1\n"


@pytest.fixture
def open_store(tmp_path):
    with opening(tmp_path) as build:
        yield build


def test_what_a_spreadsheet_and_two_systems_wrote_into_one_file_is_read(open_store, tmp_path):
    lines = [
        HEADER.rstrip() + "\r\n",
        ROW.format("a", 1),
        ROW.format("b", 2).rstrip() + "\r\n",
        "\n",
        ROW.format("c", 3).rstrip() + "\r",
        ROW.format("d", 4).rstrip(),
    ]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    store = open_store(csv(str(tmp_path / "a.csv")))

    result = load(store)

    assert (result.rows, result.rejected) == (4, 0)
    assert [(row[0], row[3]) for row in events(store)] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]


@pytest.mark.parametrize(
    "ends", [("\r", "\n", "\r\n"), ("\r", "\r", "\r"), ("\r\r\n", "\r", "\n"), ("\n", "\r\n", "\r")]
)
def test_line_ends_of_any_kind_may_be_mixed(ends, open_store, tmp_path):
    lines = [HEADER.rstrip(), ROW.format("a", 1).rstrip(), ROW.format("b", 2).rstrip()]
    (tmp_path / "a.csv").write_bytes("".join(map("".join, zip(lines, ends, strict=True))).encode())
    store = open_store(csv(str(tmp_path / "a.csv")))

    assert load(store).rejected == 0
    assert [(row[0], row[4]) for row in events(store)] == [("a", 1), ("b", 1)]


def test_utf16_in_the_middle_of_a_file_costs_the_rows_that_have_its_null_bytes(open_store, tmp_path):
    content = (HEADER + ROW.format("a", 1)).encode() + ROW.format("b", 2).encode("utf-16-le")
    (tmp_path / "a.csv").write_bytes(content + (ROW.format("c", 3) + ROW.format("d", 4)).encode())
    store = open_store(csv(str(tmp_path / "a.csv")))

    result = load(store)

    assert (result.rows, result.rejected) == (2, 2)
    assert [row[0] for row in events(store)] == ["a", "d"]
    said = sorted(reason for _, reason, _ in rejected(store))
    assert said[0].startswith(rf"'{tmp_path / 'a.csv'}', line 3: column 'uid': must be UTF-8, got 'b\x00'")
    assert said[1] == rf"'{tmp_path / 'a.csv'}', line 4: column 'uid': must be UTF-8, got '\x00c'"


def test_files_of_two_encodings_lose_only_what_cannot_be_read(open_store, tmp_path):
    text = HEADER + "{},Zürich,2024-03-30 10:00:00Z,1,1\n" + "{},x,2024-03-30 10:00:00Z,1,1\n"
    (tmp_path / "1.csv").write_text(text.format("a", "b"), encoding="utf-8")
    (tmp_path / "2.csv").write_text(text.format("c", "d"), encoding="latin-1")
    store = open_store(csv(str(tmp_path / "*.csv")))

    result = load(store)

    assert (result.rows, result.rejected) == (3, 1)
    assert [(row[0], row[1]) for row in events(store)] == [("a", "Zürich"), ("b", "x"), ("d", "x")]
    assert [reason for _, reason, _ in rejected(store)] == [
        rf"'{tmp_path / '2.csv'}', line 2: column 'shop': must be UTF-8, got 'Z\xfcrich'"
    ]


def test_a_row_that_is_no_utf8_is_reported_with_its_line_and_the_others_are_loaded(open_store, tmp_path):
    good, bad = ROW.format("a", 1) + "zoé,Zürich,2024-03-30 10:00:00Z,2,1\n", "c,Zürich,2024-03-30 10:00:00Z,3,1\n"
    (tmp_path / "a.csv").write_bytes(
        (HEADER + good).encode() + bad.encode("latin-1") + b"d,\xfc,2024\n" + ROW.format("e", 5).encode()
    )
    store = open_store(csv(str(tmp_path / "a.csv")))

    result = load(store)

    assert (result.rows, result.rejected) == (3, 2)
    assert [(row[0], row[1]) for row in events(store)] == [("a", "x"), ("e", "x"), ("zoé", "Zürich")]
    path = tmp_path / "a.csv"
    assert [reason for _, reason, _ in rejected(store)] == [
        rf"'{path}', line 5: 3 cells, but the header has 5",
        rf"'{path}', line 4: column 'shop': must be UTF-8, got 'Z\xfcrich'",
    ]


def test_rows_with_another_number_of_cells_are_kept_aside_with_their_text_and_true_line(open_store, tmp_path):
    text = (
        '"a","two\n\nlines",2024-03-30 10:00:00Z,1,1\n\nb,x\n'
        + ROW.format("c", "1,5")
        + ROW.format("d", "much")
        + ROW.format("e", 2)
    )
    (tmp_path / "a.csv").write_text(HEADER + text)
    store = open_store(csv(str(tmp_path / "a.csv")))

    result = load(store)

    assert (result.rows, result.rejected) == (2, 3)
    assert [row[1] for row in events(store)] == ["two\n\nlines", "x"]
    found = query(store, f"SELECT reason, payload FROM {store.lake.table_sql('rejected_events')} ORDER BY reason")
    path = tmp_path / "a.csv"
    assert [reason for reason, _ in found] == [
        f"'{path}', line 6: 2 cells, but the header has 5",
        f"'{path}', line 7: 6 cells, but the header has 5",
        f"'{path}', line 8: column 'amount': 'much' is not double",
    ]
    assert found[0][1] == b"b,x"


def test_a_record_that_is_no_row_counts_once_however_many_days_are_loaded(open_store, tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROW.format("a", 1) + "b\n")
    store = open_store(csv(str(tmp_path / "a.csv")))

    assert load(store, days=70).rejected == 1


def test_lines_and_counts_hold_across_the_blocks_a_file_is_read_in(open_store, tmp_path, monkeypatch):
    monkeypatch.setattr("feature_store.loaders.csv_stream._BLOCK", 256)
    monkeypatch.setattr("feature_store.loaders.csv_parts.PART_ROWS", 10)
    lines = [ROW.format(n, "many" if n % 10 == 3 else n) if n % 7 else "short,é\n" for n in range(200)]
    (tmp_path / "a.csv").write_text(HEADER + "".join(lines))
    store = open_store(csv(str(tmp_path / "a.csv")))

    result = load(store)

    bad = [n for n in range(200) if n % 7 and n % 10 == 3]
    short = [n for n in range(200) if n % 7 == 0]
    assert (result.rows, result.rejected) == (200 - len(bad) - len(short), len(bad) + len(short))
    said = {int(reason.partition("line ")[2].partition(":")[0]) for _, reason, _ in rejected(store)}
    assert said == {n + 2 for n in [*bad, *short]}


def test_a_column_that_changes_its_type_costs_the_rows_that_do_not_fit(open_store, tmp_path):
    def table(ids, items):
        at = pa.array([START] * len(ids), pa.timestamp("us", "UTC"))
        return pa.table({"uid": ids, "shop": ["x"] * len(ids), "at": at, "amount": [1.0] * len(ids), "items": items})

    big = 2**53 + 1
    pa.parquet.write_table(table(["a", "b"], [big, 2]), tmp_path / "2024-01.parquet")
    pa.parquet.write_table(table(["c", "d", "e"], ["3", "three", "1.5"]), tmp_path / "2024-06.parquet")
    pa.parquet.write_table(table(["f", "g"], [4.0, None]), tmp_path / "2024-07.parquet")
    store = open_store(parquet(str(tmp_path / "*.parquet")))

    result = load(store)

    assert (result.rows, result.rejected) == (5, 2)
    assert [(row[0], row[4]) for row in events(store)] == [("a", big), ("b", 2), ("c", 3), ("f", 4), ("g", None)]
    path = tmp_path / "2024-06.parquet"
    assert [reason for _, reason, _ in rejected(store)] == [
        f"'{path}', row 2: column 'items': 'three' is not int64",
        f"'{path}', row 3: column 'items': '1.5' is not int64",
    ]


def test_a_csv_column_that_changes_its_type_and_a_column_that_came_later(open_store, tmp_path):
    (tmp_path / "1.csv").write_text("at,uid,shop,amount\n2024-03-30 10:00:00Z,a,x,1\n")
    (tmp_path / "2.csv").write_text(
        "uid;shop;at;amount;items\nb;x;2024-03-30 10:00:00Z;one;1\nc;x;2024-03-30 10:00:00Z;1;2\n"
    )
    store = open_store(csv(str(tmp_path / "*.csv")))

    assert load(store).rejected == 1
    assert [(row[0], row[4]) for row in events(store)] == [("a", None), ("c", 2)]
    assert rejected(store)[0][1] == f"'{tmp_path / '2.csv'}', line 2: column 'amount': 'one' is not double"


def test_the_same_file_twice_is_one_file_and_counted_duplicates(open_store, tmp_path):
    for name in ("a.csv", "copy of a.csv"):
        (tmp_path / name).write_text(HEADER + ROW.format("a", 1) + ROW.format("b", 2))
    store = open_store(csv(str(tmp_path / "*.csv")))

    result = load(store)

    assert (result.rows, result.duplicates, result.conflicts, result.rejected) == (2, 2, 0, 0)


def sale(uid, **columns):
    """A table of one sale."""
    at = pa.array([START], pa.timestamp("us", "UTC"))
    return pa.table({"uid": [uid], "shop": ["x"], "at": at, "amount": [1.0], "items": [1]} | columns)


def test_a_copied_parquet_file_is_counted_and_one_that_says_otherwise_is_a_conflict(open_store, tmp_path):
    (tmp_path / "2024").mkdir()
    pa.parquet.write_table(sale("a"), tmp_path / "1.parquet")
    (tmp_path / "2024" / "link.parquet").symlink_to(tmp_path / "1.parquet")
    pa.parquet.write_table(sale("a", amount=[2.0]), tmp_path / "3.parquet")
    store = open_store(parquet(str(tmp_path / "**" / "*.parquet")))

    result = load(store)

    assert (result.rows, result.duplicates, result.conflicts, result.rejected) == (1, 1, 1, 0)
    assert [row[:4:3] for row in events(store)] == [("a", 1.0)]
    assert rejected(store) == [("a", "event id seen before with another payload", "conflict")]


def test_a_line_that_is_half_written_is_kept_aside_and_is_an_event_once_it_is_whole(open_store, tmp_path):
    whole = HEADER + ROW.format("a", 1) + ROW.format("b", 2)
    (tmp_path / "a.csv").write_text(whole[:-20])
    store = open_store(csv(str(tmp_path / "a.csv")))

    assert (load(store).rows, load(store).rejected) == (1, 1)
    assert [reason for _, reason, _ in rejected(store)] == [
        f"'{tmp_path / 'a.csv'}', line 3: 3 cells, but the header has 5"
    ]
    (tmp_path / "a.csv").write_text(whole)

    result = load(store)

    assert (result.rows, result.rejected) == (2, 0)
    assert [row[0] for row in events(store)] == ["a", "b"]


def test_nested_fields_are_columns_by_their_path(open_store, tmp_path):
    times = pa.array([START] * 2, pa.timestamp("us", "UTC"))
    payload = [{"amount": 1.5, "to": {"shop": "bath"}}, None]
    table = pa.table({"uid": ["a", "b"], "meta.at": times, "payload": payload, "items": [1, 2]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(
        'uid,payload,items\nc,"{""amount"": 2.5, ""to"": {""shop"": ""york""}, ""at"": ""2024-03-30T10:00:00Z""}",3\nd,no JSON,4\n'
    )
    names = {"payload.amount": "amount", "payload.to.shop": "shop"}
    store = open_store(parquet(str(tmp_path / "a.parquet"), rename=names | {"meta.at": "at"}))
    other = open_store(csv(str(tmp_path / "a.csv"), rename=names | {"payload.at": "at"}))

    load(store)
    load(other)

    assert [row[:2] + row[3:5] for row in events(store)] == [("a", "bath", 1.5, 1), ("b", None, None, 2)]
    assert [row[:2] + row[3:5] for row in events(other)] == [("c", "york", 2.5, 3)]
    assert rejected(other)[0][1].endswith("a.csv', line 3: column 'at': must not be null")


def time_that_became_a_number(tmp_path):
    pa.parquet.write_table(sale("a"), tmp_path / "2024-01.parquet")
    pa.parquet.write_table(sale("b", at=[1_711_792_800]), tmp_path / "2024-06.parquet")
    return (
        parquet(str(tmp_path / "*.parquet")),
        r"column 'at': the schema says TIMESTAMP .*, but the loaded rows have BIGINT \(from '.*2024-06.parquet', row 1 on\)",
    )


def latin_parquet(tmp_path):
    raw = pa.array([b"Z\xfcrich"], pa.binary()).buffers()
    pa.parquet.write_table(sale("a", shop=pa.Array.from_buffers(pa.string(), 1, raw)), tmp_path / "a.parquet")
    return parquet(
        str(tmp_path / "*.parquet")
    ), r'string encoding found in Parquet file ".*a.parquet": value "Z\\xFCrich"'


def half_written(tmp_path):
    pa.parquet.write_table(pa.table({"uid": ["a"] * 100}), tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(content[: len(content) // 2])
    return parquet(str(tmp_path / "*.parquet")), "files '.*' cannot be read: .*b.parquet'"


def utf16(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROW.format("a", 1), encoding="utf-16")
    return csv(str(tmp_path / "*.csv")), "a.csv', line 1: the file must be UTF-8, got null bytes, as UTF-16 has"


def latin_header(tmp_path):
    (tmp_path / "a.csv").write_bytes(HEADER.replace("shop", "geschäft").encode("latin-1"))
    return csv(str(tmp_path / "*.csv")), r"a.csv', line 1: the header must be UTF-8, got b'uid,gesch\\xe4ft"


def doubled_header(tmp_path):
    (tmp_path / "a.csv").write_text("uid,shop,at,amount,items,shop\n")
    return csv(str(tmp_path / "*.csv")), "a.csv', line 1: the header must name each column once, got 'shop' twice"


def open_quote(tmp_path):
    text = ROW.format("a", 1) + ROW.format('"b', 2) + ROW.format("c", 3)
    (tmp_path / "a.csv").write_text(HEADER + text)
    return csv(str(tmp_path / "*.csv")), "a.csv', line 3: a quote is opened here and never closed; is the file complete"


def open_quote_of_a_large_file(tmp_path):
    text = "".join(ROW.format(n, n) for n in range(200_000))
    (tmp_path / "a.csv").write_text(HEADER + ROW.format("a", 1) + ROW.format('"b', 2) + text)
    return csv(str(tmp_path / "*.csv")), "a.csv', line 3 or later: a quote is opened here and never closed"


def no_nested_field(tmp_path):
    pa.parquet.write_table(pa.table({"uid": ["a"], "payload": [{"amuont": 1}]}), tmp_path / "a.parquet")
    return parquet(
        str(tmp_path / "*.parquet"), rename={"payload.amount": "amount", "uid": "at"}
    ), "cannot be read: .*amount"


def nested_in_a_number(tmp_path):
    pa.parquet.write_table(pa.table({"uid": ["a"], "payload": [1]}), tmp_path / "a.parquet")
    return (
        parquet(str(tmp_path / "*.parquet"), rename={"payload.amount": "amount", "uid": "at"}),
        "takes 'payload.amount' from column 'payload', which must be a struct or a text that holds JSON, got BIGINT",
    )


def taken_name(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    return csv(str(tmp_path / "*.csv"), rename={"uid": "shop"}), "`rename` must give a new name, got 'shop', which is a"


@pytest.mark.parametrize(
    "case",
    [
        time_that_became_a_number,
        latin_parquet,
        half_written,
        utf16,
        latin_header,
        doubled_header,
        open_quote,
        open_quote_of_a_large_file,
        no_nested_field,
        nested_in_a_number,
        taken_name,
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(case, open_store, tmp_path):
    loader, message = case(tmp_path)
    store = open_store(loader)

    with pytest.raises(InputError, match=message):
        load(store)

    assert not accounted(store)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_is_written_while_it_is_read_is_named_and_nothing_is_written(name, open_store, tmp_path):
    path = tmp_path / name
    if name == "a.csv":
        path.write_text(HEADER + ROW.format("a", 1))
    else:
        at = pa.array([START], pa.timestamp("us", "UTC"))
        pa.parquet.write_table(pa.table({"uid": ["a"], "shop": ["x"], "at": at, "amount": [1.0], "items": [1]}), path)
    loader = (csv if name == "a.csv" else parquet)(str(path))

    parts = loader.parts(event_time="at", start=START, end=START + DAY)
    next(parts)
    with path.open("ab") as file:
        file.write(b"more")

    with pytest.raises(InputError, match=f"{name}' changed while it was read; write files under another name"):
        list(parts)


@pytest.mark.parametrize("change", ["appended", "replaced", "removed"])
def test_a_load_during_which_a_file_changes_writes_nothing(change, open_store, tmp_path, monkeypatch):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(HEADER + ROW.format(name, 1))
    store = open_store(csv(str(tmp_path / "*.csv")))

    def conform_slowly(*arguments, **options):
        path = tmp_path / "b.csv"
        if change == "removed":
            path.unlink(missing_ok=True)
        else:
            path.write_text((path.read_text() if change == "appended" else HEADER) + ROW.format("c", 2) * 2)
        return conform(*arguments, **options)

    monkeypatch.setattr("feature_store.history.loading.conform", conform_slowly)

    with pytest.raises(InputError, match=r"b\.csv"):
        load(store)

    assert not accounted(store)


def test_every_row_about_files_names_tests_that_are_here():
    page = (
        (Path(__file__).parent.parent / "docs" / "bad-input.md")
        .read_text()
        .partition("\n## In files\n")[2]
        .partition("\n## ")[0]
    )
    rows = [line.split(" | ")[-1] for line in page.splitlines() if line.startswith("| ")][2:]

    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named
        assert all(callable(globals().get(name)) for name in named), row
