"""Decoding: payloads a second to an Arrow table, against the library that reads them, alone."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO

import fastavro
import msgspec
import pyarrow as pa
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from benchmarks.results import Result, median, row
from feature_store.decoders import Decoder, avro, confluent_avro, json, protobuf
from feature_store.decoders.avro_schema import parse_schema
from feature_store.decoders.protobuf_fields import message_class

PAYLOADS, TURNS = 10_000, 9
"""As many as a micro-batch may have."""

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("seq", pa.int64()),
    ]
)
AVRO = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "uid", "type": "string"},
        {"name": "user", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": "double"},
        {"name": "seq", "type": ["null", "long"]},
    ],
}
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CLICKS: Sequence[Mapping[str, object]] = [
    {
        "uid": f"click-{number}",
        "user": f"user-{number % 997}",
        "at": BEGIN + timedelta(milliseconds=number),
        "amount": number / 8,
        "seq": number,
    }
    for number in range(PAYLOADS)
]


def rows() -> list[Result]:
    """All measurements of this file."""
    nested = json(fields={"user": "account.user", "amount": "order.total.amount"})
    plain = avro(schema=AVRO).encode(CLICKS)
    return [
        measured("decode JSON", json(), json().encode(CLICKS), each(msgspec.json.Decoder().decode), limit=0.3),
        measured("decode nested JSON", nested, nested.encode(CLICKS), each(msgspec.json.Decoder().decode), limit=0.4),
        measured("decode Avro", avro(schema=AVRO), plain, read_avro(0), limit=0.6),
        confluent_row(plain),
        protobuf_row(),
    ]


def measured(
    name: str, decoder: Decoder, payloads: list[bytes], floor: Callable[[list[bytes]], object], *, limit: float
) -> Result:
    """Decoder and floor take turns on the same payloads; the ratio is the median of theirs."""
    rates, floors = [], []
    for _ in range(TURNS):
        floors.append(rate(lambda: floor(payloads)))
        rates.append(rate(lambda: decoder.decode(payloads, SCHEMA)))
    ratio = median([mine / raw for mine, raw in zip(rates, floors, strict=True)])
    decoded = decoder.decode(payloads, SCHEMA)
    if decoded.rejected or decoded.table.num_rows != PAYLOADS:
        raise RuntimeError(f"{name}: {len(decoded.rejected)} payloads were rejected")
    value, raw = median(rates), median(floors)
    return row(name, value, "payloads/s", floor=raw, ratio=ratio, limit=limit, at_least=True)


def rate(work: Callable[[], object]) -> float:
    """Payloads a second."""
    began = time.perf_counter()
    work()
    return PAYLOADS / (time.perf_counter() - began)


def each(decode: Callable[[bytes], object]) -> Callable[[list[bytes]], object]:
    return lambda payloads: list(map(decode, payloads))


def read_avro(start: int) -> Callable[[list[bytes]], object]:
    parsed, read = fastavro.parse_schema(AVRO), fastavro.schemaless_reader
    return lambda payloads: [read(BytesIO(payload[start:]), parsed) for payload in payloads]


def confluent_row(plain: Sequence[bytes]) -> Result:
    """The registry has been asked before, as it is for all but the first record of a schema."""
    decoder = confluent_avro(registry_url="http://registry", subject="clicks-value")
    decoder.registry._known[1] = parse_schema(AVRO)  # noqa: SLF001 - no registry is measured here
    framed = [struct.pack(">bI", 0, 1) + payload for payload in plain]
    return measured("decode Avro of a schema registry", decoder, framed, read_avro(5), limit=0.6)


def protobuf_row() -> Result:
    """The floor reads the fields too: until then nothing is a Python value, as it is in the other floors."""
    data = described()
    decoder = protobuf(message="bench.Click", descriptor=data)
    parse = message_class("bench.Click", data).FromString

    def read(payload: bytes) -> dict[str, object]:
        click = parse(payload)
        at = click.at
        return {
            "uid": click.uid,
            "user": click.user,
            "at": at.seconds * 1_000_000 + at.nanos // 1000,
            "amount": click.amount,
            "seq": click.seq if click.HasField("seq") else None,
        }

    return measured("decode Protobuf", decoder, decoder.encode(CLICKS), each(read), limit=0.4)


def described() -> bytes:
    """What protoc writes of `message Click`."""
    kinds = FieldDescriptorProto
    file = FileDescriptorProto(name="click.proto", package="bench", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    click = file.message_type.add(name="Click")
    types = {"uid": kinds.TYPE_STRING, "user": kinds.TYPE_STRING, "at": kinds.TYPE_MESSAGE, "amount": kinds.TYPE_DOUBLE}
    for number, (name, kind) in enumerate((types | {"seq": kinds.TYPE_INT64}).items(), start=1):
        field = click.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
        if name == "at":
            field.type_name = ".google.protobuf.Timestamp"
        if name == "seq":
            field.proto3_optional, field.oneof_index = True, 0
            click.oneof_decl.add(name="_seq")
    return FileDescriptorSet(file=[file]).SerializeToString()
