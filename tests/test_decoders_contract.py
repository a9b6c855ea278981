"""What every decoder does, whatever its format: rows in order, bad payloads alone, an honest round trip."""

from __future__ import annotations

import copy
import gzip
import pickle
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from fuzzing import BOMBS, damaged, tried
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_server import schema_registry
from test_decoders_protobuf import KINDS, TIMESTAMP, described, message

from feature_store.decoders import avro, compressed, confluent_avro, json, protobuf
from feature_store.errors import InputError

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("amount", pa.float64()),
        pa.field("seats", pa.int64()),
        pa.field("tag", pa.string()),
        pa.field("ok", pa.bool_()),
    ]
)
FIELDS = {"amount": "payment.amount.value", "tag": "payment.tag"}
AT = {"type": "long", "logicalType": "timestamp-micros"}


def avro_schema(*, nested: bool) -> dict[str, object]:
    types: dict[str, object] = {"uid": "string", "at": AT, "seats": ["null", "long"], "ok": ["null", "boolean"]}
    if nested:
        amount = {"type": "record", "name": "Amount", "fields": [{"name": "value", "type": ["null", "double"]}]}
        inner = [{"name": "amount", "type": amount}, {"name": "tag", "type": ["null", "string"]}]
        types["payment"] = {"type": "record", "name": "Payment", "fields": inner}
    else:
        types |= {"amount": ["null", "double"], "tag": ["null", "string"]}
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    return {"type": "record", "name": "Event", "fields": fields}


FLAT_PROTO = message(
    "Event",
    uid=KINDS.TYPE_STRING,
    at=TIMESTAMP,
    optional_amount=KINDS.TYPE_DOUBLE,
    optional_seats=KINDS.TYPE_SINT64,
    optional_tag=KINDS.TYPE_STRING,
    optional_ok=KINDS.TYPE_BOOL,
)
NESTED_PROTO = (
    message(
        "Event",
        uid=KINDS.TYPE_STRING,
        at=TIMESTAMP,
        payment=".shop.Payment",
        optional_seats=KINDS.TYPE_SINT64,
        optional_ok=KINDS.TYPE_BOOL,
    ),
    message("Payment", amount=".shop.Amount", optional_tag=KINDS.TYPE_STRING),
    message("Amount", optional_value=KINDS.TYPE_DOUBLE),
)
DECODERS = {
    "json": json(),
    "nested json": json(fields=FIELDS),
    "avro": avro(schema=avro_schema(nested=False)),
    "nested avro": avro(schema=avro_schema(nested=True), fields=FIELDS),
    "resolved avro": avro(schema=avro_schema(nested=False), reader_schema=avro_schema(nested=False)),
    "protobuf": protobuf(message="shop.Event", descriptor=described(FLAT_PROTO)),
    "nested protobuf": protobuf(message="shop.Event", descriptor=described(*NESTED_PROTO), fields=FIELDS),
    "framed protobuf": protobuf(
        message="shop.Event", descriptor=described(FLAT_PROTO), confluent=True, schema_id=2**31
    ),
    "gzip": compressed(json(), codec="gzip"),
    "zstd": compressed(avro(schema=avro_schema(nested=False)), codec="zstd"),
    "lz4": compressed(json(), codec="lz4"),
    "confluent avro": None,
    "nested confluent avro": None,
}


@pytest.fixture(scope="module")
def registry():
    with schema_registry() as server:
        server.register("flat", avro_schema(nested=False))
        server.register("nested", avro_schema(nested=True))
        yield server


@pytest.fixture(params=DECODERS)
def decoder(request, registry):
    if request.param == "confluent avro":
        return confluent_avro(registry_url=registry.url, subject="flat")
    if request.param == "nested confluent avro":
        return confluent_avro(registry_url=registry.url, subject="nested", fields=FIELDS)
    return DECODERS[request.param]


ROW = {"uid": "u1", "at": datetime(2026, 3, 1, tzinfo=UTC), "amount": 0.5, "seats": -3, "tag": "é", "ok": False}
SPARSE = ROW | {"amount": None, "seats": None, "tag": None, "ok": None}


def test_no_payloads_give_an_empty_table_of_the_columns_and_their_indices(decoder):
    found = decoder.decode([], SCHEMA)

    assert found.table.schema == SCHEMA.append(pa.field("_row", pa.int64(), nullable=False))
    assert (found.table.num_rows, found.rejected) == (0, [])


def test_bad_payloads_are_rejected_alone_and_the_others_keep_their_order(decoder):
    first, second, third = decoder.encode([ROW, SPARSE, ROW | {"uid": "u3"}])
    bad = [b"\xff" * 7, first[:-1], b"\x00\x00\x00\x00\x01\xff\xff"]

    found = decoder.decode([bad[0], first, bad[1], second, bad[2], third], SCHEMA)

    assert found.table.schema == SCHEMA.append(pa.field("_row", pa.int64(), nullable=False))
    assert found.table.to_pylist() == [ROW | {"_row": 1}, SPARSE | {"_row": 3}, ROW | {"uid": "u3", "_row": 5}]
    assert [row for row, _ in found.rejected] == [0, 2, 4]
    assert all(reason for _, reason in found.rejected)


