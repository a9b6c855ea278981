"""Which records become events is a function of the records alone; the others are kept with a reason."""

import random
from decimal import Decimal
from typing import Annotated

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.engines.pandas_engine import Decimal as DecimalType
from strategies import splits
from stream_world import NOW_US, Reading, accepted, intake, log_records, payloads, rows

from feature_store import EventSource, ManualClock, redis_stream
from feature_store.errors import DeclarationError
from feature_store.fold.batch_query import BatchQuery
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.log.protocol import LogRecord, partition_of
from feature_store.log.publish import publish_events
from feature_store.schema import arrow_schema
from feature_store.time_rule import MINUTE_US, SECOND_US, from_us

ISO = from_us(NOW_US).isoformat()


def row(**changes):
    return {
        "uid": "u",
        "site": "north",
        "kind": 1,
        "at": from_us(NOW_US),
        "level": 1,
        "load": 0.5,
        "tag": "a",
    } | changes


def only_rejected(records):
    [rejected] = intake().accept(0, records, start=records[0].offset).rejected
    return rejected


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"\xff", "malformed"),
        (payloads([row()])[0].replace(b'"u"', b"null"), "null"),
        (payloads([row()])[0].replace(b'"level":1', b'"level":"1"'), "level"),
        (payloads([row()])[0].replace(b"Z", b""), "at"),
        (
            payloads([row()])[0].replace(ISO[:19].encode(), b"0001-01-01T00:00:00").replace(b"Z", b"+14:00"),
            "years 1 to 9999",
        ),
    ],
)
def test_a_record_that_is_no_event_is_kept_with_its_place_and_reason(payload, reason):
    rejected = only_rejected([LogRecord(41, NOW_US, payload)])

    assert (rejected.partition, rejected.offset, rejected.arrived_us) == (0, 41, NOW_US)
    assert (rejected.kind, rejected.payload) == ("rejected", payload)
    assert reason in rejected.reason.lower()


def test_a_value_that_the_schema_forbids_names_column_check_and_value():
    rejected = only_rejected(log_records([row(level=-101)]))

    assert rejected.reason == "column 'level': greater_than_or_equal_to(-100), got -101"


def test_events_from_the_future_are_measured_by_their_arrival():
    early = [row(uid=f"e{n}", at=from_us(NOW_US + MINUTE_US + n)) for n in (0, 1)]

    found = intake().accept(0, log_records(early), start=0)

    assert found.events.column("uid").to_pylist() == ["e0"]
    assert [(r.offset, r.reason) for r in found.rejected] == [
        (1, "column 'at': 60.000 s later than its arrival, more than the tolerance of 1m")
    ]


class Loose(Reading):
    uid: str = pandera.Field(nullable=True)


def test_null_ids_and_times_are_rejected_even_where_the_schema_allows_them():
    source = EventSource("loose", schema=Loose, event_time="at", event_id="uid")

    found = Intake(source, arrow_schema(source), known=KnownIds()).accept(
        0, log_records([row(uid=None), row()]), start=0
    )

    assert [(r.offset, r.reason) for r in found.rejected] == [(0, "column 'uid': must not be null")]
    assert found.events.num_rows == 1


def test_duplicates_and_conflicts_within_a_batch_and_across():
    taking = intake()

    first = taking.accept(0, log_records([row(), row(), row(level=2)]), start=0)
    second = taking.accept(0, log_records([row(tag="b"), row()], start=3), start=3)

    assert first.events.num_rows == 1
    assert [(r.offset, r.kind) for r in [*first.rejected, *second.rejected]] == [
        (1, "duplicate"),
        (2, "conflict"),
        (3, "conflict"),
        (4, "duplicate"),
    ]
    assert second.rejected[0].reason == "event id 'u' was seen before with another payload"


def test_an_event_that_comes_in_another_partition_than_its_id_says_is_rejected():
    place = partition_of("u", 4)
    everywhere = [intake(partitions=4).accept(p, log_records([row()]), start=0) for p in range(4)]

    assert [found.events.num_rows for found in everywhere] == [int(p == place) for p in range(4)]
    [wrong] = everywhere[(place + 1) % 4].rejected
    assert wrong.kind == "rejected"
    assert wrong.reason == (
        f"event id 'u' belongs in partition {place} of 4 (its CRC-32), but came in {(place + 1) % 4}, where a copy of it "
        "would not be found"
    )


def test_what_places_events_is_one_of_two():
    with pytest.raises(DeclarationError, match="`partitioned_by` must be 'event_id' or 'producer', got 'customer'"):
        redis_stream("readings", partitions=4, partitioned_by="customer")


