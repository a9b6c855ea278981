from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.decoders import Rejected, json
from feature_store.errors import InputError

SCHEMA = pa.schema(
    [
        pa.field("flight uid", pa.string(), nullable=False),
        pa.field("departed_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("dep_delay", pa.int64()),
        pa.field("distance", pa.float64()),
    ]
)
GOOD = b'{"flight uid": "u1", "departed_at": "2013-12-01T10:00:00Z", "dep_delay": 4, "distance": 1.5}'


def test_a_payload_becomes_a_row_of_the_schema_with_its_index() -> None:
    decoded = json().decode([GOOD], SCHEMA)

    assert decoded.rejected == []
    assert decoded.table.schema == SCHEMA.append(pa.field("_row", pa.int64(), nullable=False))
    assert decoded.table.to_pylist() == [
        {
            "flight uid": "u1",
            "departed_at": datetime(2013, 12, 1, 10, tzinfo=UTC),
            "dep_delay": 4,
            "distance": 1.5,
            "_row": 0,
        }
    ]


def test_no_payloads_give_an_empty_table_of_the_same_columns() -> None:
    decoded = json().decode([], SCHEMA)

    assert decoded.table.num_rows == 0
    assert decoded.table.column_names == [*SCHEMA.names, "_row"]


def test_a_zone_is_converted_to_utc() -> None:
    payload = b'{"flight uid": "u1", "departed_at": "2013-12-01T10:00:00.123456-05:00"}'

    (row,) = json().decode([payload], SCHEMA).table.to_pylist()

    assert row["departed_at"] == datetime(2013, 12, 1, 15, 0, 0, 123456, tzinfo=UTC)


def test_missing_and_null_are_null_where_the_column_may_be_null() -> None:
    payload = b'{"flight uid": "u1", "departed_at": "2013-12-01T10:00:00Z", "dep_delay": null}'

    (row,) = json().decode([payload], SCHEMA).table.to_pylist()

    assert (row["dep_delay"], row["distance"]) == (None, None)


def test_fields_that_the_schema_does_not_know_are_ignored() -> None:
    payload = GOOD[:-1] + b', "gate": {"terminal": [1, 2]}}'

    assert json().decode([payload], SCHEMA).table.num_rows == 1


def with_value(column: str, literal: str) -> bytes:
    row = {
        "flight uid": '"u1"',
        "departed_at": '"2013-12-01T10:00:00Z"',
        "dep_delay": "4",
        "distance": "1.5",
        column: literal,
    }
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in row.items()) + "}").encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Input data was truncated"),
        (b"bad", "JSON is malformed: invalid character (byte 0)"),
        (GOOD[:-1], "Input data was truncated"),
        (GOOD + b"," + GOOD, "JSON is malformed: trailing characters (byte 93)"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"departed_at": "2013-12-01T10:00:00Z"}', "Object missing required field `flight uid`"),
        (with_value("flight uid", "null"), "Expected `str`, got `null` - at `$.flight uid`"),
        (with_value("flight uid", "7"), "Expected `str`, got `int` - at `$.flight uid`"),
        (
            with_value("departed_at", '"2013-12-01T10:00:00"'),
            "Expected `datetime` with a timezone component - at `$.departed_at`",
        ),
        (with_value("departed_at", "1385892000"), "Expected `datetime`, got `int` - at `$.departed_at`"),
        (with_value("departed_at", '"2013-02-30T10:00:00Z"'), "Invalid RFC3339 encoded datetime - at `$.departed_at`"),
        (with_value("dep_delay", "4.5"), "Expected `int | null`, got `float` - at `$.dep_delay`"),
        (with_value("dep_delay", '"4"'), "Expected `int | null`, got `str` - at `$.dep_delay`"),
        (with_value("dep_delay", "true"), "Expected `int | null`, got `bool` - at `$.dep_delay`"),
        (with_value("dep_delay", str(2**63)), "Expected `int` <= 9223372036854775807 - at `$.dep_delay`"),
        (with_value("distance", "1e400"), "Number out of range - at `$.distance`"),
    ],
)
def test_a_payload_that_does_not_fit_is_rejected_with_the_reason(payload: bytes, reason: str) -> None:
    decoded = json().decode([payload], SCHEMA)

    assert decoded.rejected == [Rejected(0, reason)]
    assert decoded.table.num_rows == 0


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_rejected(literal: str) -> None:
    (rejected,) = json().decode([with_value("distance", literal)], SCHEMA).rejected

    assert "JSON is malformed" in rejected.reason


@pytest.mark.parametrize(
    "poison",
    [
        b"\xff\xfe",
        with_value("flight uid", '"\xff"').decode().encode("latin-1"),
        with_value("flight uid", '"\\ud800"'),
        b"[" * 100_000,
        b'{"unknown": ' + b"[" * 100_000,
    ],
    ids=["no text", "no utf-8", "half a surrogate", "deep", "deep in an ignored field"],
)
def test_poison_costs_only_itself(poison: bytes) -> None:
    decoded = json().decode([GOOD, poison, GOOD], SCHEMA)

    assert decoded.table["_row"].to_pylist() == [0, 2]
    assert [rejected.row for rejected in decoded.rejected] == [1]