def test_only_bad_payloads_give_no_rows(decoder):
    found = decoder.decode([b"\xff" * 7, b"\x01"], SCHEMA)

    assert found.table.num_rows == 0
    assert [row for row, _ in found.rejected] == [0, 1]


def test_a_column_that_must_not_be_null_rejects_what_has_none(decoder):
    strict = pa.schema([field.with_nullable(False) for field in SCHEMA])
    payloads = decoder.encode([ROW, SPARSE, ROW])

    found = decoder.decode(payloads, strict)

    assert found.table["_row"].to_pylist() == [0, 2]
    assert [row for row, _ in found.rejected] == [1]


def test_a_declared_column_that_the_source_does_not_have_is_refused_before_anything_is_read():
    wrong = {"amuont": "payment.amount"}
    for decoder in (
        json(fields=wrong),
        avro(schema=avro_schema(nested=False), fields=wrong),
        confluent_avro(registry_url="http://127.0.0.1:9", subject="s", fields=wrong),
        protobuf(message="shop.Event", descriptor=described(FLAT_PROTO), fields=wrong),
    ):
        with pytest.raises(InputError, match="unknown column in `fields` 'amuont'; did you mean 'amount'"):
            decoder.decode([], SCHEMA)


def test_a_decoder_is_a_value(decoder):
    decoder.decode(decoder.encode([ROW]), SCHEMA)

    for copied in (copy.deepcopy(decoder), copy.copy(decoder)):
        assert copied == decoder
        assert hash(copied) == hash(decoder)
    assert decoder != json(fields={"uid": "somewhere.else"})
    assert len(repr(decoder)) < 250
    assert pickle.loads(pickle.dumps(decoder)) == decoder


def test_a_naive_time_is_not_encoded(decoder):
    with pytest.raises(InputError, match="row 1: `at` must be a time with a zone"):
        decoder.encode([ROW, ROW | {"at": datetime(2026, 3, 1)}])  # noqa: DTZ001


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "uid": st.text(),
            "at": st.datetimes(timezones=st.just(UTC)),
            "amount": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "seats": st.none() | st.integers(-(2**63), 2**63 - 1),
            "tag": st.none() | st.text(),
            "ok": st.none() | st.booleans(),
        }
    ),
    max_size=10,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_encode_then_decode_is_identity(decoder, rows):
    found = decoder.decode(decoder.encode(rows), SCHEMA)

    assert found.rejected == []
    assert found.table.drop_columns("_row").to_pylist() == rows


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(max_size=40), max_size=5))
def test_every_payload_is_either_a_row_or_rejected(decoder, payloads):
    found = decoder.decode(payloads, SCHEMA)

    rows = [*found.table["_row"].to_pylist(), *(rejected.row for rejected in found.rejected)]
    assert sorted(rows) == list(range(len(payloads)))


@tried(10)
@given(data=st.data())
def test_a_damaged_payload_costs_only_itself(decoder, data):
    first, second = decoder.encode([ROW, SPARSE])
    bad = data.draw(st.one_of(damaged(first), damaged(second), st.sampled_from(BOMBS)))

    found = decoder.decode([first, bad, second], SCHEMA)

    rows = [*found.table["_row"].to_pylist(), *(rejected.row for rejected in found.rejected)]
    assert sorted(rows) == [0, 1, 2]
    kept = [row for row in found.table.to_pylist() if row["_row"] != 1]
    assert kept == [ROW | {"_row": 0}, SPARSE | {"_row": 2}]


@pytest.mark.parametrize("library", ["fastavro", "google.protobuf"])
def test_a_missing_library_is_named_with_its_extra_and_only_when_it_is_used(library):
    extra = {"fastavro": "avro", "google.protobuf": "protobuf"}[library]
    script = f"""
import sys
sys.modules[{library!r}] = None
import pyarrow as pa
from feature_store.decoders import avro, json, protobuf
declared = {{"avro": avro(schema={{"type": "record", "name": "X", "fields": []}}), "protobuf": protobuf(message="a.B")}}
json().decode([b"{{}}"], pa.schema([]))
try:
    declared[{extra!r}].decode([], pa.schema([]))
except ImportError as error:
    print(error)
"""

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.strip().endswith(f"install feature-store[{extra}]")


def test_declaring_a_decoder_imports_no_library():
    script = (
        "from feature_store.decoders import avro, confluent_avro, json, protobuf; import sys;"
        "avro(schema='x.avsc'); confluent_avro(registry_url='http://r', subject='s'); protobuf(message='a.B'); json();"
        "print(*sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert {"fastavro", "google.protobuf", "pyarrow", "http.client"} & set(done.stdout.split()) == set()


def test_a_payload_that_unpacks_to_too_much_is_rejected_unread():
    bomb = gzip.compress(b" " * 50_000_000)
    decoder = compressed(json(), codec="gzip", max_bytes=1000)
    (good,) = decoder.encode([ROW])

    found = decoder.decode([bomb, good], SCHEMA)

    assert found.rejected == [(0, "more than 1000 bytes when unpacked")]
    assert found.table["_row"].to_pylist() == [1]


def test_a_codec_that_is_none_is_refused():
    with pytest.raises(InputError, match="`codec` must be one of gzip, zstd, lz4, brotli, bz2, got 'rar'"):
        compressed(json(), codec="rar")
