"""The canonical key of an entity: one text in Python, SQL and Arrow, and another one for every other entity."""

import re
import string
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.engines.pandas_engine import ArrowBinary, Date

from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    InputError,
    ManualClock,
    Registry,
    Settings,
    agg,
    parquet,
    redis_stream,
)
from feature_store.declare.key import entity_key, entity_key_sql, key_text
from feature_store.declare.keyed import KeyedView
from feature_store.duck import in_memory
from feature_store.fold.run import LocalStream
from feature_store.history.join_keys import as_key
from feature_store.history.spine import Spine, spine_keys
from feature_store.reader.places import EntityRead
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import compile_registry

TYPES = {"int": pa.int64(), "str": pa.string(), "bool": pa.bool_(), "date": pa.date32(), "bytes": pa.binary()}
DIRTY = st.text(st.sampled_from("ab|%{}7C \n\t\0é漢\U0001f600'\"\\"), max_size=12)
VALUES = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "str": st.one_of(st.text(max_size=12), DIRTY, st.text(string.printable, min_size=900, max_size=5000)),
    "bool": st.booleans(),
    "date": st.dates(),
    "bytes": st.binary(max_size=12),
}


@st.composite
def entities(draw):
    """Kinds of join keys, and rows of them."""
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    row = st.tuples(*(st.one_of(VALUES[kind], VALUES[kind], VALUES[kind], st.none()) for kind in kinds))
    return kinds, draw(st.lists(row, min_size=1, max_size=8))


def names_of(kinds):
    return [f"k{i}" for i in range(len(kinds))]


def table_of(kinds, rows):
    columns = zip(*rows, strict=True)
    pairs = zip(names_of(kinds), kinds, columns, strict=True)
    return pa.table({name: pa.array(column, type=TYPES[kind]) for name, kind, column in pairs})


def read_of(kinds):
    names = tuple(names_of(kinds))
    return EntityRead(told="entity 'e'", join_keys=names, columns=names, kinds=tuple(kinds))


@given(entities())
@settings(deadline=None, max_examples=150)
def test_python_sql_and_the_spine_give_one_text(drawn):
    kinds, rows = drawn
    names, table = names_of(kinds), table_of(kinds, rows)
    spine = Spine(table=table, time_column="", time_us=np.zeros(len(rows), dtype=np.int64))

    try:
        read = read_of(kinds).keys([dict(zip(names, row, strict=True)) for row in rows])
    except InputError:
        with pytest.raises(InputError, match="must be at most 4,096 bytes as text, got"):
            spine_keys(spine, keyed(names), table.schema)
        return

    connection = in_memory()
    connection.register("events", table)
    sql = entity_key_sql(dict(zip(names, kinds, strict=True)))
    assert [row[0] for row in connection.execute(f"SELECT {sql} FROM events").fetchall()] == read
    connection.close()
    found = spine_keys(spine, keyed(names), table.schema)
    texts = found.text.to_pylist()
    assert [None if code < 0 else texts[code] for code in found.codes.tolist()] == read
    whole = {row: key for row, key in zip(rows, read, strict=True) if key is not None}
    assert len(set(whole.values())) == len(whole), "different entities have different keys"


@given(st.lists(st.tuples(DIRTY, VALUES["int"], st.booleans()), max_size=8))
@settings(deadline=None)
def test_the_text_is_what_the_reference_says(rows):
    for row in rows:
        assert entity_key(row, ["str", "int", "bool"], columns=["a", "b", "c"]) == reference.entity_key(row)


def keyed(names):
    source = EventSource("s", schema=pandera.DataFrameModel, event_time="t", event_id="i")
    return KeyedView(FeatureView("v", entity=Entity("e", join_keys=names), source=source, features=[]))


