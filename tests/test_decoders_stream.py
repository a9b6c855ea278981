"""Avro from log to lake and online store; and what flow and archiver do while the schema registry is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
import pytest
from redis import Redis
from registry_server import schema_registry
from stream_world import in_redis

from feature_store import Entity, EventSource, FeatureView, Registry, agg, redis_stream
from feature_store.clock import ManualClock
from feature_store.decoders import confluent_avro
from feature_store.errors import SchemaRegistryError
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.lake import Lake
from feature_store.log.binding import open_log
from feature_store.log.protocol import Record
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import compile_registry

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
SCHEMA = {
    "type": "record",
    "name": "Payment",
    "fields": [
        {"name": "id", "type": "string"},
        {
            "name": "account",
            "type": {"type": "record", "name": "Account", "fields": [{"name": "owner", "type": "string"}]},
        },
        {"name": "amount", "type": "double"},
        {"name": "paid_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}


class Payment(pa.DataFrameModel):
    id: str
    customer: str
    amount: float = pa.Field(ge=0)
    paid_at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]


def declared(url: str) -> EventSource:
    return EventSource(
        "payments",
        schema=Payment,
        event_time="paid_at",
        event_id="id",
        log=redis_stream("payments"),
        decode=confluent_avro(
            registry_url=url,
            subject="payments-value",
            reader_schema=SCHEMA,
            fields={"customer": "account.owner"},
            register=True,
        ),
    )


def held(lake: Lake, what: str, table: str) -> list[str]:
    with lake.cursor() as cursor:
        return [value for (value,) in cursor.execute(f"SELECT {what} FROM ({table}) ORDER BY 1").fetchall()]


def test_a_registry_that_is_away_delays_events_and_loses_none(valkey, environment, tmp_path):
    """publish -- registry away: archiver and flow raise -- registry back: both begin where they stood."""
    clock = ManualClock(to_us(AT))
    with (
        schema_registry() as registry,
        Lake.open(tmp_path / "lake", env=environment, clock=clock) as lake,
        Redis.from_url(valkey.url) as client,
    ):
        writer, source = declared(registry.url), declared(registry.url)
        spending = FeatureView(
            "spending",
            entity=Entity("customer", join_keys=["customer"]),
            source=source,
            features=[agg.sum("amount", over="24h")],
        )
        compiled = compile_registry(Registry(views=[spending]))
        log = open_log(client, environment, source)
        rows = [
            {"id": f"p{n}", "customer": "ada", "amount": 2.0, "paid_at": AT - timedelta(hours=n + 1)} for n in range(3)
        ]
        assert writer.decode is not None
        payloads = [*writer.decode.encode(rows), b"\x00\x00\x00\x00\x09\x00"]
        log.publish([Record(f"p{n}", payload, clock.now_us()) for n, payload in enumerate(payloads)])
        archiver = Archiver(compiled, lake, log, source="payments")

        registry.failures = [503] * 100
        with pytest.raises(SchemaRegistryError, match="HTTP 503"):
            archiver.step()
        flow = LocalStream(compiled, lake, client, env=environment, clock=clock)
        with pytest.raises(SchemaRegistryError, match="HTTP 503"):
            flow.step()
        assert held(lake, "id", lake.events_sql("payments")) == []

        registry.failures = []
        assert archiver.step() == 4
        assert flow.step() == 4
        assert held(lake, "customer || id", lake.events_sql("payments")) == ["adap0", "adap1", "adap2"]
        assert held(lake, "reason", f"FROM {lake.table_sql('rejected_events')}") == [
            "schema id 9 of subject 'payments-value': the schema registry knows no such id"
        ]
        assert [key for key, _ in in_redis(client, environment)] == ["features::{customer:ada}"]