@pytest.mark.parametrize("place", [("uid", "at"), ("at", "uid")])
def test_a_time_beside_another_column_does_not_place_an_event(place):
    source = EventSource("composite", schema=Reading, event_time="at", event_id=place)
    taking = Intake(source, arrow_schema(source), known=KnownIds(), partitions=4)

    assert taking.accept(partition_of("u", 4), log_records([row()]), start=0).events.num_rows == 1


class Odd(pandera.DataFrameModel):
    amount: Annotated[DecimalType, 12, 2, None]
    at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]


@pytest.mark.parametrize("columns", ["amount", "at"])
def test_ids_of_any_type_are_published_where_they_belong_however_they_are_spelled(columns):
    source = EventSource("odd", schema=Odd, event_time="at", event_id=columns, log=redis_stream("odd", partitions=3))
    spelled = [{"amount": a, "at": t} for a in (Decimal("1.5"), Decimal("1.50"), 1.5) for t in (from_us(NOW_US), ISO)]
    log, placed = Published(), set()

    publish_events(source, log, spelled, clock=ManualClock(NOW_US))

    for record in log.records:
        placed.add(record.event_id)
        taking = Intake(source, arrow_schema(source), known=KnownIds(), partitions=3)
        found = taking.accept(partition_of(record.event_id, 3), [LogRecord(0, NOW_US, record.payload)], start=0)
        assert found.events.num_rows == 1, found.rejected
    assert len(placed) == 1


class Published:
    """Keeps what is published."""

    def publish(self, records):
        self.records = records
        return []


def test_a_rejected_record_does_not_take_the_id():
    taking = intake()

    taking.accept(0, log_records([row(level=-101), row(at=from_us(NOW_US + 2 * MINUTE_US))]), start=0)

    assert taking.accept(0, log_records([row()], start=2), start=2).events.num_rows == 1


def test_accepted_events_carry_the_system_columns_in_the_order_of_the_log():
    some = rows(20, seed=3)
    events = intake().accept(1, log_records(some, start=100), start=100).events

    assert events.column("uid").to_pylist() == [r["uid"] for r in some]
    assert events.column("_event_id").to_pylist() == [r["uid"] for r in some]
    assert events.column("_offset").to_pylist() == list(range(100, 120))
    assert set(events.column("_partition").to_pylist()) == {1}
    assert set(events.column("_arrived_us").to_pylist()) == {NOW_US}
    assert events.column("_day").to_pylist() == [r["at"].date() for r in some]
    assert not any(events.column("_late").to_pylist())
    assert [from_us(us) for us in events.column("_event_us").to_pylist()] == [r["at"] for r in some]


def test_no_records_and_only_bad_records_move_the_position_alone():
    taking = intake()

    assert (taking.accept(0, [], start=9).end, taking.accept(0, [], start=9).events.num_rows) == (9, 0)
    bad = taking.accept(0, [LogRecord(9, NOW_US, b"{"), LogRecord(10, NOW_US, b"{")], start=9)
    assert (bad.end, bad.events.num_rows, len(bad.rejected)) == (11, 0, 2)
    assert bad.events.schema == accepted(rows(1)).schema


@st.composite
def dirty_records(draw):
    """Records of every kind, shuffled."""
    seed = draw(st.integers(0, 10_000))
    chance = random.Random(seed)
    some = rows(30, seed=seed)
    some += [dict(r) for r in chance.sample(some, 5)] + [r | {"level": 3} for r in chance.sample(some, 5)]
    some += [row(uid=f"x{n}", level=-101) for n in range(2)]
    some += [row(uid=f"f{n}", at=from_us(NOW_US + 10 * MINUTE_US)) for n in range(2)]
    given = [*payloads(some), b"{", b"null"]
    chance.shuffle(given)
    return [LogRecord(n, NOW_US + n * SECOND_US, payload) for n, payload in enumerate(given)]


@settings(max_examples=25)
@given(records=dirty_records(), data=st.data())
def test_however_the_log_is_read_the_same_records_become_events(records, data):
    whole = intake().accept(0, records, start=0)

    taking, parts, at = intake(), [], 0
    for size in data.draw(splits(len(records))):
        parts.append(taking.accept(0, records[at : at + size], start=at))
        at += size

    assert [row for part in parts for row in part.events.to_pylist()] == whole.events.to_pylist()
    assert [r for part in parts for r in part.rejected] == list(whole.rejected)
    assert len(whole.rejected) >= 14


def test_a_query_is_planned_anew_when_the_columns_change():
    query = BatchQuery("SELECT * FROM batch")

    for table in (
        pa.table({"a": [1]}),
        pa.table({"a": [2, 3]}),
        pa.table({"b": ["x"], "a": [1.5]}),
        pa.table({"a": [4]}),
    ):
        assert query.run(table).to_pylist() == table.to_pylist()