def test_an_entity_has_a_longest_text_in_serving_and_in_training():
    schema, read = pa.schema([("k0", pa.string()), ("k1", pa.binary())]), read_of(["str", "bytes"])

    def numbered(text, token):
        table = pa.table([[text], [token]], schema=schema)
        return spine_keys(
            Spine(table=table, time_column="", time_us=np.zeros(1, dtype=np.int64)), keyed(read.columns), schema
        )

    longest = ("é" * 1_000, b"\x00" * 1_047 + b"\xff")  # 2,000 + 1 + 2,096 bytes, one too many
    [found] = read.keys([{"k0": longest[0][1:] + "a", "k1": longest[1]}])
    assert found == numbered("é" * 999 + "a", longest[1]).text[0].as_py()
    with pytest.raises(InputError, match=r"entity 'e': `k0, k1` must be at most 4,096 bytes as text, got 4,097"):
        read.keys([{"k0": longest[0], "k1": longest[1]}])
    with pytest.raises(InputError, match="spine: `k0, k1` must be at most 4,096 bytes as text, got 4,097"):
        numbered(*longest)
    assert read_of(["str"]).keys([{"k0": "a" * 4_096}]) == ["a" * 4_096]
    with pytest.raises(InputError, match="got 4,097"):
        read_of(["str"]).keys([{"k0": "a" * 4_097}])
    with pytest.raises(InputError, match="`k0` must be an integer or its canonical text, got <int>"):
        read_of(["int"]).keys([{"k0": 10**5_000}])


UID = uuid.UUID("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")

