"""Laws that every aggregate of the catalogue obeys; one added to it is tested by that alone.

A state is compared as the values it gives: its tiles and rows, merged, are what all later values come from.
"""

import inspect
import itertools

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import ANCHORS, OPERANDS, WINDOWS, View, a_feature, arrow_events, declared, event_source, events, splits

from feature_store.declare import agg
from feature_store.fold.rebuild import _seed
from feature_store.fold.split import Splitter
from feature_store.fold.state import ViewState, value_columns
from feature_store.schema import arrow_schema
from feature_store.transforms.catalogue import CATALOGUE
from feature_store.transforms.expressions import Expressions
from feature_store.transforms.plan import compile_view
from feature_store.transforms.project import HOP, KEY, tiles_sql
from feature_store.transforms.rowset import Merge

A_FEW = settings(max_examples=15, suppress_health_check=list(HealthCheck))
NO_TIME = (repr(-(2**63)), repr(2**63 - 1))
every_aggregate = pytest.mark.parametrize("aggregate", CATALOGUE)


@pytest.fixture(scope="module")
def expressions():
    return Expressions(arrow_schema(event_source()))


@st.composite
def cases(draw, aggregate):
    """A plain view of one feature, and events each of which comes once."""
    over, hop = draw(st.sampled_from(WINDOWS))
    cap = draw(st.sampled_from([1, 2, 50]))
    feature = a_feature(aggregate, draw(st.sampled_from(OPERANDS[aggregate])), over=over, hop=hop, cap=cap)
    view = View(features=[feature])
    return view, draw(events(view=view, anchor=draw(st.sampled_from(ANCHORS)), max_size=16, copies=False))


def state_of(plan, *parts):
    """A state that has taken in these lists of events, one after the other."""
    state = ViewState(plan)
    splitter = Splitter("happenings", [plan], shards=1)
    for part in parts:
        [batch] = splitter.split(arrow_events(part), {})
        if plan.view.id in batch.views:
            state.add(batch.views[plan.view.id])
    return state


def merged(plan, *states):
    """A state that has taken in the rows of others."""
    result = ViewState(plan)
    for state in states:
        moved = result.number(state.keys)
        for hop, features, column, rows in families(state):
            there = rows.take(slice(None))
            object.__setattr__(there, "entity", moved[rows.entity])
            del features
            if column is None:
                result.add_tiles(hop, there)
            else:
                result.add_values(column, hop, there)
    return result


def families(state):
    """(hop, features, set or list column or None for tiles, rows) for each family that has rows."""
    entities = np.arange(len(state.keys))
    for hop in state.hops_us:
        features = state._features[hop]
        if len(state):
            yield hop, features, None, state.gather_tiles(hop, entities)
            for column in value_columns(features):
                yield hop, features, column, state.gather_values((column.name, hop), entities)


def content(state):
    """All rows of a state in plain values, floats by their bits, whatever its numbers of entities are."""
    found = []
    for hop, _, column, rows in families(state):
        family = "tiles" if column is None else column.name
        for i in range(len(rows)):
            values = meaning(column, {name: plain(values[i]) for name, values in rows.columns.items()})
            found.append((hop, family, state.keys[rows.entity[i]], int(rows.time[i]), values))
    return sorted(found, key=repr)


def meaning(column, values):
    """What counts of a row: of a set only the times (which of equally late values a cap leaves out does not matter),
    and of a pick that has picked nothing just that."""
    if column is not None and column.merge is Merge.DISTINCT:
        return []
    nothing = [name.removesuffix("__t") for name in values if name.endswith("__t") and values[name] in NO_TIME]
    return sorted(item for item in values.items() if item[0].removesuffix("__id") not in nothing)


def plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return value.hex() if isinstance(value, float) else repr(value)


@every_aggregate
def test_split_anywhere_equals_one_pass(aggregate, expressions):
    @A_FEW
    @given(case=cases(aggregate), data=st.data())
    def law(case, data):
        view, happened = case
        plan = compile_view(declared(view), expressions)
        ends = np.cumsum([0, *data.draw(splits(len(happened)))])
        parts = [happened[a:b] for a, b in itertools.pairwise(ends)]

        assert content(state_of(plan, *parts)) == content(state_of(plan, happened))

    law()


