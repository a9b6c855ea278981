"""A small deployment whose readers log everything they serve, and a naive twin that says what a fault would have served.

Each minute the events that have arrived are folded, then a batch of cities is read; some events come late, some happen
at the very minute at which is read. Everything is real: lake, Valkey, log, fold, writer, reader, archivers.
"""

import itertools
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.clock import ManualClock
from feature_store.declare import redis_stream
from feature_store.decoders import json
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.proof.served_archive import ServedArchiver
from feature_store.proof.served_table import SERVED_TABLE
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US, from_us, to_us

BEGIN_US = to_us(datetime(2024, 3, 1, 6, tzinfo=UTC))
STEPS, CITIES = 50, 20
WINDOWS = {"1h": (HOUR_US, 2 * MINUTE_US), "6h": (6 * HOUR_US, 15 * MINUTE_US)}
"""Window -> its length and its hop."""
UNITS = 1 << 20
PAST_US = 7 * HOUR_US
Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Ride(pa.DataFrameModel):
    ride_id: Series[str]
    city: Series[int]
    begun: Series[Time]
    fare: Series[float]


def registry(load=None):
    rides = EventSource(
        "rides", schema=Ride, event_time="begun", event_id="ride_id", load=load, log=redis_stream("rides")
    )
    city = Entity("city", join_keys=["city"])
    features = [
        agg.count(over=["1h", "6h"]),
        agg.sum("fare", over=["1h", "6h"]),
        agg.mean("fare", over=["1h", "6h"]),
        agg.max("fare", over=["1h", "6h"]),
        agg.last("fare", over="1h"),
        agg.last_n("fare", n=3, over="6h"),
    ]
    busy = FeatureView("busy", entity=city, source=rides, features=features)
    dear = FeatureView("busy", version=2, entity=city, source=rides, where="fare > 50", features=features)
    return Registry(views=[busy, dear], services=[FeatureService("fares", features=[busy], log_rate=1.0)])


@dataclass
class Ridden:
    """An event of the twin."""

    city: int
    time: int
    arrived: int
    fare: float
    id: str

    @property
    def place(self):
        """Where it stands among the events of its city."""
        return self.time, self.id


class World:
    def __init__(self, url, home, environment):
        self.random, self.numbers, self.clock = random.Random(11), itertools.count(), ManualClock(BEGIN_US)
        settings = Settings(home=home, redis_url=url, environment=environment)
        self.store = FeatureStore(registry(), settings=settings, clock=self.clock)
        self.store.apply()
        self.reader, self.events = self.store.reader(), []
        stream = LocalStream(self.store.compiled, self.store.lake, self.store.redis, env=environment, clock=self.clock)
        past = [BEGIN_US - self.random.randrange(PAST_US) for _ in range(50 * CITIES)]
        self._publish([self._ride(i % CITIES, time) for i, time in enumerate(past)], arrived=BEGIN_US)
        waiting = []
        for _ in range(STEPS):
            now = self.clock.now_us() + MINUTE_US
            self.clock.move_to(now)
            waiting += [self._ride(city, self._time(now)) for city in range(CITIES) for _ in range(2)]
            self._publish([each for each in waiting if each.arrived <= now])
            waiting = [each for each in waiting if each.arrived > now]
            stream.step()
            self.reader.get_online_features_batch("fares", [{"city": city} for city in range(CITIES)])
        self._publish(waiting, arrived=self.clock.now_us() + HOUR_US)
        self.clock.move_to(self.clock.now_us() + 2 * HOUR_US)
        stream.step()
        self.reader.close()
        self.archive()
        self.record = self._stored()

    def archive(self):
        store = self.store
        Archiver(store.compiled, store.lake, store.log("rides"), source="rides").step()
        CommitArchiver(store.lake, store.redis, store.settings.environment).step()
        served = ServedArchiver(store.compiled, store.lake, store.redis, store.settings.environment)
        while served.step():
            pass

    def close(self):
        self.store.close()

    def _time(self, now):
        """Within the last minute; now and then its very end, which is the head of the next read's windows."""
        return now if self.random.random() < 0.2 else now - self.random.randrange(1, MINUTE_US)

    def _ride(self, city, time):
        delay = self.random.choice([0, 0, SECOND_US, 20 * MINUTE_US])
        arrived = time + delay + (MINUTE_US if time % MINUTE_US == 0 else 0)
        return Ridden(city, time, arrived, round(self.random.uniform(5, 95), 2), f"r{next(self.numbers)}")

    def _publish(self, rides, arrived=None):
        for ride in rides:
            ride.arrived = arrived or ride.arrived
        rows = [{"ride_id": ride.id, "city": ride.city, "begun": from_us(ride.time), "fare": ride.fare}
                for ride in rides]  # fmt: skip
        self.events += rides
        if rows:
            payloads = json().encode(rows)
            self.store.log("rides").publish(
                [Record(r["ride_id"], p, e.arrived) for r, p, e in zip(rows, payloads, rides, strict=True)]
            )

    # ---- what is on record, and how it is altered

    def _stored(self):
        with self.store.lake.cursor() as cursor:
            table = self.store.lake.table_sql(SERVED_TABLE)
            return cursor.execute(f"SELECT * FROM {table} ORDER BY served_us, city").to_arrow_table()

    def put(self, record):
        """Let the lake have this record and no other."""
        with self.store.lake.cursor() as cursor:
            cursor.execute(f"DELETE FROM {SERVED_TABLE}")
        self.store.lake.append(SERVED_TABLE, record)

    def vectors(self):
        """(row, city, effective time) of every vector."""
        columns = (self.record.column(name).to_pylist() for name in ("city", "busy_v1__as_of_us"))
        return [(row, *rest) for row, rest in enumerate(zip(*columns, strict=True))]

    def known(self, city, at):
        """The city's events that had arrived when it was read at `at`."""
        return [e for e in self.events if e.city == city and e.arrived <= at and e.time < at]

    def unknown(self, city, at):
        """Those that happened before, but arrived later."""
        return [e for e in self.events if e.city == city and e.arrived > at and e.time < at]


def windows(events, at, *, tail_at=None, shift=0):
    """What the windows at a time hold of some events: feature -> value, by plain loops."""
    found = {}
    for name, (window, hop) in WINDOWS.items():
        since = ((at if tail_at is None else tail_at) - window) // hop * hop + shift * hop
        fares = [event.fare for event in sorted(events, key=lambda e: e.place) if event.time >= since]
        total = sum(round(fare * UNITS) for fare in fares)
        found |= {
            f"count_{name}": len(fares),
            f"fare_sum_{name}": total / UNITS,
            f"fare_mean_{name}": float(total) / float(len(fares)) / UNITS if fares else None,
            f"fare_max_{name}": max(fares, default=None),
        }
        found |= {"fare_last_3_6h": fares[-3:]} if name == "6h" else {"fare_last_1h": fares[-1] if fares else None}
    return found


def planted(record, values):
    """The record with other values: row -> feature -> value."""
    for feature in {name for each in values.values() for name in each}:
        column = record.column(f"busy__{feature}").to_pylist()
        for row, each in values.items():
            if feature in each:
                column[row] = each[feature]
        place = record.schema.get_field_index(f"busy__{feature}")
        field = record.schema.field(place)
        record = record.set_column(place, field, arrow.array(column, field.type))
    return record
