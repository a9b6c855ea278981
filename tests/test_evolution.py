"""How a source may change: what becomes of each column, and what is refused with which words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

from feature_store import DeclarationError, Entity, EventSource, FeatureView, Label, Registry, agg, redis_stream
from feature_store.changes import compare, meanings
from feature_store.decoders import compressed, json, protobuf
from feature_store.evolution import compare_sources, source_schema
from feature_store.schema import arrow_schema

TIME = {"at": (pd.DatetimeTZDtype, pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}))}
BEFORE = {"uid": (str, pa.Field()), "key": (str, pa.Field(nullable=True)), "size": (np.int32, pa.Field())}


def model(columns):
    given = {**columns, **TIME}
    body = {"__annotations__": {name: kind for name, (kind, _) in given.items()}}
    return type("Model", (pa.DataFrameModel,), body | {name: options for name, (_, options) in given.items()})


def source(columns=(), *, without=(), **options):
    kept = {name: column for name, column in (BEFORE | dict(columns)).items() if name not in without}
    declared = {"event_time": "at", "event_id": "uid", "log": redis_stream("events"), "decode": json()} | options
    return EventSource("events", schema=model(kept), **declared)


def column(kind, **options):
    return kind, pa.Field(**options)


def said(before, after, *views):
    changes = compare_sources(source_schema(before), source_schema(after), views)
    return [str(change) for change in changes if change.kind != "unchanged"]


def view(declared, *features, where=None):
    return FeatureView("v", entity=Entity("key", join_keys=["key"]), source=declared, features=features, where=where)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"note": column(str, nullable=True)}, ["column 'note' added: string, nullable"]),
        ({"note": column(str, default="none")}, ["column 'note' added: string, default 'none'"]),
        ({"size": column(np.int64)}, ["column 'size' widened: int32, required -> int64, required"]),
        ({"size": column(np.int32, default=7)}, ["column 'size' relaxed: int32, required -> int32, default '7'"]),
        (
            {"size": column(pd.Int32Dtype, nullable=True)},
            ["column 'size' relaxed: int32, required -> int32, nullable"],
        ),
    ],
)
def test_what_keeps_old_events_readable_is_compatible(change, expected):
    assert said(source(), source(change)) == expected


def test_a_changed_retention_says_what_goes_and_breaks_nothing():
    gone = "events older than 30d go for good with the next housekeeping, as far as nothing needs them"
    kept, longer, short = source(), source(retention="90d"), source(retention="30d")
    change = next(
        change
        for change in compare_sources(source_schema(longer), source_schema(short))
        if change.column == "retention"
    )

    assert change.kind != "incompatible"
    assert said(longer, short) == [f"'retention': 90d -> 30d; {gone}"]
    assert said(kept, short) == [f"'retention': for ever -> 30d; {gone}"]
    assert said(short, kept) == ["'retention': 30d -> for ever; no event goes any more"]
    assert said(short, short) == []
    unknown = replace(source_schema(kept), retention="")  # recorded by an older release
    assert [each for each in compare_sources(unknown, source_schema(short)) if each.kind != "unchanged"] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"note": column(str)}, "'note': string, required; a new column must be nullable or have a default"),
        ({"size": column(np.int16)}, "'size': int32, required -> int16, required; a type may be widened, not narrowed"),
        ({"size": column(np.float64)}, "integers do not become floats, whose sums are rounded"),
        ({"size": column(np.uint64)}, "a type may only be widened (a larger integer of the same sign"),
        ({"size": column(str)}, "'size': int32, required -> string, required; a type may only be widened"),
        ({"key": column(str)}, "'key': string, nullable -> string, required; a column that may be null stays so"),
        ({"key": column(str, default="x")}, "a default cannot be given later: old events with null"),
    ],
)
def test_what_makes_something_else_of_old_events_is_refused(change, expected):
    [found] = said(source(), source(change))
    assert expected in found


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (source(without=["size"]), "'size': int32, required -> gone; a column stays, for events have it"),
        (source(event_id=["uid", "key"]), "'event_id': uid -> uid, key; old events would be other ones"),
        (source(timezone="Europe/Paris"), "'timezone': UTC -> Europe/Paris; naive times of history"),
        (source(decode=compressed(json(), codec="gzip")), "'decode': json -> gzip json; payloads that are in the log"),
        (
            source(decode=json(fields={"size": "a.size"})),
            "'size': int32, required, from `size` -> int32, required, from `a.size`; old payloads have it in another field",
        ),
    ],
)
def test_what_a_source_rests_on_stays(after, expected):
    [found] = said(source(), after)
    assert expected in found


def test_a_default_stays():
    before = source({"note": column(str, default="a")})
    for after in (source({"note": column(str, default="b")}), source({"note": column(str, nullable=True)})):
        [found] = said(before, after)
        assert "a default stays, for old events have it" in found


@pytest.mark.parametrize("broken", [{"uid": column(str, default="x")}, {"size": column(np.int32, default=1 << 40)}])
def test_a_default_that_cannot_be_is_refused_when_it_is_declared(broken):
    with pytest.raises(DeclarationError, match=r"no default for them|must be a value of int32, got 1099511627776"):
        arrow_schema(source(broken))


@pytest.mark.parametrize(
    ("feature", "where", "fits"),
    [
        (agg.sum("size", over="1h"), None, True),
        (agg.count(over="1h"), "size > 3 AND key IS NOT NULL", True),
        (agg.sum("size * 3", over="1h", name="tripled"), None, False),
        (agg.count(over="1h"), "size + 1 > 3", False),
    ],
)
def test_a_column_is_widened_only_if_no_view_computes_with_it(feature, where, fits):
    wider = source({"size": column(np.int64)})
    [found] = said(source(), wider, view(wider, feature, where=where))
    assert ("widened" in found) is fits
    if not fits:
        assert "view 'v@1' computes" in found


@pytest.mark.parametrize(
    ("column_sql", "where", "fits"),
    [("size", "size > 3", True), ("size * 3", None, False), ("size", "size + 1 > 3", False)],
)
def test_a_label_computes_with_a_column_as_a_view_does(column_sql, where, fits):
    wider = source({"size": column(np.int64)})
    label = Label("worth", wider.sum(column_sql, on="key", within="1d", where=where))
    after = Registry(views=[view(wider, agg.count(over="1h"))], labels=[label])

    [change] = compare(
        meanings(Registry(views=[view(source(), agg.count(over="1h"))])), meanings(after), readers=after.readers
    )

    assert change.breaking is not fits
    if not fits:
        assert f"label 'worth' computes `{column_sql if where is None else where}`" in change.reason


def test_floats_become_doubles_only_where_nothing_is_compared():
    narrow, wide = (source({"load": column(kind)}) for kind in (np.float32, np.float64))
    assert "widened" in said(narrow, wide, view(wide, agg.sum("load", over="1h")))[0]
    assert "computes `load > 0.1`" in said(narrow, wide, view(wide, agg.count(over="1h"), where="load > 0.1"))[0]


def shop(*fields, message="Event"):
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    file = FileDescriptorProto(name="events.proto", package="shop", syntax="proto3")
    kind = file.message_type.add(name=message)
    for name, number, type_ in (("uid", 1, 9), ("key", 2, 9), ("at", 9, 11), *fields):
        field = kind.field.add(name=name.removesuffix("?"), number=number, type=type_, label=1)
        if name.endswith("?"):
            field.proto3_optional, field.oneof_index = True, len(kind.oneof_decl)
            kind.oneof_decl.add(name=f"_{name[:-1]}")
        if type_ == 11:
            field.type_name = ".google.protobuf.Timestamp"
    file.dependency.append("google/protobuf/timestamp.proto")
    data = FileDescriptorSet(file=[file]).SerializeToString()
    return protobuf(message=f"shop.{message}", descriptor=data)


INT32, INT64, SINT64, STRING = 5, 3, 18, 9


@pytest.mark.parametrize(
    ("columns", "fields", "expected"),
    [
        ({"size": column(np.int64)}, [("size", 3, INT64)], "column 'size' widened"),
        (
            {"size": column(np.int32), "note": column(str, nullable=True)},
            [("size", 3, INT32), ("note", 5, STRING)],
            "the field must be `optional`, for old payloads would have zero there and history null",
        ),
        (
            {"size": column(pd.Int32Dtype, nullable=True)},
            [("size?", 3, INT32)],
            "whether a field says that nothing was given stays",
        ),
        ({"size": column(np.int32)}, [("size", 4, INT32)], "a field keeps its number, by which old payloads are read"),
        ({"size": column(np.int64)}, [("size", 3, SINT64)], "Protobuf does not read int32 as sint64"),
        (
            {"size": column(np.int32), "note": column(str, nullable=True)},
            [("note", 3, STRING), ("size", 4, INT32)],
            "number 3 was that of column 'size', and old payloads would be read as this one",
        ),
    ],
)
def test_protobuf_fields_keep_their_numbers(columns, fields, expected):
    before = source(decode=shop(("size", 3, INT32)))
    found = said(before, source(columns, decode=shop(*fields)))
    assert any(expected in change for change in found), found


def test_a_field_may_be_renamed_under_its_number():
    before = source(decode=shop(("size", 3, INT32)))
    renamed = replace(shop(("length", 3, INT32)), fields=(("size", "length"),))
    assert said(before, source(decode=renamed)) == []