def test_a_value_that_the_column_cannot_hold_rejects_its_row_alone() -> None:
    schema = pa.schema([("price", pa.decimal128(5, 2)), ("seats", pa.uint64())])
    payloads = [
        b'{"price": "1.25"}',
        b'{"price": 1.256}',
        b"{",
        b'{"price": 99999.5}',
        b'{"seats": 18446744073709551616}',
    ]

    decoded = json().decode([*payloads, b'{"seats": 3}'], schema)

    assert decoded.table.to_pylist() == [
        {"price": Decimal("1.25"), "seats": None, "_row": 0},
        {"price": None, "seats": 3, "_row": 5},
    ]
    assert [rejected.row for rejected in decoded.rejected] == [1, 2, 3, 4]
    assert decoded.rejected[0].reason.endswith("at `$.price`")
    assert decoded.rejected[3].reason.endswith("at `$.seats`")


@pytest.mark.parametrize(
    ("kind", "literal", "value"),
    [
        (pa.int8(), "-128", -128),
        (pa.uint8(), "255", 255),
        (pa.float32(), "1", 1.0),
        (pa.bool_(), "false", False),
        (pa.large_string(), '"x"', "x"),
        (pa.dictionary(pa.int32(), pa.string()), '"x"', "x"),
        (pa.list_(pa.int32()), "[1, null]", [1, None]),
        (pa.binary(), '"YWI="', b"ab"),
        (pa.date32(), '"2013-12-01"', datetime(2013, 12, 1).date()),  # noqa: DTZ001
        (pa.timestamp("us"), '"2013-12-01T10:00:00"', datetime(2013, 12, 1, 10)),  # noqa: DTZ001
    ],
    ids=str,
)
def test_a_column_of_each_kind_takes_its_json_form(kind: pa.DataType, literal: str, value: object) -> None:
    decoded = json().decode([b'{"x": ' + literal.encode() + b"}"], pa.schema([("x", kind)]))

    assert decoded.rejected == []
    assert decoded.table.schema.field("x").type == kind
    assert decoded.table["x"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("kind", "literal"), [(pa.int8(), "128"), (pa.uint32(), "-1"), (pa.float32(), "1e300")], ids=str
)
def test_a_narrow_column_refuses_what_is_beyond_it(kind: pa.DataType, literal: str) -> None:
    decoded = json().decode([b'{"x": ' + literal.encode() + b"}"], pa.schema([("x", kind)]))

    assert [rejected.row for rejected in decoded.rejected] == [0]


def test_a_column_without_a_json_form_is_named() -> None:
    with pytest.raises(InputError, match=r"column 'x' has type null, which JSON payloads cannot carry"):
        json().decode([], pa.schema([("x", pa.null())]))


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "flight uid": st.text(),
                "departed_at": st.datetimes(
                    min_value=datetime.fromisoformat("1900-01-01"),
                    max_value=datetime.fromisoformat("2200-01-01"),
                    timezones=st.just(UTC),
                ),
                "dep_delay": st.none() | st.integers(-(2**63), 2**63 - 1),
                "distance": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            }
        ),
        max_size=20,
    )
)
def test_encode_then_decode_is_identity(rows: list[dict[str, object]]) -> None:
    decoded = json().decode(json().encode(rows), SCHEMA)

    assert decoded.rejected == []
    assert decoded.table.drop_columns("_row").to_pylist() == rows


@given(payloads=st.lists(st.just(GOOD) | st.binary(max_size=8) | st.just(with_value("dep_delay", "1.5"))))
def test_every_payload_is_either_a_row_or_rejected(payloads: list[bytes]) -> None:
    decoded = json().decode(payloads, SCHEMA)

    rows = decoded.table["_row"].to_pylist()
    assert sorted([*rows, *(rejected.row for rejected in decoded.rejected)]) == list(range(len(payloads)))
    assert rows == [index for index, payload in enumerate(payloads) if payload == GOOD]


def test_values_of_numpy_and_pandas_are_encoded_as_what_they_hold() -> None:
    row = {
        "i": np.int64(3),
        "f": np.float32(0.5),
        "nan": np.float64("nan"),
        "t": pd.Timestamp("2013-12-01T10:00", tz="UTC"),
        "nat": pd.NaT,
        "na": pd.NA,
        "a": np.array([1, 2]),
    }

    (payload,) = json().encode([row])

    assert msgspec.json.decode(payload) == {
        "i": 3,
        "f": 0.5,
        "nan": None,
        "t": "2013-12-01T10:00:00Z",
        "nat": None,
        "na": None,
        "a": [1, 2],
    }


@pytest.mark.parametrize("naive", [datetime(2013, 12, 1), pd.Timestamp("2013-12-01")])  # noqa: DTZ001
def test_a_naive_time_is_not_encoded(naive: datetime) -> None:
    with pytest.raises(InputError, match=r"row 1: `t` must be a time with a zone, got '2013-12-01T00:00:00'"):
        json().encode([{"t": None}, {"t": naive}])


