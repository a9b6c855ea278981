"""Disorder: late, early, twice, in conflict, misplaced, broken, in any order, over restarts. Log, lake and reference agree.

Records go as bytes through the whole of both paths, without servers: intake, split, shard, packed value on one side, the
archiver's intake, the lake's rows and the kernel on the other. The reference reads the same bytes by itself.
"""

import itertools
import json
from dataclasses import dataclass, replace
from datetime import timedelta, timezone

import duckdb
import pyarrow as pa
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import DAY, HOUR, MINUTE, SECOND
from strategies import (
    COLUMNS,
    Scenario,
    accepts,
    declared,
    entity_of,
    event_source,
    reference_events,
    scenarios,
)
from test_parity import Served, answers, bits, offline, wanted

from feature_store import redis_stream
from feature_store.fold.intake import no_events
from feature_store.fold.rebuild import Origin, open_intake, rebuild_shards
from feature_store.lake.books.commits import Days
from feature_store.log.protocol import LogRecord, partition_of
from feature_store.registry import Registry
from feature_store.schema import arrow_schema as schema_of
from feature_store.time_rule import from_us
from feature_store.transforms.compiled import compile_registry
from feature_store.transforms.expressions import Expressions

KINDS = {"event_id": "str", "happened_at": "time", "airport": "str", "carrier": "int", **COLUMNS}
LATE = [-MINUTE - 1, -MINUTE, -SECOND, 0, 1, 5 * SECOND, HOUR, HOUR + 1, 3 * DAY, 400 * DAY]
"""By how much an event arrives after it happened, to the microsecond of each limit."""
BROKEN = [b"{", b"[]", b"null", b'{"event_id": 7}', b"\xff", b'{"event_id": "e1", "happened_at": "yesterday"}']
ZONES = [timezone.utc, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=3))]  # noqa: UP017

_snapshots = itertools.count(1)


@dataclass(frozen=True)
class Disorder:
    """A view, what stands in each partition, and what happens: (what, partition, how many records)."""

    scenario: Scenario
    partitions: list[list[tuple[bytes, int]]]
    steps: list[tuple[str, int, int]]
    recent: int
    """How many ids of a partition stay in memory at a time."""


@st.composite
def spelled(draw, event):
    """The event as a producer may write it: any zone, any order of fields, nulls left out or not."""
    row = {name: event[name] for name in KINDS if name in event} | {"event_id": event["event_id"]}
    row["happened_at"] = from_us(event["event_us"]).astimezone(draw(st.sampled_from(ZONES))).isoformat()
    if row["price"] is not None:
        row["price"] = str(row["price"])
    if draw(st.booleans()):
        row = {name: value for name, value in reversed(row.items()) if value is not None} | {"unknown": [1]}
    return json.dumps(row).encode()


def fits_json(event):
    """Whether JSON has words for the event's numbers."""
    return event["delay"] is None or abs(event["delay"]) < float("inf")


@st.composite
def disorders(draw):
    scenario = draw(scenarios(max_events=16, copies=False, max_rows=4))
    events = [event | {"arrived_us": None} for event in scenario.events if fits_json(event)]
    count = draw(st.sampled_from([1, 1, 2, 3]))
    records = []
    for event in events:
        told = event
        for copy in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            if copy:
                told = draw(st.sampled_from([event, event, *changed(event)]))
            arrived_us = told["event_us"] + draw(st.sampled_from(LATE))
            wrong = 1 if count > 1 and draw(st.integers(0, 9)) == 0 else 0
            place = (partition_of(event["event_id"], count) + wrong) % count
            records.append((place, draw(spelled(told)), arrived_us))
    at_us = scenario.clock[0]
    records += [
        (draw(st.integers(0, count - 1)), payload, at_us)
        for payload in draw(st.lists(st.sampled_from(BROKEN), max_size=2))
    ]
    partitions = [[] for _ in range(count)]
    for place, payload, arrived_us in draw(st.permutations(records)):
        partitions[place].append((payload, arrived_us))
    step = st.tuples(st.sampled_from(["read", "read", "archive"]), st.integers(0, count - 1), st.integers(1, 9))
    before, after = draw(st.lists(step, min_size=2, max_size=6)), draw(st.lists(step, max_size=3))
    steps = [*before, *draw(st.sampled_from([[], [("restart", 0, 0)]])), *after]
    return Disorder(scenario=scenario, partitions=partitions, steps=steps, recent=draw(st.sampled_from([1, 3, 100])))


