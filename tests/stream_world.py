"""A small deployment for tests of the stream: readings of meters at sites, views of two entities, four partitions.

`registry` can be named as the declarations of a flow process.
"""

import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import pandas as pd
import pandera.pandas as pa

from feature_store import Entity, EventSource, FeatureView, Registry, agg, kafka, redis_stream
from feature_store.clock import ManualClock
from feature_store.decoders import json
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.fold.run import LocalStream
from feature_store.fold.shard import Shard
from feature_store.fold.split import Splitter
from feature_store.lake import Lake
from feature_store.log.binding import open_log
from feature_store.log.protocol import LogRecord, Record
from feature_store.online.address import connect, disconnect
from feature_store.online.packed import decode_row, is_valid_at, item_at, seconds_since
from feature_store.time_rule import DAY_US, HOUR_US, SECOND_US, from_us, to_us
from feature_store.transforms.compiled import compile_registry
from feature_store.transforms.project import ARRIVED, DAY, OFFSET, PARTITION

NOW_US = to_us(datetime(2024, 5, 10, 9, 30, 15, 123_456, tzinfo=UTC))
SOURCE = "readings"
SITES = ["north", "south", "a|b{}%", "east", "west"]


class Reading(pa.DataFrameModel):
    uid: str
    site: str = pa.Field(nullable=True)
    kind: pd.Int64Dtype = pa.Field(nullable=True)
    at: Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    level: pd.Int64Dtype = pa.Field(nullable=True, ge=-100)
    load: float = pa.Field(nullable=True)
    tag: str = pa.Field(nullable=True)


LOG = redis_stream("readings", partitions=4)
if "STREAM_WORLD_TOPIC" in os.environ:  # a process of a test over Kafka
    LOG = kafka(os.environ["STREAM_WORLD_TOPIC"], bootstrap_servers="env:STREAM_WORLD_SERVERS")
readings = EventSource(SOURCE, schema=Reading, event_time="at", event_id="uid", log=LOG)
sites = FeatureView(
    "sites",
    entity=Entity("site", join_keys=["site"]),
    source=readings,
    features=[
        agg.count(over=["1h", "24h"]),
        agg.mean("level", over=["1h", "24h"]),
        agg.stddev("load", over="7d"),
        agg.max("load", over="24h"),
        agg.last("tag", over="24h"),
        agg.count_distinct("tag", over="7d"),
        agg.last_n("level", n=3, over="7d"),
        agg.sum("level", over=None),
        agg.first("load", over=None),
    ],
)
kinds = FeatureView(
    "kinds",
    entity=Entity("meter", join_keys=["site", "kind"]),
    source=readings,
    where="level > 0",
    features=[agg.count(over="1h"), agg.mean("level", over="6h")],
)
registry = Registry(views=[sites, kinds])
compiled = compile_registry(registry)
PLANS = list(compiled.plans_of(SOURCE))


def rows(count, *, seed=0, days=8, until_us=NOW_US):
    """Readings in no order, some at the same time, some without an entity or a value."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        at_us = until_us - 1 - draw.choice([HOUR_US, DAY_US, days * DAY_US]) * draw.randrange(1000) // 1000
        row = {"uid": f"s{seed}-{number}", "site": draw.choice([*SITES, None]), "kind": draw.choice([1, 2, None])}
        row |= {"at": from_us(at_us // SECOND_US * SECOND_US if draw.random() < 0.5 else at_us)}
        row |= {"level": draw.choice([None, draw.randrange(-100, 100)]), "load": draw.uniform(-5, 5)}
        found.append(row | {"tag": draw.choice(["red", "green", "blue", None])})
    return found


def payloads(some):
    return json().encode(some)


def log_records(some, *, arrived_us=NOW_US, start=0):
    """Rows as a partition holds them."""
    return [LogRecord(start + i, arrived_us, payload) for i, payload in enumerate(payloads(some))]


def intake(**options):
    return Intake(readings, compiled.schemas[SOURCE], known=KnownIds(), **options)


def accepted(some):
    """Rows as accepted events."""
    return intake().accept(0, log_records(some), start=0).events


def batches_of(events, *, shards=1, positions=None):
    return Splitter(SOURCE, PLANS, shards=shards).split(events, positions or {0: events.num_rows})


def new_shard(number=0, run=1):
    return Shard(PLANS, env="test", shard=number, run=run)


def decoded(writes):
    """(key, view) -> what was written, without the commit that wrote it."""
    return {(write.key, write.field): decode_row(write.value)[3:] for write in writes.values}


def all_values(shard, now_us=NOW_US):
    """Every entity's value as a fresh write at that time."""
    shard.start_at(shard.positions)
    return decoded(shard.fold([], now_us))


