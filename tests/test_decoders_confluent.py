"""Avro records of a schema registry: mixed schemas, evolution, unknown ids, and a registry that is away."""

from __future__ import annotations

import struct
import time
from datetime import UTC, datetime

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from registry_server import RegistryServer, schema_registry

from feature_store import EventSource
from feature_store.decoders import Rejected, avro, confluent_avro
from feature_store.errors import InputError, SchemaRegistryError, SettingsError
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.log.protocol import LogRecord
from feature_store.schema import arrow_schema

SUBJECT = "payments-value"


def payment(*more: object, amount: str = "int") -> dict[str, object]:
    fields = [{"name": "id", "type": "string"}, {"name": "amount", "type": amount}, *more]
    return {"type": "record", "name": "Payment", "namespace": "shop", "fields": fields}


FIRST = payment()
SECOND = payment({"name": "currency", "type": ["null", "string"], "default": None}, amount="long")
COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("amount", pa.int64(), nullable=False),
        pa.field("currency", pa.string()),
    ]
)


@pytest.fixture
def registry():
    with schema_registry() as server:
        yield server


def framed(server: RegistryServer, schema: dict[str, object], *rows: dict[str, object]) -> list[bytes]:
    head = struct.pack(">bI", 0, server.register(SUBJECT, schema))
    return [head + payload for payload in avro(schema=schema).encode(rows)]


def decoder(server: RegistryServer, **options: object):
    return confluent_avro(registry_url=server.url, subject=SUBJECT, **options)


def rows_of(found):
    return found.table.drop_columns("_row").to_pylist()


def test_records_of_several_schemas_keep_their_order_and_each_schema_is_asked_for_once(registry):
    old = framed(registry, FIRST, {"id": "a", "amount": 1}, {"id": "c", "amount": 3})
    new = framed(registry, SECOND, {"id": "b", "amount": 2**40, "currency": "EUR"})
    decode = decoder(registry).decode

    found = decode([old[0], *new, old[1]], COLUMNS)
    again = decode(new, COLUMNS)

    assert found.rejected == []
    assert rows_of(found) == [
        {"id": "a", "amount": 1, "currency": None},
        {"id": "b", "amount": 2**40, "currency": "EUR"},
        {"id": "c", "amount": 3, "currency": None},
    ]
    assert found.table["_row"].to_pylist() == [0, 1, 2]
    assert again.table.num_rows == 1
    assert registry.asked == ["GET /schemas/ids/1", "GET /schemas/ids/2"]


READER = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "cents", "type": "long", "aliases": ["amount"]},
        {"name": "currency", "type": "string", "default": "USD"},
    ],
}
CENTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("cents", pa.int64(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
    ]
)


def test_a_reader_schema_resolves_added_renamed_and_widened_fields(registry):
    old = framed(registry, FIRST, {"id": "a", "amount": 1})
    new = framed(registry, payment({"name": "currency", "type": "string"}), {"id": "b", "amount": 2, "currency": "EUR"})

    found = decoder(registry, reader_schema=READER).decode([*old, *new], CENTS)

    assert found.rejected == []
    assert rows_of(found) == [
        {"id": "a", "cents": 1, "currency": "USD"},
        {"id": "b", "cents": 2, "currency": "EUR"},
    ]


def test_records_that_the_reader_schema_cannot_resolve_are_rejected_with_id_and_subject(registry):
    odd = payment(amount="string")
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    bad = framed(registry, odd, {"id": "b", "amount": "two"})

    found = decoder(registry, reader_schema=READER).decode([*bad, *good], CENTS)

    assert found.table["_row"].to_pylist() == [1]
    ((row, reason),) = found.rejected
    assert row == 0
    assert reason.startswith("schema id 2 of subject 'payments-value': ")


def test_records_of_a_schema_that_does_not_fit_the_columns_are_rejected_with_id_and_subject(registry):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    text = framed(registry, payment(amount="string"), {"id": "b", "amount": "two"})
    without = framed(registry, {**FIRST, "fields": [{"name": "id", "type": "string"}]}, {"id": "c"})

    found = decoder(registry).decode([*text, *good, *without], COLUMNS)

    source = "of subject 'payments-value'"
    assert found.table["_row"].to_pylist() == [1]
    assert found.rejected == [
        Rejected(
            0,
            f"schema id 2 {source}: column 'amount' has type int64, but `amount` of schema 'shop.Payment' is `string`",
        ),
        Rejected(2, f"schema id 3 {source}: schema 'shop.Payment' has no field `amount` (known: id)"),
    ]


