"""One declaration, two paths, the same numbers: batch == stream == reference, bit for bit, over random scenarios."""

import struct

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import (
    AGGREGATES,
    COLUMNS,
    EXPRESSIONS,
    OPERANDS,
    WHERES,
    Scenario,
    View,
    a_feature,
    accepts,
    arrow_events,
    declared,
    entity_of,
    event_source,
    expected,
    in_batches,
    reference_events,
    scenarios,
)

from feature_store.fold.rebuild import Origin, rebuild_shards
from feature_store.fold.shard import Shard
from feature_store.fold.split import Splitter
from feature_store.online.keys import features_prefix
from feature_store.online.packed import ERROR, decode_row, is_valid_at, item_at, seconds_since
from feature_store.registry import Registry
from feature_store.status import Status
from feature_store.time_rule import SECOND_US
from feature_store.transforms.compiled import compile_registry
from feature_store.transforms.evaluate import evaluate
from feature_store.transforms.expressions import Expressions
from feature_store.transforms.families import History, event_rows
from feature_store.transforms.plan import compile_view
from feature_store.transforms.project import KEY, project_sql

FEW_HUNDRED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def connection():
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1}) as opened:
        yield opened


@pytest.fixture(scope="module")
def expressions():

    from feature_store.schema import arrow_schema

    return Expressions(arrow_schema(event_source()))


def bits(value):
    """A value in which equal means equal to the last bit, and 1, 1.0 and True differ."""
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return "list", [bits(item) for item in value]
    return type(value).__name__, value


def plain(value):
    """A NumPy scalar as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def answers(values, statuses):
    """Values and statuses of one feature as the reference would give them; only those that count."""
    found = []
    for value, status in zip(values, statuses, strict=True):
        name = Status(int(status)).name
        found.append((bits(plain(value)) if name == "PRESENT" else None, name))
    return found


def wanted(table, position):
    return [(bits(row[position][0]) if row[position][1] == "PRESENT" else None, row[position][1]) for row in table]


class Served:
    """What a reader would find: the shards' state behind it, folded batch by batch."""

    def __init__(self, scenario, expressions):
        self.scenario = scenario
        self.plan = compile_view(declared(scenario.view), expressions)
        self.splitter = Splitter("happenings", [self.plan], shards=scenario.shards)
        self.shards = [Shard([self.plan], env="test", shard=number, run=1) for number in range(scenario.shards)]
        self.values = {}  # entity key -> (packed row, when it expires)
        self.kept = {id(event) for event in reference.deduplicate(scenario.events)[0]}
        self.now_us = None

    def fold(self, events, now_us):
        """Fold one batch (a tick if it is empty) at a time, and keep what it writes as Redis would."""
        self.now_us = now_us
        for batch in self.splitter.split(arrow_events(events), {0: 0}):
            self.keep(self.shards[batch.shard].fold([batch] if events else [], now_us))

    def keep(self, writes):
        """Do as Redis would."""
        for write in writes.values:
            key = write.key.removeprefix(self.prefix()).removesuffix("}")
            self.values[key] = decode_row(write.value), self.now_us + write.expire_ms * 1000

    def step(self, number):
        """Fold the scenario's next batch, or tick, at its time."""
        batches = in_batches(self.scenario)
        batch = batches[number] if number < len(batches) else []
        self.fold([event for event in batch if id(event) in self.kept], self.scenario.clock[number])

    def restart(self, connection, number):
        """Start again from a lake that holds the batches so far; the first fold writes everything anew."""
        held = [event for batch in in_batches(self.scenario)[: number + 1] for event in batch if id(event) in self.kept]
        count = len(self.shards)
        self.shards = [Shard([self.plan], env="test", shard=shard, run=2) for shard in range(count)]
        lake = LakeOf(connection, arrow_events(held))
        origin = Origin(snapshot=0, positions={})
        compiled = compile_registry(Registry(views=[self.plan.view]))
        rebuild_shards(compiled, lake, origin, shards=self.shards, count=count, now_us=self.now_us)
        self.fold([], self.now_us)

    def prefix(self):
        return features_prefix("test", self.plan.view.entity.name, personal=False)

    def row(self, key):
        return self.values.get(key, (None, 0))[0]

    def times(self, key):
        """Times at which an entity's value may be read: the edges of validity and of steps, now, and later."""
        row = self.row(key)
        if row is None:
            return [self.now_us, self.now_us + reference.DAY]
        second = row.from_us // SECOND_US
        later = (0, SECOND_US, reference.MINUTE, reference.HOUR, reference.DAY, 5 * reference.DAY, 50 * reference.DAY)
        edges = {row.from_us, row.from_us + 1, *(self.now_us + after for after in later)}
        steps = {after for item in row.items if isinstance(item, list) for after in item[1::2]} | {row.until_s}
        edges |= {(second + after) * SECOND_US + beside for after in steps for beside in (-1, 0)}
        return sorted(t for t in edges if is_valid_at(row.from_us, row.until_s, t))

    def at(self, key, t_us):
        """The features of an entity at a time: what the packed row says, empty where there is none (any more)."""
        row, expires_us = self.values.get(key, (None, 0))
        if row is None or t_us >= expires_us:
            return [(None, "EMPTY")] * len(self.plan.features)
        seconds = seconds_since(row.from_us, t_us)
        return [answer_of(item_at(item, seconds)) for item in row.items]


