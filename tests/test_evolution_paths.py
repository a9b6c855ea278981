"""An evolved source in both paths: what the lake has of an event is what the log says of it, whoever upgraded first."""

import itertools
import json as text
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_server import schema_registry
from test_evolution import INT32, INT64, STRING, column, shop, source

from feature_store import InputError, LakeError
from feature_store.decoders import avro, confluent_avro, json, protobuf
from feature_store.evolution import compare_sources, source_schema
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.history.conform import conform
from feature_store.lake import Lake
from feature_store.log.protocol import LogRecord
from feature_store.schema import arrow_schema
from feature_store.time_rule import to_us

NUMBERS = itertools.count()
START = datetime(2024, 3, 30, 12, tzinfo=UTC)
NEW = {
    "nullable": {"note": column(str, nullable=True)},
    "widened": {"size": column(np.int64)},
    "default": {"note": column(str, default="none")},
}


def events(first, count, **more):
    return [
        {"uid": f"e{n}", "key": f"k{n % 2}", "size": n, "at": START + timedelta(minutes=n), **more}
        for n in range(first, first + count)
    ]


def accepted(declared, payloads, start=0):
    """What the log says: the events of payloads that lie from an offset on."""
    arrived = to_us(START + timedelta(days=1))
    records = [LogRecord(offset=start + n, arrived_us=arrived, payload=payload) for n, payload in enumerate(payloads)]
    found = Intake(declared, arrow_schema(declared), known=KnownIds()).accept(0, records, start=start)
    assert found.rejected == []
    return found.events


def archive(lake, declared, payloads, start):
    """Bring payloads to the lake as an archiver with these declarations does."""
    lake.ensure_source(declared.name, arrow_schema(declared))
    rows = accepted(declared, payloads, start)
    lake.append_live(declared.name, rows, owner="a", start={0: start}, end={0: start + len(payloads)})


def held(lake, declared, **options):
    """What the lake says of a source's columns, in the order of the log and then of the ids."""
    names = ", ".join(f'"{name}"' for name in arrow_schema(declared).names)
    with lake.cursor() as cursor:
        sql = f"SELECT {names} FROM ({lake.events_sql(declared.name, **options)}) ORDER BY _event_us"
        return cursor.execute(sql).to_arrow_table()


def said(declared, rows):
    """The same of accepted events."""
    schema = pa.schema([field.with_nullable(True).remove_metadata() for field in arrow_schema(declared)])
    return rows.select(schema.names).cast(schema)


@dataclass(frozen=True)
class Format:
    """How events are written by the producers of before and after a change, and read by both."""

    old: object
    new: object


def of_json(change, registry):
    return Format(json(), json())


def of_protobuf(change, registry):
    wide = INT64 if change == "widened" else INT32
    more = [] if change == "widened" else [("note?", 4, STRING)]
    return Format(shop(("size", 3, INT32)), shop(("size", 3, wide), *more))


def of_avro(change, registry):
    def written(*fields):
        types = [{"name": name, "type": kind} for name, kind in (("uid", "string"), ("key", "string"), *fields)]
        at = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
        return {"type": "record", "name": "Event", "fields": [*types, at]}

    read = partial(confluent_avro, registry_url=registry.url, subject="events", register=True)
    old = written(("size", "int"))
    new = written(("size", "long")) if change == "widened" else written(("size", "int"), ("note", ["null", "string"]))
    return Format(read(reader_schema=old), read(reader_schema=new))


@pytest.fixture(scope="module")
def registry():
    with schema_registry() as server:
        yield server


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """One lake, as a process with the old and one with the new declarations have opened it; each test has a source of its own."""
    place = tmp_path_factory.mktemp("lakes")
    with Lake.open(place) as old, Lake.open(place) as new:
        yield old, new


@pytest.fixture
def a_source():
    """Declares the source of this test."""
    name = f"events_{next(NUMBERS)}"
    return lambda *columns, **options: replace(source(*columns, **options), name=name)


def reading(decoder):
    """How a consumer reads: Avro by whatever schema a record was written by."""
    return replace(decoder, reader_schema=None) if hasattr(decoder, "reader_schema") else decoder