def test_an_unknown_id_rejects_its_records_alone_and_is_asked_for_again_later(registry):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    (body,) = avro(schema=FIRST).encode([{"id": "b", "amount": 2}])
    strange = struct.pack(">bI", 0, 2) + body
    decode = decoder(registry).decode

    found = decode([strange, *good, strange], COLUMNS)
    framed(registry, payment({"name": "new", "type": "int", "default": 0}))
    registry.schemas[2] = registry.schemas[1]

    reason = "schema id 2 of subject 'payments-value': the schema registry knows no such id"
    assert found.rejected == [Rejected(0, reason), Rejected(2, reason)]
    assert rows_of(found) == [{"id": "a", "amount": 1, "currency": None}]
    assert decode([strange], COLUMNS).rejected == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "an empty payload has no schema id"),
        (b"\x00\x00\x00\x01", "must begin with byte 0 and a schema id of four bytes, has 4 bytes"),
        (b"{}    ", "must begin with byte 0 and a schema id of four bytes, begins with byte 123"),
        (
            b"\x00\x00\x00\x00\x01\x02",
            "schema id 1 of subject 'payments-value': no Avro record of schema 'shop.Payment': it ends too early",
        ),
        (
            b"\x00\x00\x00\x00\x01\x02a\x02\x00",
            "schema id 1 of subject 'payments-value': no Avro record of schema 'shop.Payment': 1 bytes are left over",
        ),
    ],
)
def test_a_payload_that_is_no_record_costs_only_itself(registry, payload, reason):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})

    found = decoder(registry).decode([*good, payload, *good], COLUMNS)

    assert found.rejected == [Rejected(1, reason)]
    assert found.table["_row"].to_pylist() == [0, 2]


