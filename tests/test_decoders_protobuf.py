"""Protobuf messages as rows: what fits which column, presence, nested messages, framing, and what bad bytes cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from feature_store.decoders import Rejected, protobuf
from feature_store.errors import InputError

KINDS = FieldDescriptorProto
TIMESTAMP = ".google.protobuf.Timestamp"


def message(name: str, **fields: object) -> DescriptorProto:
    """A message type; `optional_` before a name gives it presence, `repeated_` makes it a list."""
    proto = DescriptorProto(name=name)
    for number, (field_name, kind) in enumerate(fields.items(), start=1):
        field = proto.field.add(name=field_name.removeprefix("optional_").removeprefix("repeated_"), number=number)
        field.label = KINDS.LABEL_REPEATED if field_name.startswith("repeated_") else KINDS.LABEL_OPTIONAL
        if field_name.startswith("optional_"):
            field.proto3_optional = True
            field.oneof_index = len(proto.oneof_decl)
            proto.oneof_decl.add(name=f"_{field.name}")
        if isinstance(kind, str):
            field.type, field.type_name = (KINDS.TYPE_ENUM if kind.endswith("Colour") else KINDS.TYPE_MESSAGE), kind
        else:
            field.type = kind
    return proto


def described(*messages: DescriptorProto) -> bytes:
    file = FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3", message_type=messages)
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(["RED", "BLUE"]):
        colour.value.add(name=name, number=number)
    return FileDescriptorSet(file=[file]).SerializeToString()


PAYMENT = described(
    message(
        "Payment",
        payment_id=KINDS.TYPE_STRING,
        optional_amount=KINDS.TYPE_DOUBLE,
        paid_at=TIMESTAMP,
    )
)
SCHEMA = pa.schema(
    [
        pa.field("payment_id", pa.string(), nullable=False),
        pa.field("amount", pa.float64()),
        pa.field("paid_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
ROW = {"payment_id": "p1", "amount": 1.5, "paid_at": datetime(2026, 3, 1, 10, 0, 0, 5, tzinfo=UTC)}
payments = protobuf(message="shop.Payment", descriptor=PAYMENT)


def rows_of(found):
    return found.table.drop_columns("_row").to_pylist()


TYPES = [
    (KINDS.TYPE_INT32, pa.int32(), -5),
    (KINDS.TYPE_SINT64, pa.int64(), -(2**63)),
    (KINDS.TYPE_FIXED64, pa.uint64(), 2**64 - 1),
    (KINDS.TYPE_UINT32, pa.int64(), 2**32 - 1),
    (KINDS.TYPE_INT64, pa.float64(), 3),
    (KINDS.TYPE_INT64, pa.decimal128(20, 1), Decimal(3)),
    (KINDS.TYPE_DOUBLE, pa.float64(), 0.1),
    (KINDS.TYPE_FLOAT, pa.float32(), 0.5),
    (KINDS.TYPE_BOOL, pa.bool_(), True),
    (KINDS.TYPE_STRING, pa.string(), "é"),
    (KINDS.TYPE_STRING, pa.dictionary(pa.int32(), pa.string()), "x"),
    (KINDS.TYPE_BYTES, pa.binary(), b"\x00\xff"),
    (".shop.Colour", pa.string(), "BLUE"),
    (".shop.Colour", pa.int8(), 1),
    (TIMESTAMP, pa.timestamp("us", "UTC"), datetime(1901, 3, 1, 10, 0, 0, 5, tzinfo=UTC)),
    (TIMESTAMP, pa.timestamp("ms", "UTC"), datetime(2026, 3, 1, 10, 0, 0, 5000, tzinfo=UTC)),
    (".google.protobuf.Int64Value", pa.int64(), 0),
    (".google.protobuf.StringValue", pa.string(), ""),
]


@pytest.mark.parametrize(("kind", "column", "value"), TYPES, ids=str)
def test_a_column_of_each_kind_takes_what_was_written(kind, column, value):
    decoder = protobuf(message="shop.Thing", descriptor=described(message("Thing", optional_x=kind)))
    rows = [{"x": value}, {"x": None}]
    given = [{"x": int(value) if isinstance(value, Decimal) else value}, {"x": None}]

    found = decoder.decode(decoder.encode(given), pa.schema([("x", column)]))

    assert found.rejected == []
    assert found.table.schema.field("x").type == column
    assert rows_of(found) == rows


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        (KINDS.TYPE_INT64, pa.list_(pa.int64()), [1, 2]),
        (KINDS.TYPE_STRING, pa.large_list(pa.string()), []),
        (".shop.Colour", pa.list_(pa.string()), ["BLUE", "RED"]),
    ],
    ids=str,
)
def test_a_repeated_field_is_a_list(kind, column, value):
    decoder = protobuf(message="shop.Thing", descriptor=described(message("Thing", repeated_x=kind)))

    found = decoder.decode(decoder.encode([{"x": value}]), pa.schema([("x", column)]))

    assert rows_of(found) == [{"x": value}]


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        (KINDS.TYPE_INT64, pa.timestamp("us", "UTC"), "`int64`"),
        (TIMESTAMP, pa.int64(), "`google.protobuf.Timestamp`"),
        (TIMESTAMP, pa.timestamp("us"), "`google.protobuf.Timestamp`"),
        (KINDS.TYPE_DOUBLE, pa.int64(), "`double`"),
        (KINDS.TYPE_BOOL, pa.int64(), "`bool`"),
        (KINDS.TYPE_BYTES, pa.string(), "`bytes`"),
        (KINDS.TYPE_STRING, pa.decimal128(5, 2), "`string`"),
        (KINDS.TYPE_STRING, pa.list_(pa.string()), "`string`"),
        (".google.protobuf.Int64Value", pa.string(), "`google.protobuf.Int64Value`"),
        (".shop.Inner", pa.string(), "`shop.Inner`"),
    ],
)
def test_a_field_of_another_kind_is_refused_before_anything_is_read(kind, column, said):
    data = described(message("Thing", x=kind), message("Inner", y=KINDS.TYPE_INT32))

    with pytest.raises(InputError, match="column 'x' has type") as refused:
        protobuf(message="shop.Thing", descriptor=data).decode([], pa.schema([("x", column)]))

    assert f"but `x` of message 'shop.Thing' is {said}" in str(refused.value)


def test_what_was_not_written_is_null_with_presence_and_the_default_without():
    found = payments.decode(
        [b"", payments.encode([{"payment_id": "", "amount": 0.0, "paid_at": ROW["paid_at"]}])[0]], SCHEMA
    )

    assert rows_of(found) == [{"payment_id": "", "amount": 0.0, "paid_at": ROW["paid_at"]}]
    assert found.rejected == [Rejected(0, "must not be null - at `$.paid_at`")]


@pytest.mark.parametrize("payload", [b"\x0a\x05ab", b"\xff" * 12, b"\x0a\x01\xff", b"\x1a\x02\x08", b"\x0b" * 200])
def test_a_payload_that_is_no_message_costs_only_itself(payload):
    (good,) = payments.encode([ROW])

    found = payments.decode([good, payload, good], SCHEMA)

    assert rows_of(found) == [ROW, ROW]
    ((row, reason),) = found.rejected
    assert row == 1
    assert reason.startswith("no message 'shop.Payment': ")


def test_a_value_that_its_column_cannot_hold_rejects_its_row_alone():
    data = described(message("Thing", x=KINDS.TYPE_INT64, colour=".shop.Colour", at=TIMESTAMP))
    decoder = protobuf(message="shop.Thing", descriptor=data)
    columns = pa.schema([("x", pa.int32()), ("colour", pa.string()), ("at", pa.timestamp("us", "UTC"))])
    good = {"x": 1, "colour": "RED", "at": datetime(2026, 3, 1, tzinfo=UTC)}
    far = b"\x1a\x07\x08\x80\x80\x80\x80\x80\x40"  # seconds beyond the year 9999

    found = decoder.decode([*decoder.encode([good, good | {"x": 2**40}, good | {"colour": 7}]), far], columns)

    assert rows_of(found) == [good]
    assert [(row, reason[-8:]) for row, reason in found.rejected] == [(1, "at `$.x`"), (2, ".colour`"), (3, "t `$.at`")]


NESTED = described(
    message("Payment", optional_payment=".shop.Body", kind=".shop.Colour"),
    message("Body", amount=".shop.Amount"),
    message("Amount", value=KINDS.TYPE_DOUBLE, optional_currency=KINDS.TYPE_STRING),
)


def test_columns_come_from_inside_messages():
    fields = {"amount": "payment.amount.value", "currency": "payment.amount.currency"}
    decoder = protobuf(message="shop.Payment", descriptor=NESTED, fields=fields)
    columns = pa.schema([("amount", pa.float64()), ("currency", pa.string()), ("kind", pa.string())])
    row = {"amount": 1.5, "currency": "EUR", "kind": "BLUE"}

    found = decoder.decode([*decoder.encode([row]), b"", b"\x0a\x00", b"\x0a\x02\x0a\x00"], columns)

    assert found.rejected == []
    assert rows_of(found) == [
        row,
        {"amount": None, "currency": None, "kind": "RED"},
        {"amount": None, "currency": None, "kind": "RED"},
        {"amount": 0.0, "currency": None, "kind": "RED"},
    ]


def test_a_message_is_found_in_a_file_or_by_its_generated_class(tmp_path):
    file = tmp_path / "shop.desc"
    file.write_bytes(PAYMENT)
    columns = pa.schema([("seconds", pa.int64()), ("nanos", pa.int32())])
    generated = protobuf(message="google.protobuf.timestamp_pb2.Timestamp")

    assert protobuf(message="shop.Payment", descriptor=str(file)).decode(payments.encode([ROW]), SCHEMA).rejected == []
    assert rows_of(generated.decode(generated.encode([{"seconds": 5, "nanos": 6}]), columns)) == [
        {"seconds": 5, "nanos": 6}
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"message": "shop.Paymnt", "descriptor": PAYMENT},
            "unknown message 'shop.Paymnt'; did you mean 'shop.Payment'",
        ),
        ({"message": "shop.Payment", "descriptor": b"\xff\xff"}, "`descriptor` must be a FileDescriptorSet"),
        ({"message": "shop.Payment", "descriptor": "absent.desc"}, "No such file or directory: 'absent.desc'"),
        (
            {"message": "absent_pb2.Payment"},
            "`message` must be a generated message class, 'absent_pb2.Payment' is none",
        ),
        ({"message": "decimal.Decimal"}, "'decimal.Decimal' is <class 'decimal.Decimal'>"),
        (
            {"message": "shop.Payment", "descriptor": PAYMENT, "fields": {"amount": "a.b"}},
            r"message 'shop.Payment' has no field `a` (known: payment_id, amount, paid_at)",
        ),
        (
            {"message": "shop.Payment", "descriptor": PAYMENT, "fields": {"amount": "payment_id.b"}},
            "message 'shop.Payment' has no field `payment_id.b`",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_when_it_is_first_used(options, reason):
    with pytest.raises(InputError) as refused:
        protobuf(**options).decode([], SCHEMA.remove(0) if "fields" in options else SCHEMA)

    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payment_id": None}, "`payment_id`: must not be null: the field cannot say that nothing was given"),
        ({"amount": "many"}, "`amount`: "),
        ({"paid_at": datetime(2026, 3, 1)}, "`paid_at` must be a time with a zone"),  # noqa: DTZ001
        ({"amuont": 1.5}, "has no field `amuont` (known: payment_id, amount, paid_at)"),
    ],
)
def test_a_row_that_the_message_has_no_place_for_is_refused(change, reason):
    with pytest.raises(InputError) as refused:
        payments.encode([ROW, ROW | change])

    assert reason in str(refused.value)


SEVERAL = described(
    message("First", x=KINDS.TYPE_INT64),
    DescriptorProto(name="Second", nested_type=[message("Inner", x=KINDS.TYPE_INT64)]),
)


@pytest.mark.parametrize(
    ("name", "head"), [("shop.First", b"\x00"), ("shop.Second", b"\x02\x02"), ("shop.Second.Inner", b"\x04\x02\x00")]
)
def test_the_framing_of_a_schema_registry_carries_id_and_message_index(name, head):
    decoder = protobuf(message=name, descriptor=SEVERAL, confluent=True, schema_id=258)
    row = {} if name == "shop.Second" else {"x": 5}

    (payload,) = decoder.encode([row])

    assert payload == b"\x00\x00\x00\x01\x02" + head + (b"\x08\x05" if row else b"")
    assert rows_of(decoder.decode([payload], pa.schema([(column, pa.int64()) for column in row]))) == [row]


def test_payloads_of_another_framing_or_message_are_rejected_alone():
    decoder = protobuf(message="shop.First", descriptor=SEVERAL, confluent=True)
    payloads = [
        b"",
        b"\x08\x05",
        b"\x00\x00\x00\x00\x07",
        b"\x00\x00\x00\x00\x07\x02\x02\x08\x05",
        b"\x00\x00\x00\x00\x07\x02\x00\x08\x05",
    ]

    found = decoder.decode(payloads, pa.schema([("x", pa.int64())]))

    assert found.table.to_pylist() == [{"x": 5, "_row": 4}]
    assert found.rejected == [
        Rejected(0, "an empty payload has no schema id"),
        Rejected(1, "must begin with byte 0 and a schema id of four bytes, begins with byte 8"),
        Rejected(2, "the message index after schema id 7 is not that of 'shop.First'"),
        Rejected(3, "the message index after schema id 7 is not that of 'shop.First'"),
    ]
    with pytest.raises(InputError, match="`schema_id` must be given"):
        decoder.encode([])


def test_a_decoder_says_itself_in_a_line():
    assert repr(protobuf(message="shop.Payment", descriptor=b"abc", fields={"a": "b.c"}, confluent=True)) == (
        "protobuf(message='shop.Payment', descriptor=<3 bytes>, fields={'a': 'b.c'}, confluent=True)"
    )
    assert repr(protobuf(message="shop.Payment", descriptor="x.desc")).endswith("descriptor='x.desc')")


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
    found = payments.decode(payments.encode(rows), SCHEMA)

    assert found.rejected == []
    assert rows_of(found) == rows


ALL = protobuf(
    message="shop.Thing",
    descriptor=described(message("Thing", **{f"optional_f{n}": kind for n, (kind, _, _) in enumerate(TYPES)})),
)


@given(payload=st.binary(max_size=64))
def test_whatever_the_bytes_are_nothing_else_is_raised(payload):
    columns = pa.schema([(f"f{n}", column) for n, (_, column, _) in enumerate(TYPES)])

    found = ALL.decode([payload], columns)

    assert found.table.num_rows + len(found.rejected) == 1