@pytest.mark.parametrize("first", ["producer", "consumer"])
@pytest.mark.parametrize("change", NEW)
@pytest.mark.parametrize("of_format", [of_json, of_avro, of_protobuf])
def test_events_are_the_same_in_log_and_lake_whoever_upgrades_first(
    of_format, change, first, lakes, registry, a_source
):
    # old producer, old consumer | one of them upgrades | the other one does | the old consumer still runs
    old_lake, new_lake = lakes
    formats = of_format(change, registry)
    old, new = a_source(decode=reading(formats.old)), a_source(NEW[change], decode=reading(formats.new))
    more = {} if change == "widened" else {"note": "new"}
    before, after = formats.old.encode(events(0, 3)), formats.new.encode(events(6, 3, **more))
    between = formats.new.encode(events(3, 3, **more)) if first == "producer" else formats.old.encode(events(3, 3))
    last = formats.new.encode(events(9, 3, **more))
    assert all(each.kind != "incompatible" for each in compare_sources(source_schema(old), source_schema(new)))

    archive(old_lake, old, before, 0)
    snapshot = old_lake.snapshot()
    earlier = held(old_lake, old)
    archive(old_lake if first == "producer" else new_lake, old if first == "producer" else new, between, 3)
    archive(new_lake, new, after, 6)
    archive(old_lake, old, last, 9)

    found = held(new_lake, new)
    unseen = {"nullable": None, "default": "none"}.get(change)  # what an old consumer did not see of the new field
    wanted = said(new, accepted(new, [*before, *between, *after, *last]))
    if change != "widened":
        notes = [unseen] * 6 + ["new"] * 3 + [unseen] * 3
        wanted = wanted.set_column(wanted.schema.get_field_index("note"), "note", pa.array(notes))
    assert found.to_pylist() == wanted.to_pylist()
    assert found.schema == wanted.schema
    assert held(new_lake, old, snapshot=snapshot).to_pylist() == earlier.to_pylist()


def test_what_was_kept_is_found_by_the_column_that_is_declared_later(lakes, a_source):
    old_lake, new_lake = lakes
    keep = json(unknown_fields="keep", fields={"note": "more.note"})
    old = a_source(decode=replace(keep, fields=()))
    new = a_source({"note": column(str, nullable=True), "load": column(float, default=0.5)}, decode=keep)
    rows = [row | {"more": {"note": f"n{n}", "x": [1]}, "load": 0.1 * n} for n, row in enumerate(events(0, 3))]
    payloads = [text.dumps(row, default=str).encode() for row in [*rows, *events(3, 1)]]

    archive(old_lake, old, payloads, 0)
    with old_lake.cursor() as cursor:
        kept = cursor.execute(f"SELECT _unknown FROM ({old_lake.events_sql(old.name)}) ORDER BY _event_us").fetchall()
    assert kept[1] == ('{"more":{"note": "n1", "x": [1]},"load":0.1}',)
    assert kept[3] == (None,)
    new_lake.ensure_source(new.name, arrow_schema(new))

    assert held(new_lake, new).to_pylist() == said(new, accepted(new, payloads)).to_pylist()