def changed(event):
    """The event under the same id with another value, moment, day, year or entity."""
    other = "a" if event["airport"] == "JFK" else "JFK"
    moved = [event | {"event_us": event["event_us"] + by} for by in (1, DAY, -400 * DAY)]
    return [*moved, event | {"small": (event["small"] or 0) + 1}, event | {"airport": other}]


class MemoryLake:
    """A lake of one snapshot as a start of the flow sees it; the real one takes a second for each example."""

    env, location = "test", "memory"

    def __init__(self, connection):
        self.connection, self.snapshot = connection, next(_snapshots)
        self.tables, self.reached = [], {}

    def append(self, events, positions):
        self.tables.append(events)
        self.reached |= positions
        self.snapshot = next(_snapshots)

    def events(self):
        return pa.concat_tables(self.tables)

    def reading(self):
        cursor = self.connection.cursor()
        cursor.register("events_in_lake", self.events())
        return cursor

    def has_source(self, source):
        return source == "happenings"

    def exists(self, _table):
        return False

    def positions(self, _source):
        return self.reached

    def days(self, _source, *, snapshot=None):
        del snapshot
        events = self.events()
        return Days([], sorted(set(events.column("_day").to_pylist())), events.num_rows)

    def table_sql(self, table, *, snapshot=None):
        del snapshot
        return f"(SELECT * FROM events_in_lake WHERE {'TRUE' if table.endswith('_live') else 'FALSE'})"

    def events_sql(self, _source, *, snapshot=None, days=None, where="TRUE"):
        del snapshot
        span = "TRUE" if days is None else f"_day BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'"
        return f"SELECT * FROM events_in_lake WHERE {span} AND ({where})"


class Deployment(Served):
    """Flow and archiver over the partitions of one example."""

    def __init__(self, disorder, expressions, connection):
        count = len(disorder.partitions)
        self.source = event_source(log=redis_stream("happenings", partitions=count))
        super().__init__(disorder.scenario, expressions)
        self.compiled = compile_registry(Registry(views=[declared(disorder.scenario.view, source=self.source)]))
        self.logs = [
            [LogRecord(offset, arrived, payload) for offset, (payload, arrived) in enumerate(records)]
            for records in disorder.partitions
        ]
        self.clock = itertools.chain(disorder.scenario.clock, itertools.repeat(disorder.scenario.clock[-1]))
        self.lake = MemoryLake(connection)
        self.lake.append(no_events(self.source, self.compiled.schemas["happenings"]), dict.fromkeys(range(count), 0))
        self.recent = disorder.recent
        self.archivers, self.letters = self.intakes(), {}
        self.begin()

    def intakes(self):
        """What flow and archiver each have of their own."""
        origin, count = Origin(snapshot=self.lake.snapshot, positions={}), len(self.logs)
        intakes = [
            open_intake(self.compiled, self.lake, "happenings", origin=origin, partition=p, partitions=count)
            for p in range(count)
        ]
        for intake in intakes:
            intake.known._recent = self.recent
        return intakes

    def begin(self):
        """Start the flow from the lake; what it has not yet is read again."""
        self.readers, self.positions = self.intakes(), dict(self.lake.reached)
        self.now_us = next(self.clock)
        self.shards = [
            type(shard)([self.plan], env="test", shard=shard.shard, run=shard.run + 1) for shard in self.shards
        ]
        origin, count = Origin(snapshot=self.lake.snapshot, positions={}), len(self.shards)
        rebuild_shards(self.compiled, self.lake, origin, shards=self.shards, count=count, now_us=self.now_us)

    def take(self, intakes, partition, start, count):
        records = self.logs[partition][start : start + count]
        return intakes[partition].accept(partition, records, start=start)

    def read(self, partition, count):
        found = self.take(self.readers, partition, self.positions[partition], count)
        self.positions[partition] = found.end
        self.now_us = next(self.clock)
        for batch in self.splitter.split(found.events, {partition: found.end}):
            self.keep(self.shards[batch.shard].fold([batch], self.now_us))

    def archive(self, partition, count):
        found = self.take(self.archivers, partition, self.lake.reached[partition], count)
        self.letters |= {(partition, letter.offset): letter.kind for letter in found.rejected}
        self.lake.append(found.events, {partition: found.end})

    def finish(self):
        for partition, records in enumerate(self.logs):
            self.read(partition, len(records))
            self.archive(partition, len(records))

    def step(self, what, partition, count):
        if what == "restart":
            self.begin()
        else:
            getattr(self, what)(partition, count)