ACCEPTED = [
    ("int", 7, "7"),
    ("int", np.int64(7), "7"),
    ("int", np.uint8(7), "7"),
    ("int", "7", "7"),
    ("int", "-7", "-7"),
    ("int", 7.0, "7"),
    ("int", np.float64(7), "7"),
    ("int", np.float32(7), "7"),
    ("int", -0.0, "0"),
    ("int", 2**63 - 1, "9223372036854775807"),
    ("int", float("nan"), None),
    ("int", None, None),
    ("int", pd.NA, None),
    ("str", "", ""),
    ("str", "007", "007"),
    ("str", np.str_("é"), "é"),
    ("str", 7, "7"),
    ("str", True, "true"),
    ("str", date(2013, 1, 31), "2013-01-31"),
    ("str", UID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("str", float("nan"), None),
    ("bool", False, "false"),
    ("bool", np.True_, "true"),
    ("bool", "true", "true"),
    ("date", date(2013, 1, 31), "2013-01-31"),
    ("date", "2013-01-31", "2013-01-31"),
    ("date", datetime(2013, 1, 31), "2013-01-31"),  # noqa: DTZ001 - a day, as pandas has it
    ("date", pd.Timestamp("2013-01-31"), "2013-01-31"),
    ("date", np.datetime64("2013-01-31"), "2013-01-31"),
    ("date", np.datetime64("2013-01-31T00:00:00", "ns"), "2013-01-31"),
    ("date", np.datetime64("NaT"), None),
    ("date", pd.NaT, None),
    ("bytes", b"\x00\xffa", "00ff61"),
    ("bytes", bytearray(b"a"), "61"),
    ("bytes", memoryview(b"a"), "61"),
    ("bytes", np.bytes_(b"a"), "61"),
    ("bytes", "61", "61"),
    ("bytes", b"", ""),
]


@pytest.mark.parametrize(("kind", "value", "text"), ACCEPTED)
def test_a_value_of_the_kind_or_of_the_same_text_names_the_entity(kind, value, text):
    assert key_text(value, kind) == text


REFUSED = [
    ("int", 7.5),
    ("int", 1e300),
    ("int", 2.0**60),
    ("int", float("inf")),
    ("int", "07"),
    ("int", "7.0"),
    ("int", " 7"),
    ("int", "+7"),
    ("int", "٣"),
    ("int", ""),
    ("int", "7\n"),
    ("int", True),
    ("int", np.True_),
    ("int", b"7"),
    ("int", Decimal(7)),
    ("int", date(2013, 1, 31)),
    ("int", np.datetime64("2013-01-31", "ns")),
    ("int", np.timedelta64(5, "ns")),
    ("int", np.array([1, 2])),
    ("str", np.datetime64("2013-01-31", "ns")),
    ("str", 7.0),
    ("str", 7.5),
    ("str", b"a"),
    ("str", "\ud800"),
    ("str", Decimal("1.5")),
    ("str", datetime(2013, 1, 31, tzinfo=UTC)),
    ("str", ["a"]),
    ("str", object()),
    ("bool", 1),
    ("bool", "True"),
    ("bool", 1.0),
    ("date", "20130131"),
    ("date", "2013-01-32"),
    ("date", datetime(2013, 1, 31, 5)),  # noqa: DTZ001
    ("date", datetime(2013, 1, 31, tzinfo=UTC)),
    ("date", 7),
    ("bytes", "6"),
    ("bytes", "AB"),
    ("bytes", "é"),
    ("bytes", 7),
]


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_a_value_of_another_kind_is_refused_by_name(kind, value):
    with pytest.raises(InputError, match=r"^entity 'e': `k0` must be .* or its canonical text, got "):
        read_of([kind]).keys([{"k0": value}])


def frame_column(*values, dtype=None):
    return pa.Table.from_pandas(pd.DataFrame({"k": pd.Series(list(values), dtype=dtype)})).column("k")


SPINES = [
    ("int", frame_column(7, None), ["7", None]),
    ("int", frame_column(7, pd.NA, dtype="Int32"), ["7", None]),
    ("int", frame_column("7", None), ["7", None]),
    ("int", frame_column("7", "8", dtype="category"), ["7", "8"]),
    ("int", pa.chunked_array([pa.array([Decimal(7)])]), ["7"]),
    ("int", frame_column(None, None), [None, None]),
    ("str", frame_column(7, 8), ["7", "8"]),
    ("str", frame_column(UID, None), [str(UID), None]),
    ("str", frame_column("a", "b", dtype="category"), ["a", "b"]),
    ("str", frame_column(None, None, dtype="float64"), [None, None]),
    ("str", frame_column(True, False), ["true", "false"]),
    ("str", frame_column(date(2013, 1, 31)), ["2013-01-31"]),
    ("bool", frame_column("true", "false"), ["true", "false"]),
    ("date", frame_column(pd.Timestamp("2013-01-31"), None), ["2013-01-31", None]),
    ("date", frame_column("2013-01-31"), ["2013-01-31"]),
    ("bytes", frame_column(b"\x00a", None), ["0061", None]),
    ("bytes", frame_column("0061"), ["0061"]),
    ("bytes", pa.chunked_array([pa.array([b"ab"], type=pa.large_binary())]), ["6162"]),
]


@pytest.mark.parametrize(("kind", "column", "texts"), SPINES, ids=lambda case: None if isinstance(case, list) else "")
def test_a_spine_column_names_the_entities_that_a_request_does(kind, column, texts):
    found = as_key(column, TYPES[kind], "k")

    assert found.type == TYPES[kind]
    assert [key_text(value, kind) for value in found.to_pylist()] == texts
    assert [key_text(value, kind) for value in column.to_pylist() if not isinstance(value, Decimal)] in (texts, [])


WRONG_SPINES = [
    ("int", frame_column(7.5, None), "got 7.5, which is not the canonical text"),
    ("int", frame_column(2.0**60), "got 1.152921504606847e+18, which is not the canonical text"),
    ("int", frame_column("07"), "got '07', which is not"),
    ("int", frame_column(True), "the values are bool"),
    ("int", frame_column(b"7"), "the values are binary"),
    ("str", frame_column(7.0, None), "the values are double"),
    ("str", frame_column(b"a"), "the values are binary"),
    ("bool", frame_column("True"), "got 'True', which is not"),
    ("bool", frame_column(1), "the values are int64"),
    ("date", frame_column(pd.Timestamp("2013-01-31 05:00")), "got Timestamp"),
    ("date", frame_column(pd.Timestamp("2013-01-31", tz="UTC")), "the values are timestamp"),
    ("bytes", frame_column("AB"), "got 'AB', which is not"),
]


@pytest.mark.parametrize(
    ("kind", "column", "message"), WRONG_SPINES, ids=lambda case: case if isinstance(case, str) else ""
)
def test_a_spine_column_of_another_kind_is_refused(kind, column, message):
    beginning = f"spine column 'k' cannot be read as {TYPES[kind]}: {message}"
    with pytest.raises(InputError, match=f"^{re.escape(beginning)}"):
        as_key(column, TYPES[kind], "k")


# --- through a whole store ------------------------------------------------------------------------------------------


class Visit(pandera.DataFrameModel):
    visit: str
    at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    number: pd.Int64Dtype = pandera.Field(nullable=True)
    text: str = pandera.Field(nullable=True)
    flag: pd.BooleanDtype = pandera.Field(nullable=True)
    day: Date = pandera.Field(nullable=True)
    raw: ArrowBinary = pandera.Field(nullable=True)
    weight: float


KEYS = ["number", "text", "flag", "day", "raw"]
visits = EventSource("visits", schema=Visit, event_time="at", event_id="visit")


def counted(*keys, name="counted", **options):
    entity = Entity(f"of_{name}", join_keys=keys)
    return FeatureView(name, entity=entity, source=visits, features=[agg.count(over=None)], **options)


DAILY = counted(*KEYS, name="daily", online="batch", freshness_sla="2d")


def visit(hour, **keys):
    plain = dict.fromkeys(KEYS) | {"weight": 1.0}
    return {"visit": f"v{hour}", "at": datetime(2024, 1, 1, hour, tzinfo=UTC)} | plain | keys


def test_keys_of_every_kind_are_found_in_training_stream_and_batch(replay):
    views = [counted(*KEYS), DAILY]
    keys = {"number": -5, "text": "a|{b}%", "flag": True, "day": date(2024, 2, 29), "raw": b"\x00|\xff\\x41"}
    other = keys | {"raw": b"\x00|\xff\x41"}
    events = [visit(1, **keys), visit(2, **keys), visit(3, **other), visit(4, **(keys | {"day": None}))]

    result = replay(views, {"visits": events})

    later = datetime(2024, 1, 2, tzinfo=UTC)
    for feature in ("counted:count", "daily:count"):
        assert result.at(feature, time=later, **keys) == 2
        assert result.at(feature, time=later, **other) == 1


@pytest.mark.parametrize(("key", "kind"), [("weight", "double"), ("at", "timestamp[us, tz=UTC]")])
def test_a_join_key_without_one_text_is_refused_when_it_is_declared(key, kind):
    with pytest.raises(DeclarationError) as caught:
        compile_registry(Registry(views=[counted(key)]))

    message = f"view 'counted': join key '{key}': must be an integer, text, a boolean, a date or bytes, but is {kind}"
    assert message in str(caught.value)


def test_a_key_of_every_kind_reaches_redis_from_files_and_from_the_log(valkey, environment, tmp_path):
    keys = {"number": -5, "text": "a|{b}%", "flag": True, "day": date(2024, 2, 29), "raw": b"\x00|\xff"}
    parquet_file = tmp_path / "visits.parquet"
    pq.write_table(arrow_visits([visit(1, **keys), visit(2, **keys)]), parquet_file)
    source = replace(visits, load=parquet(str(parquet_file)), log=redis_stream("visits"))
    views = [replace(counted(*KEYS), source=source), replace(DAILY, source=source)]
    service = FeatureService("both", features=views)
    start, clock = datetime(2024, 1, 1, tzinfo=UTC), ManualClock(to_us(datetime(2024, 1, 2, 1, tzinfo=UTC)))
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment.replace("-", "_"))
    with FeatureStore(Registry(views=views, services=[service]), settings=settings, clock=clock) as store:
        store.apply()
        store.load("visits", start=start, end=start + timedelta(days=1))
        store.materialize("daily", start=start, end=start + timedelta(days=1))
        store.publish_view("daily")
        stream = LocalStream(store.compiled, store.lake, store.redis, env=settings.environment, clock=clock, shards=2)
        stream.step()
        store.publish("visits", [visit(3, **keys)])
        stream.step()

        served = store.get_online_features("both", keys | {"raw": keys["raw"].hex(), "flag": "true"})
        spine = pa.table(
            {name: pa.array([value]) for name, value in keys.items()}
            | {"event_timestamp": pa.array([start + timedelta(days=1)])}
        )
        trained = store.get_historical_features(spine, "both").to_arrow()

        assert served.to_dict() == {"counted:count": 3, "daily:count": 2}
        assert trained.column("counted__count").to_pylist() == trained.column("daily__count").to_pylist() == [2]
        name = f"features:{settings.environment}:{{of_counted:-5|a%7C%7Bb%7D%25|true|2024-02-29|007cff}}"
        assert store.redis.hlen(name) == 1


def arrow_visits(rows):
    schema = compile_registry(Registry(views=[counted("number")])).schemas["visits"]
    return pa.Table.from_pylist(rows, schema=schema)
