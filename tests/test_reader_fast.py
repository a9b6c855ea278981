"""The fast path of a read says what the slow one says, of every row that it answers for."""

import re
from dataclasses import replace
from datetime import date

import msgspec
import pytest
from fuzzing import damaged, tried
from hypothesis import example, given
from hypothesis import strategies as st
from online_world import NOW_US, service
from online_world import item as named
from typed_world import ledger, stored

from feature_store.computed.functions import Functions
from feature_store.declare.key import entity_key
from feature_store.errors import InputError
from feature_store.online.layout import FeatureLayout, ViewLayout, with_id
from feature_store.online.packed import ERROR
from feature_store.online.packing import encode_rows
from feature_store.reader.decode import UnknownLayout, decode_vectors
from feature_store.reader.fast import fast_vectors
from feature_store.reader.places import EntityRead
from feature_store.reader.plan import plan_read
from feature_store.reader.readiness import Readiness, Vouched
from feature_store.reader.worth import Moment
from feature_store.status import Status
from feature_store.time_rule import SECOND_US

LEDGER = ledger()
SHOPS = with_id(
    ViewLayout(
        view="shops",
        version=1,
        layout_id=0,
        entity="shop",
        join_keys=["shop"],
        features=[
            FeatureLayout(name="days", dtype="date", is_list=True, empty=[]),
            FeatureLayout(name="count_1h", dtype="int", empty=0),
        ],
        online="batch",
        sla_us=60 * SECOND_US,
    )
)
SERVICE = service(
    named("shops", "count_1h"),
    *(stored(name) for name in ("sizes", "on", "count_1h", "label")),
    named("shops", "days"),
    *(stored(name) for name in ("at", "flag", "mean_1h")),
)
PLAN = plan_read("prod", SERVICE, {LEDGER.id: LEDGER, SHOPS.id: SHOPS})
ALONE = plan_read("prod", service(*map(stored, ("count_1h", "mean_1h", "flag", "label", "sizes"))), {LEDGER.id: LEDGER})
"""Of one view, in its order, and nothing travels as something else: its rows become vectors as they are."""
PLAIN = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False) | st.integers(-9, 9),
    "bool": st.booleans(),
    "str": st.text(max_size=3),
    "timestamp": st.integers(0, 2**50),
    "date": st.integers(0, 30_000),
}


ODD = st.one_of(st.just(ERROR), st.text(max_size=2), st.lists(st.none(), max_size=1))


def seldom(draw, share=30):
    """One time in so many, so that most rows are such as the fast path answers for."""
    return draw(st.integers(0, share - 1)) == share - 1


@st.composite
def values_of(draw, feature):
    plain = PLAIN[feature.dtype]
    value = st.lists(plain, max_size=3) if feature.is_list else plain
    return draw(ODD if seldom(draw, 60) else st.none() if seldom(draw, 9) else value)


@st.composite
def packed_rows(draw, layout):
    """A value as it may stand in Redis, or None."""
    if seldom(draw):
        return None
    items = []
    for feature in layout.features:
        values = [draw(values_of(feature)) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
        seconds = sorted(draw(st.lists(st.integers(9, 12), min_size=2, max_size=2, unique=True)))
        items.append([values[0], *(each for pair in zip(seconds, values[1:], strict=False) for each in pair)])
    begins = draw(st.sampled_from([NOW_US, NOW_US + 1])) - draw(st.sampled_from([0, 10, 10, 60])) * SECOND_US
    [value] = encode_rows(
        7 if seldom(draw) else layout.layout_id,
        3,
        4,
        [begins],
        [draw(st.sampled_from([None, 0, 5, 2**40]))],
        [draw(st.sampled_from([0, 0, 10, 11, 60]))],
        [[item] for item in items],
    )
    return draw(damaged(value)) if seldom(draw) else value


@st.composite
def readings(draw):
    shards = draw(st.sampled_from([1, 1, 3]))
    known_us = NOW_US - draw(st.sampled_from([0, LEDGER.sla_us - 1, LEDGER.sla_us, LEDGER.sla_us + 1]))
    record = Vouched(True, known_us, NOW_US, 5, 6, {LEDGER.id: LEDGER.layout_id})
    fields = [str(shard) for shard in range(shards) if not seldom(draw, 20)]
    return Moment(NOW_US, False, Readiness(shards, dict.fromkeys(fields, record), NOW_US, 0.0))


def told(plan, keys, replies, moment, as_of):
    while True:
        try:
            vectors = decode_vectors(
                plan, keys, replies=iter(replies), moment=moment, as_of=as_of, requests=[], functions=Functions()
            )
            break
        except UnknownLayout as unknown:
            unknown.view.learn(unknown.layout_id, None)
    return [(repr(each.values), each.statuses, each.sources, each.names) for each in vectors]


@tried(150)
@pytest.mark.parametrize("plan", [PLAN, ALONE], ids=["two views", "one view"])
@given(st.data())
def test_fast_and_slow_say_the_same_of_every_row(plan, data):
    rows = data.draw(st.integers(1, 4))
    layouts = [view.layout for fetch in plan.fetches for view in fetch.views]
    replies = [[data.draw(packed_rows(layout))] for _ in range(rows) for layout in layouts]
    count = len(plan.entities) * rows
    keys = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=count, max_size=count))
    as_of = data.draw(
        st.lists(
            st.sampled_from([None, None, NOW_US - SECOND_US, NOW_US + 7, NOW_US + SECOND_US]),
            min_size=rows,
            max_size=rows,
        )
    )
    moment = data.draw(readings())
    found = told(plan, keys, replies, moment, as_of)

    for fast, slow in zip(found, told(replace(plan, fast=None), keys, replies, moment, as_of), strict=True):
        assert fast == slow