def test_a_value_without_a_json_form_names_its_row() -> None:
    with pytest.raises(InputError, match="row 0 is no JSON object: object values have no JSON form"):
        json().encode([{"x": object()}])


NESTED = json(fields={"amount": "payment.amount.value", "region": "payment.region", "id": "id"})
NESTED_SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("amount", pa.float64()), pa.field("region", pa.string())]
)


@pytest.mark.parametrize(
    ("payload", "amount", "region"),
    [
        (b'{"id": "a", "payment": {"amount": {"value": 1.5}, "region": "n"}}', 1.5, "n"),
        (b'{"id": "a", "payment": {"amount": {"value": null, "unit": []}, "region": null}, "x": 1}', None, None),
        (b'{"id": "a", "payment": {"amount": {}, "region": "n"}}', None, "n"),
        (b'{"id": "a", "payment": {"amount": null, "region": "n"}}', None, "n"),
        (b'{"id": "a", "payment": {}}', None, None),
        (b'{"id": "a", "payment": null}', None, None),
        (b'{"id": "a"}', None, None),
    ],
)
def test_a_column_from_inside_is_null_where_something_on_the_way_is_missing(
    payload: bytes, amount: float | None, region: str | None
) -> None:
    decoded = NESTED.decode([payload], NESTED_SCHEMA)

    assert decoded.rejected == []
    assert decoded.table.to_pylist() == [{"id": "a", "amount": amount, "region": region, "_row": 0}]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{}", "Object missing required field `id`"),
        (b'{"id": "a", "payment": 5}', "Expected `object | null`, got `int` - at `$.payment`"),
        (
            b'{"id": "a", "payment": {"amount": {"value": "5"}}}',
            "Expected `float | null`, got `str` - at `$.payment.amount.value`",
        ),
    ],
)
def test_a_nested_payload_that_does_not_fit_is_rejected_with_its_place(payload: bytes, reason: str) -> None:
    assert NESTED.decode([payload], NESTED_SCHEMA).rejected == [Rejected(0, reason)]


def test_what_a_required_column_lies_in_is_required() -> None:
    schema = pa.schema([pa.field("amount", pa.decimal128(5, 2), nullable=False)])
    decoder = json(fields={"amount": "a.b"})

    decoded = decoder.decode(
        [b'{"a": {"b": 1.25}}', b"{}", b'{"a": null}', b'{"a": {}}', b'{"a": {"b": 1.256}}'], schema
    )

    assert decoded.table["amount"].to_pylist() == [Decimal("1.25")]
    assert [reason for _, reason in decoded.rejected[:3]] == [
        "Object missing required field `a`",
        "Expected `object`, got `null` - at `$.a`",
        "Object missing required field `b` - at `$.a`",
    ]
    assert decoded.rejected[3].reason.endswith("at `$.a.b`")


def test_rows_are_written_where_they_are_read_from() -> None:
    payloads = NESTED.encode([{"id": "a", "amount": 1.5, "region": None, "more": 1}])

    assert msgspec.json.decode(payloads[0]) == {
        "id": "a",
        "payment": {"amount": {"value": 1.5}, "region": None},
        "more": 1,
    }


def test_a_name_with_dots_is_a_path_in_fields_only() -> None:
    decoded = json().decode([b'{"a.b": 1, "a": {"b": 2}}'], pa.schema([("a.b", pa.int64())]))

    assert decoded.table["a.b"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"x": "a..b"}, "`fields` must map columns to paths such as 'payment.amount', got 'a..b' for 'x'"),
        ({"x": ""}, "`fields` must map columns to paths such as 'payment.amount', got '' for 'x'"),
        ({"x": "a.b", "y": "a.b"}, "`fields` must map each path to one column, got 'a.b' for 'x' and 'y'"),
    ],
)
def test_paths_that_cannot_be_are_refused_when_they_are_declared(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError) as refused:
        json(fields=fields)

    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"z": "a.b"}, "unknown column in `fields` 'z' (known: x, y)"),
        ({"x": "y"}, "columns 'x' and 'y' must come from different fields, got `y`"),
        ({"x": "y.z"}, "column 'y' is `y`, so column 'x' cannot come from `y.z` inside it"),
    ],
)
def test_paths_that_do_not_go_with_the_columns_are_refused_before_anything_is_read(
    fields: dict[str, str], reason: str
) -> None:
    with pytest.raises(InputError) as refused:
        json(fields=fields).decode([], pa.schema([("x", pa.int64()), ("y", pa.int64())]))

    assert str(refused.value) == reason


def test_decoders_are_values() -> None:
    assert json(fields={"a": "b.c", "d": "e"}) == json(fields={"d": "e", "a": "b.c"})
    assert json(fields={"a": "b.c"}) != json()
    assert json() == json()
    assert hash(json()) == hash(json())
