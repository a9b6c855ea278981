"""The fast path of a read says what the slow one says, of every row that it answers for."""

import re
from dataclasses import replace

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
PLAIN = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False) | st.integers(-9, 9),
    "bool": st.booleans(),
    "str": st.text(max_size=3),
    "timestamp": st.integers(0, 2**50),
    "date": st.integers(0, 30_000),
}


def values_of(feature):
    plain = PLAIN[feature.dtype]
    value = st.lists(plain, max_size=3) if feature.is_list else plain
    odd = st.one_of(st.none(), st.just(ERROR), st.text(max_size=2), st.lists(st.none(), max_size=1))
    return st.one_of(value, value, value, value, odd)


@st.composite
def packed_rows(draw, layout, *, plain=False):
    """A value as it may stand in Redis, or None."""
    if not plain and draw(st.integers(0, 9)) == 0:
        return None
    items = []
    for feature in layout.features:
        values = draw(st.lists(values_of(feature), min_size=1, max_size=1 if plain else 3))
        seconds = sorted(draw(st.lists(st.integers(1, 20), min_size=2, max_size=2, unique=True)))
        items.append([values[0], *(each for pair in zip(seconds, values[1:], strict=False) for each in pair)])
    begins = draw(st.sampled_from([NOW_US - 10 * SECOND_US, NOW_US, NOW_US + 1, NOW_US - 100 * SECOND_US]))
    [value] = encode_rows(
        draw(st.sampled_from([layout.layout_id] * 9 + [7])),
        3,
        4,
        [begins],
        [draw(st.sampled_from([None, 0, 5, 2**40, -(2**60)]))],
        [draw(st.sampled_from([0, 0, 5, 60]))],
        [[item] for item in items],
    )
    return draw(damaged(value)) if not plain and draw(st.integers(0, 5)) == 0 else value


@st.composite
def readings(draw):
    shards = draw(st.sampled_from([1, 3]))
    record = Vouched(
        True, draw(st.sampled_from([NOW_US, NOW_US - 10**12])), NOW_US, 5, 6, {LEDGER.id: LEDGER.layout_id}
    )
    fields = draw(st.sets(st.sampled_from([str(shard) for shard in range(shards)])))
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
    return [(each.values, list(map(type, each.values)), each.statuses, each.sources, each.names) for each in vectors]


@tried(150)
@given(st.data())
def test_fast_and_slow_say_the_same_of_every_row(data):
    rows = data.draw(st.integers(1, 4))
    layouts = [view.layout for fetch in PLAN.fetches for view in fetch.views]
    replies = [[data.draw(packed_rows(layout))] for _ in range(rows) for layout in layouts]
    keys = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=2 * rows, max_size=2 * rows))
    as_of = data.draw(st.lists(st.sampled_from([None, NOW_US - SECOND_US, NOW_US + 7]), min_size=rows, max_size=rows))
    moment = data.draw(readings())
    found = told(PLAN, keys, replies, moment, as_of)

    assert found == told(replace(PLAN, fast=None), keys, replies, moment, as_of)


def test_rows_as_most_are_are_answered_for():
    layouts = [view.layout for fetch in PLAN.fetches for view in fetch.views]
    items = {LEDGER.id: [5, 2.5, True, "x", NOW_US, 19_723, [[1.5]]], SHOPS.id: [[[3, 4]], None]}
    replies = [
        encode_rows(each.layout_id, 1, 1, [NOW_US], [5], [60], [[[i, 9, i] if i == 5 else i] for i in items[each.id]])
        for each in layouts
    ]
    record = Vouched(True, NOW_US, NOW_US, 5, 6, {LEDGER.id: LEDGER.layout_id})

    [vector] = fast_vectors(
        PLAN.fast,
        PLAN.names,
        ["a", "b"],
        replies=replies,
        times_us=[NOW_US + SECOND_US],
        readiness=Readiness(1, {"0": record}, NOW_US, 0.0),
    )

    assert vector is not None
    assert vector.values[:5] == [0, [1.5], vector.values[2], 5, "x"]
    assert [status.name for status in vector.statuses] == ["EMPTY"] + ["PRESENT"] * 8


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
