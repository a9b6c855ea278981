"""The flight sources: history by event time, the requests of the model, and December as it would come in live.

Times are UTC. History counts as having arrived when it happened. The live month is given a reporting delay, so that
the stream sees what real streams see: events that are late and events that overtake each other.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.settings import Settings
from features.nycflights import prepared_tables

HISTORY_START = date(2013, 1, 1)
LIVE_FROM = datetime(2013, 12, 1, tzinfo=UTC)
"""Events before it are history, events from it on come over the log."""
END = datetime(2014, 1, 2, tzinfo=UTC)
"""After the last event: the last landing is on New Year's morning, UTC."""

EVENT_TIME = {
    "departures": "departed_at",
    "arrivals": "landed_at",
    "cancellations": "cancelled_at",
    "weather": "observed_at",
}
EVENT_ID = {
    "departures": "flight_uid",
    "arrivals": "flight_uid",
    "cancellations": "flight_uid",
    "weather": "observation_uid",
}
REQUEST_TIME = "request_time"
LONGEST_DELAY = timedelta(minutes=45)


def load_departures(start: datetime, end: datetime) -> pa.Table:
    """Flights that left the gate with `start <= departed_at < end`."""
    return _between("departures", "departed_at", start, end)


def load_arrivals(start: datetime, end: datetime) -> pa.Table:
    """Flights that reached the gate with `start <= landed_at < end`."""
    return _between("arrivals", "landed_at", start, end)


def load_cancellations(start: datetime, end: datetime) -> pa.Table:
    """Flights that never left, by their scheduled departure."""
    return _between("cancellations", "cancelled_at", start, end)


def load_weather(start: datetime, end: datetime) -> pa.Table:
    """Hourly reports with `start <= observed_at < end`."""
    return _between("weather", "observed_at", start, end)


def requests(start: datetime = datetime(2013, 1, 1, tzinfo=UTC), end: datetime = END) -> pa.Table:
    """One row per flight whose features are asked for in `start <= request_time < end`, in that order.

    The request comes an hour before the scheduled departure: more than half of all flights leave early, so at the
    schedule itself the answer may already be known. Columns: the join keys, `request_time`, what the schedule says
    (`sched_dep`, local `hour`, `minute`, `weekday` 1-7, `month`, `distance`), and the label `late`: arrived more than
    15 minutes late, null for a flight that never arrived where it was meant to.
    """
    return _between("requests", REQUEST_TIME, start, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent:
    """One record of a source, and when it comes in."""

    source: str
    event_id: str
    event_time: datetime
    arrived_at: datetime
    row: Mapping[str, object]
    """The source's columns; `decode.encode` of the source makes a payload of it."""


def arrival_order(
    start: datetime = LIVE_FROM, end: datetime = END, *, since: datetime = LIVE_FROM, shift: timedelta = timedelta(0)
) -> Iterator[LiveEvent]:
    """The events of all sources that arrive in `start <= arrived_at < end`, in the order in which they arrive.

    Args:
        start: first arrival.
        end: after the last arrival.
        since: events that happened earlier are history and do not come over the log.
        shift: moves the whole replay in time, say to today; `start`, `end` and `since` are in the data's own time.
            Ids then name the shift, so that a second replay is not taken for duplicates of the first.
    """
    live = [event for source in EVENT_TIME for event in _live_events(source, max(since, start - LONGEST_DELAY), end)]
    coming = [event for event in live if start <= event.arrived_at < end]
    coming.sort(key=lambda event: (event.arrived_at, event.source, event.event_id))
    for event in coming:
        yield _shifted(event, shift) if shift else event


def reporting_delay(source: str, event_id: str) -> timedelta:
    """How long after it happened an event is reported: a fixed function of its name, invented but plausible.

    Nine in ten take up to 15 s, most others up to 5 min, one in a hundred between 5 and 45 min.
    """
    draw = zlib.crc32(f"{source}/{event_id}".encode())
    percentile, fraction = draw % 100, draw // 100 % 10_000 / 10_000
    low, high = (0, 15) if percentile < 90 else (15, 300) if percentile < 99 else (300, 2700)
    return timedelta(seconds=round(low + fraction * (high - low)))


def _live_events(source: str, start: datetime, end: datetime) -> Iterator[LiveEvent]:
    name, time = EVENT_ID[source], EVENT_TIME[source]
    for row in _between(source, time, start, end).to_pylist():
        arrived = row[time] + reporting_delay(source, row[name])
        yield LiveEvent(source=source, event_id=row[name], event_time=row[time], arrived_at=arrived, row=row)


def _shifted(event: LiveEvent, shift: timedelta) -> LiveEvent:
    event_id = f"{event.event_id}+{shift // timedelta(hours=1)}h"
    moved = {name: value + shift if isinstance(value, datetime) else value for name, value in event.row.items()}
    return LiveEvent(
        source=event.source,
        event_id=event_id,
        event_time=event.event_time + shift,
        arrived_at=event.arrived_at + shift,
        row={**moved, EVENT_ID[event.source]: event_id},
    )


def _between(table: str, column: str, start: datetime, end: datetime) -> pa.Table:
    path = prepared_tables(data_directory()) / f"{table}.parquet"
    return pq.read_table(path, filters=(pc.field(column) >= start) & (pc.field(column) < end))


def data_directory() -> Path:
    """Where the prepared tables are kept: `flights` in the store's home directory."""
    return Settings().home / "flights"