@every_aggregate
def test_the_order_of_arrival_does_not_matter(aggregate, expressions):
    @A_FEW
    @given(case=cases(aggregate), data=st.data())
    def law(case, data):
        view, happened = case
        plan = compile_view(declared(view), expressions)
        shuffled = data.draw(st.permutations(happened))

        assert content(state_of(plan, *[[event] for event in shuffled])) == content(state_of(plan, happened))

    law()


@every_aggregate
def test_merging_is_associative_and_commutative(aggregate, expressions):
    @A_FEW
    @given(case=cases(aggregate), data=st.data())
    def law(case, data):
        view, happened = case
        plan = compile_view(declared(view), expressions)
        dealt = [data.draw(st.integers(0, 2)) for _ in happened]
        a, b, c = (
            state_of(plan, [e for e, to in zip(happened, dealt, strict=True) if to == part]) for part in range(3)
        )

        one = content(merged(plan, merged(plan, a, b), c))

        assert one == content(merged(plan, a, merged(plan, b, c))) == content(merged(plan, c, b, a))
        assert one == content(state_of(plan, happened))

    law()


@every_aggregate
def test_tiles_built_by_the_lake_are_the_streams_partials_merged(aggregate, expressions, connection):
    @A_FEW
    @given(case=cases(aggregate), data=st.data())
    def law(case, data):
        view, happened = case
        plan = compile_view(declared(view), expressions)
        now_us = max([event["event_us"] for event in happened], default=0) + data.draw(st.integers(1, 10**9))

        built = state_from_tiles(plan, happened, connection)
        folded = state_of(plan, happened)

        assert steps_of(built, now_us) == steps_of(folded, now_us)

    law()


@pytest.fixture(scope="module")
def connection():
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1}) as opened:
        yield opened


def state_from_tiles(plan, happened, connection):
    """A state as a start from the lake gives it."""
    events_now = arrow_events(happened)  # noqa: F841 - DuckDB finds it by name
    tiles = connection.execute(tiles_sql(plan, "SELECT * FROM events_now")).to_arrow_table()
    state = ViewState(plan)
    for hop in state.hops_us:
        features = state._features[hop]
        mask = np.array([found == features[0].feature.hop_us for found in tiles.column(HOP).to_pylist()], dtype=bool)
        table = tiles.filter(mask)
        keys = sorted(set(table.column(KEY).to_pylist()))
        index = np.array([keys.index(key) for key in table.column(KEY).to_pylist()], dtype=np.int64)
        _seed(state, hop, features, (keys, index, table))
    return state


def steps_of(state, now_us):
    """Entity -> the step functions that would be written."""
    if not len(state):
        return {}
    steps = state.steps(np.arange(len(state.keys)), now_us)
    found = {}
    for i, key in enumerate(state.keys):
        features = []
        for feature in steps.features:
            part = slice(feature.first[i], feature.first[i + 1])
            pairs = zip(feature.values.values[part], feature.values.status[part].tolist(), strict=True)
            features.append(
                (feature.since_us[part].tolist(), [(plain(v) if status == 0 else None, status) for v, status in pairs])
            )
        found[key] = (int(steps.from_us[i]), int(steps.until_us[i]), int(steps.newest_us[i]), features)
    return found


@every_aggregate
def test_an_empty_window_gives_what_the_reference_says(aggregate):
    feature = {"aggregate": aggregate, "column": "x", "type": "int", "over": None, "hop": None, "cap": 3}
    value, status = reference.feature_value([], feature, 0)

    empty = CATALOGUE[aggregate].empty

    assert (list(empty) if isinstance(empty, tuple) else empty) == value
    assert status == "EMPTY"


def test_catalogue_reference_and_vocabulary_have_the_same_aggregates():
    offered = {name for name, _ in inspect.getmembers(agg, inspect.isfunction) if not name.startswith("_")}

    assert set(CATALOGUE) == set(reference.AGGREGATES) == offered