def in_redis(client, env):
    """(key, view) -> packed row of everything that is served."""
    found = {}
    for key in client.scan_iter(f"features:{env}:*"):
        for view, value in client.hgetall(key).items():
            found[(key.decode().replace(f":{env}:", "::"), view.decode())] = decode_row(value)
    return found


def served_at(values, now_us, *, ahead=(0, SECOND_US, 300 * SECOND_US, HOUR_US, 6 * HOUR_US)):
    """(key, view, time) -> the features then, for those of some times at which the value holds."""
    times = [now_us + later for later in ahead]
    return {
        (*place, time): [item_at(item, seconds_since(row.from_us, time)) for item in row.items]
        for place, row in values.items()
        for time in times
        if is_valid_at(row.from_us, row.until_s, time)
    }


def equal_where_both_hold(one, other, now_us):
    """Whether two servings say the same, and both say something about every entity now."""
    a, b = served_at(one, now_us), served_at(other, now_us)
    now = {place for place in a | b if place[2] == now_us}
    assert now, "nothing is served"
    return now <= a.keys() & b.keys() and all(a[place] == b[place] for place in a.keys() & b.keys())


@dataclass
class World:
    """A lake, a log and an online store of one environment."""

    url: str
    home: object
    env: str
    now_us: int = NOW_US

    def __post_init__(self):
        self.client = connect(self.url)
        self.clock = ManualClock(self.now_us)
        self.lake = Lake.open(self.home / "lake", env=self.env, clock=self.clock)
        self.log = open_log(self.client, self.env, readings)
        self.archiver = self.new_archiver()

    def close(self):
        self.lake.close()
        disconnect(self.client)

    def publish(self, some, *, arrived_us=None):
        at = self.clock.now_us() if arrived_us is None else arrived_us
        self.log.publish([Record(row["uid"], p, at) for row, p in zip(some, payloads(some), strict=True)])

    def load(self, some):
        """Bring rows to the lake as loaded history; their days hold nothing else afterwards."""
        events = accepted(some).drop_columns([PARTITION, OFFSET, ARRIVED])
        self.lake.ensure_source(SOURCE, compiled.schemas[SOURCE])
        self.lake.replace_loaded(SOURCE, events, days=sorted(set(events.column(DAY).to_pylist())))

    def new_archiver(self):
        return Archiver(compiled, self.lake, self.log, source=SOURCE)

    def archive(self):
        """Bring all of the log and the commits to the lake."""
        while self.archiver.step():
            pass
        commits = CommitArchiver(self.lake, self.client, self.env)
        while commits.step():
            pass

    def stream(self, shards=1):
        return LocalStream(compiled, self.lake, self.client, env=self.env, clock=self.clock, shards=shards)

    def lake_ids(self):
        """The event ids that the lake has."""
        with self.lake.cursor() as cursor:
            return {
                row[0] for row in cursor.execute(f"SELECT _event_id FROM ({self.lake.events_sql(SOURCE)})").fetchall()
            }

    def values(self):
        return in_redis(self.client, self.env)