def test_what_avro_records_had_besides_is_found_by_the_column_that_is_declared_later(lakes, registry):
    # producer:  older | newer, with fields that the consumer does not know
    # consumer:  the first columns, by a reader's schema or by the writer's | all columns
    def written(*fields):
        types = [{"name": name, "type": kind} for name, kind in (("uid", "string"), ("key", "string"), ("size", "int"))]
        at = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
        return {"type": "record", "name": "Event", "fields": [*types, at, *fields]}

    inner = {
        "type": "record",
        "name": "More",
        "fields": [{"name": "note", "type": ["null", "string"]}, {"name": "x", "type": "int"}],
    }
    since = {"type": "long", "logicalType": "timestamp-micros"}
    more = [
        {"name": name, "type": kind}
        for name, kind in (("more", inner), ("load", "double"), ("raw", "bytes"), ("since", since))
    ]
    read = partial(confluent_avro, registry_url=registry.url, subject="kept", register=True)
    oldest, newest = read(reader_schema=written()), read(reader_schema=written(*more))
    columns = {
        "note": column(str, nullable=True),
        "load": column(float, default=0.5),
        "raw": column(pd.ArrowDtype(pa.binary()), nullable=True),
        "since": column(pd.DatetimeTZDtype(tz="UTC", unit="us"), nullable=True),
    }
    rows = [
        row
        | {"more": {"note": f"n{n}" if n else None, "x": 1}, "load": 0.1 * n, "raw": b"\x00\xff", "since": row["at"]}
        for n, row in enumerate(events(0, 3))
    ]
    payloads = [*newest.encode(rows), *oldest.encode(events(3, 2))]
    for number, reader_schema in enumerate((written(), None)):
        keep = read(reader_schema=reader_schema, unknown_fields="keep")
        old = replace(source(decode=keep), name=f"events{number}")
        new = replace(
            source(columns, decode=replace(keep, reader_schema=None, fields=(("note", "more.note"),))), name=old.name
        )
        for lake, each in zip(lakes, (old, new), strict=True):
            lake.ensure_source(each.name, arrow_schema(old))
        lakes[0].append_live(old.name, accepted(old, payloads), owner="a", start={0: 0}, end={0: 5})
        lakes[1].ensure_source(new.name, arrow_schema(new))

        names = arrow_schema(new).names
        with lakes[1].cursor() as cursor:
            listed = ", ".join(f'"{name}"' for name in names)
            sql = f"SELECT {listed} FROM ({lakes[1].events_sql(new.name)}) ORDER BY _event_us"
            found = cursor.execute(sql).to_arrow_table().to_pylist()
        assert found == said(new, accepted(new, payloads)).to_pylist()
        assert [row["load"] for row in found] == [0.0, 0.1, 0.2, 0.5, 0.5]


def test_plain_avro_keeps_the_fields_of_its_schema_that_no_column_comes_from():
    schema = {
        "type": "record",
        "name": "E",
        "fields": [{"name": "uid", "type": "string"}, {"name": "n", "type": "int"}],
    }
    keeping = avro(schema=schema, unknown_fields="keep")

    found = keeping.decode(keeping.encode([{"uid": "a", "n": 7}]), pa.schema([("uid", pa.string())])).table

    assert found.column("_unknown").to_pylist() == ['{"n":7}']
    with pytest.raises(InputError, match="`unknown_fields` must be one of ignore, keep for this format, got 'reject'"):
        avro(schema=schema, unknown_fields="reject")


def test_a_field_that_the_reader_knows_by_an_alias_is_no_unknown_one():
    def record(*fields):
        return {"type": "record", "name": "E", "fields": [{"name": "uid", "type": "string"}, *fields]}

    written = record({"name": "was", "type": "int"}, {"name": "more", "type": "int"})
    read = record({"name": "n", "type": "int", "aliases": ["was"]})
    payloads = avro(schema=written).encode([{"uid": "a", "was": 1, "more": 2}])

    schema = pa.schema([("uid", pa.string()), ("n", pa.int32())])
    [row] = avro(schema=written, reader_schema=read, unknown_fields="keep").decode(payloads, schema).table.to_pylist()

    assert (row["n"], row["_unknown"]) == (1, '{"more":2}')


def test_that_protobuf_cannot_keep_what_it_does_not_know_is_said_when_it_is_declared():
    with pytest.raises(
        InputError, match=r"comes as a number and bytes, without name and type.*say 'reject', and replay"
    ):
        protobuf(message="shop.Event", unknown_fields="keep")


def test_unknown_fields_are_rejected_where_that_is_declared(registry):
    schema = arrow_schema(source())
    row = events(0, 1)[0]
    strict = [
        (json(unknown_fields="reject"), json(), "Object contains unknown field `note`"),
        (
            replace(shop(("size", 3, INT32)), unknown_fields="reject"),
            shop(("size", 3, INT32), ("note?", 4, STRING)),
            "message 'shop.Event' has no field of number 4",
        ),
        (
            replace(reading(of_avro("nullable", registry).old), unknown_fields="reject"),
            of_avro("nullable", registry).new,
            "of subject 'events': no column comes from field `note`",
        ),
    ]
    for consumer, producer, reason in strict:
        [rejected] = consumer.decode(producer.encode([row | {"note": "x"}]), schema).rejected
        assert reason in rejected.reason