PLAIN_ROWS = {LEDGER.id: [5, 2.5, True, "x", NOW_US, 19_723, [[1.5]]], SHOPS.id: [[[3, 4]], None]}


def fast(ledger_row, *, at_us=NOW_US + SECOND_US):
    """The vector by the fast path alone, of a row of the stream view beside one of the batch view."""
    rows = {LEDGER.id: ledger_row, SHOPS.id: packed(SHOPS)}
    record = Vouched(True, NOW_US, NOW_US, 5, 6, {LEDGER.id: LEDGER.layout_id})
    [vector] = fast_vectors(
        PLAN.fast,
        PLAN.names,
        ["a", "b"],
        replies=[[rows[view.id] for view in fetch.views] for fetch in PLAN.fetches],
        times_us=[at_us],
        readiness=Readiness(1, {"0": record}, NOW_US, 0.0),
    )
    return vector


def packed(layout, *, layout_id=None, from_us=NOW_US, age_us=5, changes=None):
    items = [*PLAIN_ROWS[layout.id]]
    [value] = encode_rows(layout_id or layout.layout_id, 1, 1, [from_us], [age_us], [60], [[item] for item in items])
    if changes is None:
        return value
    row = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode([*row[:6], 1, msgspec.msgpack.encode(changes), *row[8:]])


def test_rows_as_most_are_are_answered_for():
    vector, later = fast(packed(LEDGER)), fast(packed(LEDGER, changes=[1, 0, 7]))

    assert vector.values[:5] == [0, [1.5], date(2024, 1, 1), 5, "x"]
    assert [status.name for status in vector.statuses] == ["EMPTY"] + ["PRESENT"] * 8
    assert later.values == [*vector.values[:3], 7, *vector.values[4:]]


@pytest.mark.parametrize(
    "row",
    [
        None,
        packed(LEDGER, layout_id=7),
        packed(LEDGER, age_us=2**62),
        packed(LEDGER, age_us=0),
        packed(LEDGER, from_us=NOW_US - 60 * SECOND_US),
        packed(LEDGER, changes=[1, -2, 7]),
        packed(LEDGER, changes=[1, 7, 7]),
        packed(LEDGER, changes=[1, 0, "text"]),
        packed(LEDGER, changes=[1, 0]),
    ],
)
def test_of_other_rows_nothing_is_said(row):
    assert fast(row) is None


def test_what_is_changed_in_one_vector_is_in_no_other():
    record = Vouched(True, NOW_US, NOW_US, 5, 6, {LEDGER.id: LEDGER.layout_id})
    one, other = fast_vectors(
        ALONE.fast,
        ALONE.names,
        ["a", "b"],
        replies=[[packed(LEDGER)]] * 2,
        times_us=[NOW_US] * 2,
        readiness=Readiness(1, {"0": record}, NOW_US, 0.0),
    )
    before = [*other.values], [*other.statuses], other.sources

    one.values[0], one.statuses[0] = 99, Status.ERROR
    one.sources.clear()

    assert (one.to_dict()["ledger:count_1h"], one["ledger:count_1h"].status) == (99, Status.ERROR)
    assert one.problems == {"ledger:count_1h": Status.ERROR}
    assert (other.values, other.statuses, other.sources) == before
    assert one.sources == other.sources


@tried(100)
@given(st.lists(st.one_of(st.text("aé%|{}-", max_size=3), st.text(max_size=3), st.none(), st.integers()), max_size=5))
@example(["x" * 4_097])
@example([])
def test_keys_of_many_rows_are_those_of_each(values):
    entity = EntityRead(told="entity 'user'", join_keys=("user",), columns=("user",), kinds=("str",))

    def each():
        return [entity_key([value], ["str"], columns=["user"]) for value in values]

    try:
        expected = each()
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(f"entity 'user': {error}")):
            entity.keys([{"user": value} for value in values])
    else:
        assert entity.keys([{"user": value} for value in values]) == expected