class LakeOf:
    """Some events as the lake gives them to a start of the flow; the real one takes a second for each example."""

    def __init__(self, connection, events):
        self._connection = connection
        connection.register("events_in_lake", events)

    def reading(self):
        cursor = self._connection.cursor()
        cursor.register("events_in_lake", self._connection.table("events_in_lake").to_arrow_table())
        return cursor

    def has_source(self, source):
        return source == "happenings"

    def exists(self, _table):
        return False

    def events_sql(self, _source, *, snapshot, days, where="TRUE"):
        del snapshot  # there is one
        first, last = days
        return f"SELECT * FROM events_in_lake WHERE _day BETWEEN DATE '{first}' AND DATE '{last}' AND ({where})"


def answer_of(value):
    if value is None:
        return None, "EMPTY"
    return (None, "ERROR") if value is ERROR else (bits(value), "PRESENT")


def offline(scenario, connection, expressions, *, events=None):
    """Feature name -> Values over the scenario's spine, computed as a training set is, of its events or of given ones."""
    view = declared(scenario.view)
    plan = compile_view(view, expressions)
    if events is None:
        events = arrow_events(reference.deduplicate(scenario.events)[0])
    projected = connection.execute(project_sql(plan, "SELECT * FROM events")).to_arrow_table()
    numbers = {}
    entity = [numbers.setdefault(key, len(numbers)) for key in projected.column(KEY).to_pylist()]
    rows = event_rows(plan, projected, np.array(entity, dtype=np.int64))
    asked = [numbers.get(entity_of(scenario.view, row), -1) for row in scenario.spine]
    times = [row["t_us"] for row in scenario.spine]
    return evaluate(plan, History(rows), np.array(asked, dtype=np.int64), time_us=np.array(times, dtype=np.int64))


def test_a_value_that_fails_costs_only_itself_though_expressions_share_it(connection, expressions):
    # DuckDB computes what `sqrt(delay)` and `sqrt(delay) + 1` have in common once, and not within their TRY.
    chosen = [e for e in EXPRESSIONS if e.sql in ("sqrt(delay)", "sqrt(delay) + 1")]
    features = [a_feature("sum", e, over=None, hop=None, name=f"f{i}") for i, e in enumerate(chosen)]
    view = View(features=features, where=next(w for w in WHERES if w and w.sql == "NOT flag OR small > 0"))
    row = {"airport": "JFK", "carrier": 1, "arrived_us": None} | dict.fromkeys(COLUMNS) | {"small": 1}
    happened = [row | {"event_id": str(i), "event_us": i, "delay": delay} for i, delay in enumerate((-1.0, 4.0))]
    scenario = Scenario(view=view, events=happened, batches=[2], spine=[row | {"t_us": 9}], clock=[9])

    found = offline(scenario, connection, expressions)
    served = Served(scenario, expressions)
    served.step(0)

    assert [found[f["name"]].values[0] for f in features] == [2.0, 3.0]
    assert [value for value, _ in served.at("JFK", 9)] == [bits(2.0), bits(3.0)]


