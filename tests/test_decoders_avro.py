"""Avro records as rows: what fits which column, evolution from writer to reader, and what bad bytes cost."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.decoders import avro
from feature_store.errors import InputError

PAYMENT = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "payment_id", "type": "string"},
        {"name": "amount", "type": ["null", "double"], "default": None},
        {"name": "paid_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
SCHEMA = pa.schema(
    [
        pa.field("payment_id", pa.string(), nullable=False),
        pa.field("amount", pa.float64()),
        pa.field("paid_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
ROW = {"payment_id": "p1", "amount": 1.5, "paid_at": datetime(2026, 3, 1, 10, tzinfo=UTC)}


def record(*fields: dict[str, object], **more: object) -> dict[str, object]:
    return {"type": "record", "name": "Thing", "fields": list(fields), **more}


def field(name: str, kind: object, **more: object) -> dict[str, object]:
    return {"name": name, "type": kind, **more}


def logical(kind: str, logical_type: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": logical_type, **more}


UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
ENUM = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}
TYPES = [
    ("int", pa.int32(), -5),
    ("int", pa.int64(), 2**31 - 1),
    ("long", pa.int64(), -(2**63)),
    ("long", pa.float64(), 3),
    ("float", pa.float32(), 0.5),
    ("double", pa.float64(), 0.1),
    ("boolean", pa.bool_(), True),
    ("string", pa.string(), "é"),
    ("string", pa.large_string(), "x"),
    ("string", pa.dictionary(pa.int32(), pa.string()), "x"),
    ("bytes", pa.binary(), b"\x00\xff"),
    ({"type": "fixed", "name": "Three", "size": 3}, pa.binary(3), b"abc"),
    (ENUM, pa.string(), "BLUE"),
    (logical("string", "uuid"), pa.string(), UUID),
    (logical("int", "date"), pa.date32(), date(2026, 3, 1)),
    (logical("int", "time-millis"), pa.time64("us"), time(1, 2, 3, 4000)),
    (logical("long", "time-micros"), pa.time64("us"), time(1, 2, 3, 4)),
    (logical("long", "timestamp-millis"), pa.timestamp("us", "UTC"), datetime(2026, 3, 1, 10, 0, 0, 5000, tzinfo=UTC)),
    (logical("long", "timestamp-micros"), pa.timestamp("us", "UTC"), datetime(1901, 3, 1, 10, 0, 0, 5, tzinfo=UTC)),
    (logical("bytes", "decimal", precision=9, scale=2), pa.decimal128(9, 2), Decimal("-12.34")),
    (logical("fixed", "decimal", precision=9, scale=2, size=5, name="D"), pa.decimal128(12, 3), Decimal("12.34")),
    ({"type": "array", "items": ["null", "long"]}, pa.list_(pa.int64()), [1, None, 3]),
    ({"type": "array", "items": "string"}, pa.large_list(pa.string()), []),
]


@pytest.mark.parametrize(("kind", "column", "value"), TYPES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("nullable", [False, True])
def test_a_column_of_each_kind_takes_what_was_written(kind, column, value, nullable):
    decoder = avro(schema=record(field("x", ["null", kind] if nullable else kind)))
    rows = [{"x": value}, {"x": None}] if nullable else [{"x": value}]

    found = decoder.decode(decoder.encode(rows), pa.schema([("x", column)]))

    assert found.rejected == []
    assert found.table.schema.field("x").type == column
    assert found.table.drop_columns("_row").to_pylist() == rows


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("long", pa.timestamp("us", "UTC"), "`long`"),
        (logical("long", "timestamp-nanos"), pa.timestamp("us", "UTC"), "`long`"),
        (logical("long", "timestamp-micros"), pa.int64(), "`long` with logicalType `timestamp-micros`"),
        (logical("long", "local-timestamp-micros"), pa.timestamp("us", "UTC"), "local-timestamp-micros"),
        (logical("long", "timestamp-micros"), pa.date32(), "timestamp-micros"),
        ("boolean", pa.float64(), "`boolean`"),
        ("double", pa.int64(), "`double`"),
        ("bytes", pa.string(), "`bytes`"),
        ("string", pa.binary(), "`string`"),
        (["null", "int", "string"], pa.string(), "`int`"),
        ({"type": "array", "items": "string"}, pa.list_(pa.int64()), "`array`"),
        (record(field("y", "int"), name="Inner"), pa.string(), "`record`"),
    ],
)
def test_a_field_of_another_kind_is_refused_before_anything_is_read(kind, column, said):
    with pytest.raises(InputError, match=r"column 'x' has type .* but `x` of schema 'Thing' is .*") as refused:
        avro(schema=record(field("x", kind))).decode([], pa.schema([("x", column)]))

    assert said in str(refused.value)


def test_a_column_without_a_field_is_refused_by_name():
    with pytest.raises(InputError, match=r"schema 'Thing' has no field `x` \(known: y\)"):
        avro(schema=record(field("y", "int"))).decode([], pa.schema([("x", pa.int64())]))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "it ends too early"),
        (b"\x04p", "it ends too early"),
        (b"\x02\xff\x00\x00", "codec can't decode byte 0xff"),
        (b"\x02p\x08\x00", "IndexError: list index out of range"),
        (avro(schema=PAYMENT).encode([ROW])[0] + b"\x00\x00", "2 bytes are left over"),
        (avro(schema=PAYMENT).encode([ROW])[0][:-8] + b"\xff" * 9 + b"\x01", "OverflowError"),
    ],
)
def test_a_payload_that_is_no_record_costs_only_itself(payload, reason):
    decoder = avro(schema=PAYMENT)
    (good,) = decoder.encode([ROW])

    found = decoder.decode([good, payload, good], SCHEMA)

    assert found.table.drop_columns("_row").to_pylist() == [ROW, ROW]
    assert found.table["_row"].to_pylist() == [0, 2]
    ((row, said),) = found.rejected
    assert row == 1
    assert said.startswith("no Avro record of schema 'shop.Payment': ")
    assert reason in said


@pytest.mark.parametrize(
    ("kind", "column", "value", "reason"),
    [
        ("long", pa.int32(), 2**40, "too large"),
        ("double", pa.float32(), 1e300, "1e+300 is too large for a float of 32 bits - at `$.x`"),
        ("long", pa.float64(), 2**53 + 1, "outside of the range"),
        (["null", "long"], pa.int64(), None, "must not be null - at `$.x`"),
        (logical("bytes", "decimal", precision=9, scale=3), pa.decimal128(9, 2), Decimal("1.234"), "at `$.x`"),
    ],
)
def test_a_value_that_its_column_cannot_hold_rejects_its_row_alone(kind, column, value, reason):
    decoder = avro(schema=record(field("x", kind)))
    fine = Decimal(1) if isinstance(value, Decimal) else 1

    found = decoder.decode(
        decoder.encode([{"x": fine}, {"x": value}, {"x": fine}]), pa.schema([pa.field("x", column, nullable=False)])
    )

    assert found.table["_row"].to_pylist() == [0, 2]
    ((row, said),) = found.rejected
    assert row == 1
    assert reason in said


def test_a_decimal_with_more_digits_than_its_precision_is_rejected_not_rounded():
    decoder = avro(schema=record(field("x", logical("bytes", "decimal", precision=4, scale=2))))
    far = b"\x06" + (123456).to_bytes(3, "big")

    found = decoder.decode(
        [*decoder.encode([{"x": Decimal("12.34")}, {"x": Decimal(0)}]), far], pa.schema([("x", pa.decimal128(18, 2))])
    )

    assert found.table["x"].to_pylist() == [Decimal("12.34"), Decimal(0)]
    assert [row for row, _ in found.rejected] == [2]


def test_infinity_that_was_written_is_infinity():
    decoder = avro(schema=record(field("x", "double")))

    found = decoder.decode(decoder.encode([{"x": float("inf")}]), pa.schema([("x", pa.float32())]))

    assert found.table["x"].to_pylist() == [float("inf")]


OLD = record(field("id", "string"), field("n", "int"), field("colour", "string"))
NEW = record(
    field("id", "string"),
    field("n", "long"),
    field("shade", "string", aliases=["colour"]),
    field("size", "int", default=7),
)


def test_old_records_are_read_by_the_new_schema():
    old = avro(schema=OLD).encode([{"id": "a", "n": 5, "colour": "red"}])
    columns = pa.schema([("id", pa.string()), ("n", pa.int64()), ("shade", pa.string()), ("size", pa.int32())])

    found = avro(schema=OLD, reader_schema=NEW).decode(old, columns)

    assert found.rejected == []
    assert found.table.drop_columns("_row").to_pylist() == [{"id": "a", "n": 5, "shade": "red", "size": 7}]


def test_a_reader_schema_that_does_not_resolve_rejects_with_the_reason():
    old = avro(schema=OLD).encode([{"id": "a", "n": 5, "colour": "red"}])
    reader = record(field("id", "string"), field("more", "string"))

    ((row, reason),) = avro(schema=OLD, reader_schema=reader).decode(old, pa.schema([("more", pa.string())])).rejected

    assert row == 0
    assert "more" in reason


NESTED = record(
    field(
        "payment",
        ["null", record(field("amount", record(field("value", ["null", "double"]), name="Amount")), name="Inner")],
        default=None,
    ),
    field("tags", {"type": "map", "values": "string"}),
)


def test_columns_come_from_inside_records_and_maps():
    decoder = avro(schema=NESTED, fields={"amount": "payment.amount.value", "region": "tags.region"})
    columns = pa.schema([("amount", pa.float64()), ("region", pa.string())])
    plain = avro(schema=NESTED)
    payloads = [
        *decoder.encode([{"amount": 1.5, "region": "north"}]),
        *plain.encode(
            [{"payment": None, "tags": {}}, {"payment": {"amount": {"value": None}}, "tags": {"region": "s"}}]
        ),
    ]

    found = decoder.decode(payloads, columns)

    assert found.table.drop_columns("_row").to_pylist() == [
        {"amount": 1.5, "region": "north"},
        {"amount": None, "region": None},
        {"amount": None, "region": "s"},
    ]


def test_a_record_type_that_is_used_twice_is_found_by_its_name():
    point = {"type": "record", "name": "Point", "fields": [field("x", "int")]}
    decoder = avro(schema=record(field("a", point), field("b", "Point")), fields={"ax": "a.x", "bx": "b.x"})

    found = decoder.decode(decoder.encode([{"ax": 1, "bx": 2}]), pa.schema([("ax", pa.int64()), ("bx", pa.int64())]))

    assert found.table.drop_columns("_row").to_pylist() == [{"ax": 1, "bx": 2}]


def test_a_schema_may_be_a_mapping_text_or_a_file(tmp_path):
    file = tmp_path / "payment.avsc"
    file.write_text(json.dumps(PAYMENT))
    (payload,) = avro(schema=PAYMENT).encode([ROW])

    for schema in (PAYMENT, json.dumps(PAYMENT), file, str(file)):
        assert avro(schema=schema).decode([payload], SCHEMA).table.num_rows == 1


def test_a_schema_that_is_none_is_refused_when_it_is_first_used(tmp_path):
    with pytest.raises(
        InputError, match=r"`schema` must be an Avro schema of a record, the one in '.*none.avsc' is not"
    ):
        avro(schema=tmp_path / "none.avsc").decode([], SCHEMA)
    with pytest.raises(InputError, match="UnknownType: Nothing"):
        avro(schema=record(field("x", "Nothing"))).decode([], SCHEMA)
    with pytest.raises(InputError, match="it is not of type record"):
        avro(schema={"type": "array", "items": "int"}).decode([], SCHEMA)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": "many"}, "shop.Payment.amount"),
        ({"amuont": 1.5}, "record contains more fields than the schema specifies: amuont"),
        ({"payment_id": None}, "shop.Payment.payment_id"),
        ({"paid_at": object()}, "`paid_at` must be a plain value, got object"),
        ({"paid_at": datetime(2026, 3, 1)}, "`paid_at` must be a time with a zone"),  # noqa: DTZ001
    ],
)
def test_a_row_that_the_schema_has_no_place_for_is_named(change, reason):
    with pytest.raises(InputError, match="row 1") as refused:
        avro(schema=PAYMENT).encode([ROW, ROW | change])

    assert reason in str(refused.value)


def test_integers_beyond_their_type_and_digits_beyond_the_scale_are_not_written():
    with pytest.raises(InputError, match=r"Thing\.x is <2147483648>"):
        avro(schema=record(field("x", "int"))).encode([{"x": 2**31}])
    with pytest.raises(InputError, match="`x`: Scale provided in schema does not match the decimal"):
        avro(schema=record(field("x", logical("bytes", "decimal", precision=9, scale=2)))).encode(
            [{"x": Decimal("1.234")}]
        )


def test_a_decoder_says_itself_in_a_line():
    assert (
        repr(avro(schema=PAYMENT, fields={"amount": "a.b"})) == "avro(schema=<shop.Payment>, fields={'amount': 'a.b'})"
    )
    assert repr(avro(schema="payment.avsc", reader_schema=PAYMENT)) == (
        "avro(schema='payment.avsc', reader_schema=<shop.Payment>)"
    )


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "payment_id": st.text(),
                "amount": st.none() | st.floats(allow_nan=False),
                "paid_at": st.datetimes(timezones=st.just(UTC)),
            }
        ),
        max_size=20,
    )
)
def test_encode_then_decode_is_identity(rows):
    decoder = avro(schema=PAYMENT)

    found = decoder.decode(decoder.encode(rows), SCHEMA)

    assert found.rejected == []
    assert found.table.drop_columns("_row").to_pylist() == rows


@given(payload=st.binary(max_size=64))
def test_whatever_the_bytes_are_nothing_else_is_raised(payload):
    decoder = avro(schema=record(*(field(f"f{n}", kind) for n, (kind, _, _) in enumerate(TYPES))))
    columns = pa.schema([(f"f{n}", column) for n, (_, column, _) in enumerate(TYPES)])

    found = decoder.decode([payload], columns)

    assert found.table.num_rows + len(found.rejected) == 1