def test_history_that_is_older_than_a_column_has_its_default(lakes, a_source):
    lake, _ = lakes
    declared = a_source(NEW["default"] | {"size": column(pd.Int64Dtype, nullable=True)})
    schema = arrow_schema(declared)
    rows = pa.Table.from_pylist([{name: row[name] for name in ("uid", "key", "at")} for row in events(0, 3)])
    found = conform(declared, rows, schema=schema, arrival=None)

    lake.ensure_source(declared.name, schema)
    lake.replace_loaded(declared.name, found.events, days=[START.date()])

    read = held(lake, declared)
    assert read.column("note").to_pylist() == ["none"] * 3
    assert read.column("size").to_pylist() == [None] * 3


def test_a_loader_that_was_declared_before_a_column_was_added_writes_its_default(lakes, a_source):
    old, new = lakes
    before, after = a_source(), a_source(NEW["default"])
    old.ensure_source(before.name, arrow_schema(before))
    new.ensure_source(after.name, arrow_schema(after))
    rows = conform(before, pa.Table.from_pylist(events(0, 3)), schema=arrow_schema(before), arrival=None).events

    old.replace_loaded(before.name, rows, days=[START.date()])

    assert held(new, after).column("note").to_pylist() == ["none"] * 3


def test_of_two_who_declare_one_column_differently_the_second_is_refused(lakes, a_source):
    one, other = lakes
    declared = a_source({"note": column(str, nullable=True)})
    one.ensure_source(declared.name, arrow_schema(declared))

    with pytest.raises(LakeError, match="column 'note' is VARCHAR in the lake, but BIGINT is wanted"):
        other.ensure_source(declared.name, arrow_schema(a_source({"note": column(pd.Int64Dtype, nullable=True)})))


KINDS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.float32, np.float64, str]
COLUMNS = st.tuples(st.sampled_from(KINDS), st.sampled_from(["required", "nullable", "default"]))


def drawn(choice):
    if choice is None:
        return {}
    kind, how = choice
    if how == "nullable":
        kind = {np.int8: pd.Int8Dtype, np.int16: pd.Int16Dtype, np.int32: pd.Int32Dtype, np.int64: pd.Int64Dtype,
                np.uint8: pd.UInt8Dtype}.get(kind, kind)  # fmt: skip
    options = {"required": {}, "nullable": {"nullable": True}, "default": {"default": "7" if kind is str else 7}}[how]
    return {"x": column(kind, **options)}


@settings(max_examples=20, deadline=None)
@given(
    before=st.none() | COLUMNS, after=st.none() | COLUMNS, values=st.lists(st.integers(0, 127), min_size=1, max_size=3)
)
def test_compatible_means_that_old_events_read_the_same_in_both_paths(shared_lake, before, after, values):
    old, new = source(drawn(before)), source(drawn(after))
    compatible = all(each.kind != "incompatible" for each in compare_sources(source_schema(old), source_schema(new)))
    if not compatible:
        return
    given = [
        row if before is None or (value % 2 and before[1] != "required")
        else row | {"x": str(value) if before[0] is str else value}
        for row, value in zip(events(0, len(values)), values, strict=True)
    ]  # fmt: skip
    payloads = json().encode(given)
    name = f"events_{shared_lake.snapshot()}"
    shared_lake.ensure_source(name, arrow_schema(old))
    shared_lake.append_live(name, accepted(old, payloads), owner="a", start={0: 0}, end={0: len(payloads)})
    shared_lake.ensure_source(name, arrow_schema(new))

    names = ", ".join(f'"{column}"' for column in arrow_schema(new).names)
    with shared_lake.cursor() as cursor:
        found = cursor.execute(
            f"SELECT {names} FROM ({shared_lake.events_sql(name)}) ORDER BY _event_us"
        ).to_arrow_table()
    wanted = said(new, accepted(new, payloads))
    assert found.to_pylist() == wanted.to_pylist()
    assert found.schema == wanted.schema
    was = accepted(old, payloads)
    if "x" in was.column_names:
        assert was.column("x").to_pylist() == found.column("x").to_pylist()


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory):
    with Lake.open(tmp_path_factory.mktemp("lake")) as lake:
        yield lake