@FEW_HUNDRED
@given(scenario=scenarios())
def test_a_training_row_is_what_the_reference_says(scenario, connection, expressions):
    table = expected(scenario)

    found = offline(scenario, connection, expressions)

    somebody = [i for i, row in enumerate(scenario.spine) if entity_of(scenario.view, row) is not None]
    for position, feature in enumerate(scenario.view.features):
        values = found[feature["name"]]
        told = wanted([table[i] for i in somebody], position)
        assert answers(values.values[somebody], values.status[somebody]) == told, feature


def known_to(scenario, taken, now_us):
    """The events that the stream has aggregated: those of the batches so far whose time has come, each id once."""
    kept = reference.deduplicate(scenario.events)[0]
    batches = in_batches(scenario)[: taken + 1]
    positions = {id(event) for batch in batches for event in batch}
    happened = [event for event in kept if id(event) in positions and event["event_us"] < now_us]
    return [event for event in reference_events(scenario.view, happened) if accepts(scenario.view, event)]


def keys_of(scenario):
    rows = [*scenario.events, *scenario.spine]
    return sorted({key for key in (entity_of(scenario.view, row) for row in rows) if key is not None})


@FEW_HUNDRED
@given(scenario=scenarios())
def test_a_served_value_is_what_the_reference_says_at_every_time_it_is_valid(scenario, expressions):
    served = Served(scenario, expressions)
    for number in range(len(scenario.clock)):
        served.step(number)

        assert_reference_says_the_same(served, number)


@settings(FEW_HUNDRED, max_examples=60)
@given(scenario=scenarios(), data=st.data())
def test_a_flow_that_starts_again_from_the_lake_serves_the_same(scenario, data, expressions, connection):
    served = Served(scenario, expressions)
    last = data.draw(st.integers(0, len(scenario.clock) - 1))
    for number in range(len(scenario.clock)):
        served.step(number)
        if number == last:
            served.restart(connection, number)

        assert_reference_says_the_same(served, number)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_value_is_right_until_it_ceases_to_hold_though_many_changes_are_to_come(aggregate, expressions):
    #  one event in each of 30 tiles:  |.|.|.|. ... .|.|  and two minutes later the first of them leaves
    operand = next(e for e in OPERANDS[aggregate] if e.sql == "small")
    view = View(features=[a_feature(aggregate, operand, over="1h", hop="2m", cap=50)])
    row = {"airport": "JFK", "carrier": 1, "arrived_us": None} | dict.fromkeys(COLUMNS)
    tile = 2 * reference.MINUTE
    happened = [row | {"event_id": str(i), "event_us": i * tile, "small": (i * 7) % 11} for i in range(30)]
    clock = [30 * tile, 31 * tile, 50 * tile, 61 * tile]
    served = Served(Scenario(view=view, events=happened, batches=[30], clock=clock), expressions)

    for number in range(len(clock)):
        served.step(number)

        assert_reference_says_the_same(served, number)
        assert number != 0 or 0 < served.row("JFK").until_s < reference.HOUR // SECOND_US


def assert_reference_says_the_same(served, number):
    """For every entity, at every time that its packed row covers, of what the batches so far hold."""
    scenario, features = served.scenario, served.scenario.view.features
    known = known_to(scenario, number, served.now_us)
    for key in keys_of(scenario):
        own = [event for event in known if entity_of(scenario.view, event) == key]
        assert_valid_now(served, key)
        for t_us in served.times(key):
            told = [reference.feature_value(own, feature, t_us) for feature in features]
            assert served.at(key, t_us) == [(bits(v) if s == "PRESENT" else None, s) for v, s in told], (key, t_us)


def assert_valid_now(served, key):
    """A value that has not expired holds now."""
    row, expires_us = served.values.get(key, (None, 0))
    assert row is None or served.now_us >= expires_us or is_valid_at(row.from_us, row.until_s, served.now_us)