def test_a_schema_of_another_kind_rejects_its_records(registry):
    registry.register(SUBJECT, 'syntax = "proto3";', schemaType="PROTOBUF")
    registry.register(SUBJECT, "no schema")

    found = decoder(registry).decode([b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x02"], COLUMNS)

    assert (
        "schema id 1 of subject 'payments-value': the schema is of type PROTOBUF, not AVRO" in found.rejected[0].reason
    )
    assert "the schema is none of Avro records" in found.rejected[1].reason


def test_schemas_that_a_schema_refers_to_are_asked_for(registry):
    registry.register("unit", {"type": "enum", "name": "Unit", "namespace": "shop", "symbols": ["EUR", "USD"]})
    money = {"type": "record", "name": "Money", "namespace": "shop"}
    money["fields"] = [{"name": "value", "type": "long"}, {"name": "unit", "type": "Unit"}]
    registry.register("money", money, references=[{"name": "shop.Unit", "subject": "unit", "version": 1}])
    outer = {"type": "record", "name": "Bill", "namespace": "shop", "fields": [{"name": "sum", "type": "Money"}]}
    registry.register(SUBJECT, outer, references=[{"name": "shop.Money", "subject": "money", "version": 1}])

    found = decoder(registry, fields={"value": "sum.value", "unit": "sum.unit"}).decode(
        [b"\x00\x00\x00\x00\x03\x0a\x02"], pa.schema([("value", pa.int64()), ("unit", pa.string())])
    )

    assert found.rejected == []
    assert rows_of(found) == [{"value": 5, "unit": "USD"}]


def test_rows_are_written_by_the_newest_schema_of_the_subject(registry):
    framed(registry, FIRST)
    framed(registry, SECOND)
    rows = [{"id": "a", "amount": 1, "currency": None}, {"id": "b", "amount": 2, "currency": "EUR"}]

    payloads = decoder(registry).encode(rows)

    assert [payload[:5] for payload in payloads] == [b"\x00\x00\x00\x00\x02"] * 2
    assert rows_of(decoder(registry).decode(payloads, COLUMNS)) == rows


def test_rows_are_written_by_a_schema_that_is_registered_on_demand_only(registry):
    with pytest.raises(InputError, match="has no subject 'payments-value'"):
        decoder(registry).encode([{"id": "a"}])
    with pytest.raises(
        InputError, match="does not have this schema under 'payments-value'; register it there, or give"
    ):
        decoder(registry, reader_schema=FIRST).encode([{"id": "a", "amount": 1}])

    (payload,) = decoder(registry, reader_schema=FIRST, register=True).encode([{"id": "a", "amount": 1}])

    assert payload[:5] == b"\x00\x00\x00\x00\x01"
    assert decoder(registry, reader_schema=FIRST).encode([{"id": "a", "amount": 1}]) == [payload]


def test_a_registry_that_stumbles_is_asked_again(registry):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    registry.failures = [503, 500]

    assert decoder(registry).decode(good, COLUMNS).table.num_rows == 1
    assert len(registry.asked) == 3


@pytest.mark.parametrize(
    ("failures", "asked", "problem"),
    [
        ([500] * 9, 3, "HTTP 500: not now, after 3 attempts"),
        ([429] * 9, 3, "HTTP 429: not now, after 3 attempts"),
        ([403] * 9, 1, "HTTP 403: not now"),
        ([404] * 9, 1, "HTTP 404: not now"),
    ],
)
def test_a_registry_that_answers_nothing_useful_is_an_error_and_rejects_nothing(registry, failures, asked, problem):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    registry.failures = failures

    with pytest.raises(SchemaRegistryError) as raised:
        decoder(registry).decode(good, COLUMNS)

    assert str(raised.value) == (
        f"the schema registry at {registry.url} cannot be asked ({problem}); no record was skipped or rejected, "
        "start it or correct `registry_url`"
    )
    assert len(registry.asked) == asked


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}"])
def test_something_that_is_no_registry_is_an_error(registry, answer):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    registry.broken = answer

    with pytest.raises(SchemaRegistryError, match="cannot be asked"):
        decoder(registry).decode(good, COLUMNS)


def test_a_registry_that_hangs_is_given_up_in_time(registry):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    registry.answer = lambda *_: time.sleep(1) or (200, {})
    began = time.perf_counter()

    with pytest.raises(SchemaRegistryError, match="timed out, after 3 attempts"):
        decoder(registry, timeout_s=0.05).decode(good, COLUMNS)

    assert time.perf_counter() - began < 2


class Payment(pandera.DataFrameModel):
    id: str
    amount: int
    paid_at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def test_a_registry_that_is_away_stops_reading_and_loses_nothing():
    times = {"name": "paid_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    row = {"id": "a", "amount": 1, "paid_at": datetime(2026, 3, 1, tzinfo=UTC)}
    with schema_registry() as server:
        payloads = framed(server, payment(times), row, row | {"id": "b"})
        port = server.server_address[1]
    decode = confluent_avro(registry_url=f"http://127.0.0.1:{port}", subject=SUBJECT)
    source = EventSource("payments", schema=Payment, event_time="paid_at", event_id="id", decode=decode)
    intake = Intake(source, arrow_schema(source), known=KnownIds())
    records = [LogRecord(offset, 2 * 10**15, payload) for offset, payload in enumerate(payloads)]

    with pytest.raises(SchemaRegistryError, match=r"Connection refused.*, after 3 attempts"):
        intake.accept(0, records, start=0)
    with schema_registry() as server:
        framed(server, payment(times))
        object.__setattr__(decode.registry, "url", server.url)  # the same registry is back
        accepted = intake.accept(0, records, start=0)

    assert accepted.rejected == []
    assert accepted.events["id"].to_pylist() == ["a", "b"]


def test_credentials_come_from_the_environment_and_are_said_nowhere(registry, monkeypatch):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    registry.credentials = "ada:s3cret"
    decode = decoder(registry, user_env="REGISTRY_USER", password_env="REGISTRY_PASSWORD")

    with pytest.raises(SettingsError, match=r"environment variable 'REGISTRY_USER', which .* is not set"):
        decode.decode(good, COLUMNS)
    monkeypatch.setenv("REGISTRY_USER", "ada")
    monkeypatch.setenv("REGISTRY_PASSWORD", "wr0ng")
    with pytest.raises(SchemaRegistryError, match="HTTP 401: Unauthorized") as refused:
        decode.decode(good, COLUMNS)
    monkeypatch.setenv("REGISTRY_PASSWORD", "s3cret")

    assert decode.decode(good, COLUMNS).table.num_rows == 1
    assert "wr0ng" not in str(refused.value)
    assert "s3cret" not in repr(decode) + repr(decode.registry)


def test_credentials_are_not_taken_to_where_the_registry_redirects(registry, monkeypatch):
    good = framed(registry, FIRST, {"id": "a", "amount": 1})
    monkeypatch.setenv("REGISTRY_USER", "ada")
    monkeypatch.setenv("REGISTRY_PASSWORD", "s3cret")
    with schema_registry() as front:
        front.redirect = registry.url
        decode = decoder(front, user_env="REGISTRY_USER", password_env="REGISTRY_PASSWORD")
        decode.decode(good, COLUMNS)

        assert front.headers[0] is not None
        assert registry.headers == [None]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"registry_url": "http://ada:s3cret@registry"}, "must not carry credentials"),
        ({"registry_url": "file:///etc/passwd"}, "must be an http or https address"),
        ({"registry_url": "http://registry", "user_env": "USER"}, "must be given together"),
    ],
)
def test_a_registry_that_cannot_be_is_refused_when_it_is_declared(options, reason):
    with pytest.raises(InputError, match=reason) as refused:
        confluent_avro(subject=SUBJECT, **options)

    assert "s3cret" not in str(refused.value)


def test_what_is_wrong_with_the_declaration_is_raised_without_asking_the_registry(registry):
    with pytest.raises(InputError, match=r"unknown column in `fields` 'amuont'; did you mean 'amount'"):
        decoder(registry, fields={"amuont": "a.b"}).decode([], COLUMNS)
    with pytest.raises(InputError, match=r"has no field `amount` \(known: id, cents, currency\)"):
        decoder(registry, reader_schema=READER).decode([], COLUMNS)

    assert registry.asked == []