def reference_of(disorder):
    """The events that the reference takes from the partitions, and (partition, offset) -> what is wrong with others."""
    events, letters, count = [], {}, len(disorder.partitions)
    for partition, records in enumerate(disorder.partitions):
        taken, kinds = reference.take_in(
            partition, records, KINDS, event_time="happened_at", event_id="event_id", partitions=count
        )
        events += taken
        letters |= {(partition, offset): kind for offset, kind in enumerate(kinds) if kind is not None}
    return events, letters


@pytest.fixture(scope="module")
def expressions():
    return Expressions(schema_of(event_source()))


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(":memory:", config={"threads": 1}) as opened:
        yield opened


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(disorder=disorders())
def test_log_lake_and_reference_agree_on_every_record_and_every_bit(disorder, connection, expressions):
    told, letters = reference_of(disorder)
    deployment = Deployment(disorder, expressions, connection)

    for step in disorder.steps:
        deployment.step(*step)
    deployment.finish()

    assert deployment.letters == letters
    assert sorted(deployment.lake.events().column("_event_id").to_pylist()) == sorted(e["event_id"] for e in told)
    assert_served_as_told(deployment, told)
    deployment.begin()
    assert_served_as_told(deployment, told)
    assert_trained_as_told(disorder, deployment, told, connection, expressions)


def assert_served_as_told(deployment, told):
    """Every entity, at every time that its packed value covers."""
    view = deployment.scenario.view
    for shard in deployment.shards:
        deployment.keep(shard.fold([], deployment.now_us))
    known = [event for event in reference_events(view, told) if event["event_us"] < deployment.now_us]
    known = [event for event in known if accepts(view, event)]
    for key in {entity_of(view, event) for event in told} - {None}:
        own = [event for event in known if entity_of(view, event) == key]
        for t_us in deployment.times(key):
            found = [reference.feature_value(own, feature, t_us) for feature in view.features]
            assert deployment.at(key, t_us) == [(bits(v) if s == "PRESENT" else None, s) for v, s in found], (key, t_us)


def assert_trained_as_told(disorder, deployment, told, connection, expressions):
    """Every row of the spine, over the lake's events."""
    view, spine = disorder.scenario.view, disorder.scenario.spine
    table = reference.point_in_time(
        reference_events(view, told), spine, view.features, join_keys=view.join_keys, where=lambda e: accepts(view, e)
    )
    found = offline(replace(disorder.scenario, events=[]), connection, expressions, events=deployment.lake.events())
    somebody = [i for i, row in enumerate(spine) if entity_of(view, row) is not None]
    for position, feature in enumerate(view.features):
        values = found[feature["name"]]
        expected = wanted([table[i] for i in somebody], position)
        assert answers(values.values[somebody], values.status[somebody]) == expected, feature
