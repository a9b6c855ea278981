"""A small deployment that lives through some days: history, a stream with late and early events, restarts, a reader.

Everything is real: lake, Valkey, log, fold, writer, reader. Every vector that is read goes to a log of served vectors.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
from pandera.engines.pandas_engine import Decimal as DecimalType
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg, ratio
from feature_store.clock import ManualClock
from feature_store.declare import redis_stream
from feature_store.decoders import json
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.proof.served_log import ServedLog
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US, from_us, to_us

START = datetime(2024, 3, 1, tzinfo=UTC)
LIVE = START + timedelta(days=2)
SERVICE = "everything"
CITIES = ["york", "bath", "a|b{}%", "hull"]
Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Ride(pa.DataFrameModel):
    ride_id: Series[str]
    city: Series[str] = pa.Field(nullable=True)
    kind: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    begun: Series[Time]
    seats: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    fare: Series[float] = pa.Field(nullable=True)
    tip: Annotated[DecimalType, 10, 2, None] = pa.Field(nullable=True)
    driver: Series[str] = pa.Field(nullable=True)
    shared: Series[pd.BooleanDtype] = pa.Field(nullable=True)


city = Entity("city", join_keys=["city"])
pair = Entity("pair", join_keys=["city", "kind"])


def rides(load):
    return EventSource(
        "rides",
        schema=Ride,
        event_time="begun",
        event_id="ride_id",
        load=load,
        log=redis_stream("rides", partitions=2),
    )


def registry(load):
    source = rides(load)
    every = FeatureView(
        "every",
        entity=city,
        source=source,
        where="seats IS NULL OR seats <> 3",
        features=[
            agg.count(over=["1h", "1d", None]),
            agg.sum("seats", over="6h"),
            agg.sum("fare", over=["1h", None]),
            agg.mean("fare", over="3h"),
            agg.sum("tip", over="6h"),
            agg.mean("tip", over="1d"),
            agg.max("tip", over="1h"),
            agg.mean("fare > 20", over="1d", name="dear_1d"),
            agg.min("fare", over="6h"),
            agg.max("seats", over="1d"),
            agg.variance("seats", over="6h"),
            agg.stddev("fare", over=["6h", "1d"]),
            agg.first("driver", over="6h"),
            agg.last("driver", over="1h"),
            agg.last("fare", over=None),
            agg.last("shared", over="6h"),
            agg.last("begun", over="6h", name="seen"),
            agg.latest("fare", over=["1h", None]),
            agg.count_distinct("driver", over="1d", cap=4),
            agg.last_n("fare", n=3, over="6h"),
            agg.last_n("driver", n=2, over=None),
        ],
    )
    pairs = FeatureView(
        "pairs",
        entity=pair,
        source=source,
        features=[agg.count(over="15m"), agg.sum("seats", over="1d"), agg.max("fare", over="1h")],
        late_events="ignore",
        lateness="30m",
    )
    daily = FeatureView(
        "hourly",
        entity=city,
        source=source,
        features=[agg.count(over="1d"), agg.mean("fare", over="12h"), agg.last("driver", over="3h")],
        online="batch",
        every="1h",
        freshness_sla="3h",
    )
    overall = FeatureView(
        "overall",
        entity=None,
        source=source,
        features=[agg.count(over=["1h", None]), agg.latest("driver")],
    )
    hourly_overall = FeatureView(
        "hourly_overall",
        entity=None,
        source=source,
        features=[agg.count(over="1d")],
        online="batch",
        every="1h",
        freshness_sla="3h",
    )
    rival = every.keyed(city="rival", prefix="rival_")
    share = ratio("share", every["count_1h"], every["count_1d"], empty=0.0)
    mixed = ratio("mixed", pairs["seats_sum_1d"], every["count_1d"])
    lead = ratio("lead", every["count_1d"], rival["count_1d"])
    service = FeatureService(
        SERVICE,
        features=[
            every,
            pairs,
            daily,
            share,
            mixed,
            rival["count_1h"],
            rival["driver_last_1h"],
            daily.keyed(city="rival", prefix="rival_"),
            lead,
            overall,
            hourly_overall,
        ],
        defaults={"every:fare_mean_3h": -1.0, "rival_every:count_1h": -2},
    )
    return Registry(views=[every, pairs, daily, overall, hourly_overall], services=[service])


@dataclass
class Arriving:
    """One event and when it comes."""

    arrived_us: int
    row: dict


@dataclass
class World:
    """Runs the deployment; `served` collects what was read."""

    url: str
    home: object
    environment: str
    seed: int = 0
    shards: int = 2
    served: ServedLog = field(default_factory=ServedLog)
    service: str = SERVICE
    published: tuple[str, ...] = ("hourly", "hourly_overall")

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.clock = ManualClock(to_us(LIVE))
        history = self._rows(to_us(START), to_us(LIVE), count=300, name="h")
        self.store = FeatureStore(
            registry(lambda start, end: _table(history, start, end)),
            settings=Settings(home=self.home, redis_url=self.url, environment=self.environment),
            clock=self.clock,
        )
        self.store.apply()
        self.store.load("rides", start=START, end=LIVE)
        self.coming = []
        self.reader = self.store.reader()
        self.stream = None

    def close(self):
        self.reader.close()
        self.store.close()

    def restart(self):
        """A new run of the stream."""
        self.stream = LocalStream(
            self.store.compiled,
            self.store.lake,
            self.store.redis,
            env=self.environment,
            clock=self.clock,
            shards=self.shards,
        )
        self.stream.step()

    def happen(self, count, *, over_us):
        """Events of the next while, which arrive early, soon, late or much later."""
        now = self.clock.now_us()
        for row in self._rows(now, now + over_us, count=count, name=f"l{now}"):
            delay = self.random.choice([-20 * SECOND_US, 0, SECOND_US, 5 * SECOND_US, 10 * MINUTE_US, HOUR_US])
            self.coming.append(Arriving(max(now, to_us(row["begun"]) + delay), row))

    def step(self, *, by_us, reads=6):
        """Let time pass, publish what has arrived by then, fold it, and read."""
        self.clock.move_to(self.clock.now_us() + by_us)
        now = self.clock.now_us()
        arrived = sorted((e for e in self.coming if e.arrived_us <= now), key=lambda e: e.arrived_us)
        self.coming = [e for e in self.coming if e.arrived_us > now]
        if arrived:
            payloads = json().encode([e.row for e in arrived])
            self.store.log("rides").publish(
                [Record(e.row["ride_id"], p, e.arrived_us) for e, p in zip(arrived, payloads, strict=True)]
            )
        self.stream.step()
        for _ in range(reads):
            self.read()

    def read(self, row=None, as_of_us=0):
        """Read one vector, of some entity, at some time near now."""
        if row is None:
            row = {
                "city": self.random.choice([*CITIES, "nowhere", None]),
                "kind": self.random.choice([1, 2, None]),
                "rival": self.random.choice([*CITIES, "nowhere", None]),
            }
        if as_of_us == 0:
            now = self.clock.now_us()
            as_of_us = self.random.choice([None, now, now + 1, now + 2 * SECOND_US, now - MINUTE_US])
        vector = self.reader.get_online_features(self.service, row, as_of=as_of_us)
        self.served.add(row, vector, as_of_us=as_of_us)
        return vector

    def publish_rows(self):
        """What a scheduler does every hour."""
        now = from_us(self.clock.now_us())
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        start = day if now > day else day - timedelta(days=1)
        for view in self.published:
            self.store.materialize(view, start=start, end=start + timedelta(days=1))
            self.store.publish_view(view)

    def archive(self):
        """Bring log and commits to the lake."""
        store = self.store
        archiver = Archiver(store.compiled, store.lake, store.log("rides"), source="rides")
        while archiver.step():
            pass
        commits = CommitArchiver(store.lake, store.redis, self.environment)
        while commits.step():
            pass

    def _time(self, start_us, end_us):
        """Often on whole seconds and minutes, where windows have their edges."""
        step = self.random.choice([1, SECOND_US, MINUTE_US])
        return max(start_us, self.random.randrange(start_us, end_us) // step * step)

    def _rows(self, start_us, end_us, *, count, name):
        pick = self.random.choice
        return [
            {
                "ride_id": f"{name}-{i}",
                "city": pick([*CITIES, *CITIES, None]),
                "kind": pick([1, 1, 2, None]),
                "begun": from_us(self._time(start_us, end_us)),
                "seats": pick([None, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2**40, -(2**31), pick([7, 7, 2**62])]),
                "fare": pick([None, 0.1, 7.25, 20.0, 33.3, -0.0, 1e9, 2.5 / 2**20, pick([1.0, 1e300])]),
                "tip": pick([None, Decimal("1.10"), Decimal("0.05"), Decimal("-0.07"), Decimal("99999999.99")]),
                "driver": pick([None, "ann", "bob", "cy", "dee", "eve"]),
                "shared": pick([None, True, False]),
            }
            for i in range(count)
        ]


def lived(world, *, hours=8):
    """Some hours of life with two restarts, ending with everything in the lake."""
    world.restart()
    for hour in range(hours):
        if hour % 3 == 2:
            world.archive()
        world.publish_rows()
        if hour in (3, 6):
            world.restart()
        for _ in range(6):
            world.happen(12, over_us=10 * MINUTE_US)
            world.step(by_us=10 * MINUTE_US)
        world.step(by_us=10 * SECOND_US)
    world.archive()
    return world.served.table()


def _table(rows, start, end):
    chosen = [row for row in rows if start <= row["begun"] < end]
    types = {
        "ride_id": arrow.string(),
        "city": arrow.string(),
        "kind": arrow.int64(),
        "begun": arrow.timestamp("us", "UTC"),
        "seats": arrow.int64(),
        "fare": arrow.float64(),
        "tip": arrow.decimal128(10, 2),
        "driver": arrow.string(),
        "shared": arrow.bool_(),
    }
    return arrow.table({name: arrow.array([row[name] for row in chosen], kind) for name, kind in types.items()})
