"""What both the stepped days and the live one do: publish what arrives, score what is asked, keep the lake in step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import pandas as pd
import redis

from feature_store.decoders import json
from feature_store.log.binding import open_log
from feature_store.log.protocol import Record
from feature_store.proof.served_log import ServedLog
from feature_store.reader import FeatureReader
from feature_store.reader.vector import FeatureVector
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us
from features.flights import REQUEST_TIME, LiveEvent
from features.model import DelayModel

T = TypeVar("T")

SERVICE = "arrival_delay"
DAY = timedelta(days=1)
DAILY, HOURLY = "carrier_arrivals", "origin_weather"
"""The batch views, by how often a row of theirs is published."""


class Publisher:
    """Publishes live events to the logs of their sources."""

    def __init__(self, store: FeatureStore, client: redis.Redis) -> None:
        self._sources = {name: source for name, source in store.registry.sources.items() if source.log is not None}
        self._logs = {
            name: open_log(client, store.settings.environment, source) for name, source in self._sources.items()
        }

    def publish(self, events: Iterable[LiveEvent]) -> int:
        """Publish events in the order in which they arrive; returns how many."""
        count = 0
        for name, group in itertools.groupby(sorted(events, key=lambda e: e.source), key=lambda e: e.source):
            mine = list(group)
            payloads = (self._sources[name].decode or json()).encode([event.row for event in mine])
            self._logs[name].publish(
                [
                    Record(event.event_id, payload, to_us(event.arrived_at))
                    for event, payload in zip(mine, payloads, strict=True)
                ]
            )
            count += len(mine)
        return count


@dataclass(slots=True)
class Scorer:
    """Asks for the features of flights, and a trained model for the probability of a delay."""

    reader: FeatureReader
    model: DelayModel
    log: ServedLog
    scored: list[pd.DataFrame] = field(default_factory=list)

    def read(self, requests: Sequence[dict[str, object]]) -> list[FeatureVector]:
        """The vectors of some requests, each as of its own time; they go to the log of served vectors."""
        times = [request[REQUEST_TIME] for request in requests]
        vectors = self.reader.get_online_features_batch(SERVICE, requests, as_of=times)
        for request, vector in zip(requests, vectors, strict=True):
            self.log.add(request, vector, as_of_us=to_us(_time(request)))
        return vectors

    def score(self, requests: Sequence[dict[str, object]], vectors: Sequence[FeatureVector]) -> None:
        """Predict from what was served."""
        columns = [name.replace(":", "__") for name in vectors[0].names]
        served = pd.DataFrame([vector.values for vector in vectors], columns=columns)
        rows = pd.concat([pd.DataFrame(list(requests)), served], axis=1)
        rows["score"] = self.model.predict(rows)
        self.scored.append(rows[[REQUEST_TIME, "flight_uid", "late", "score"]])

    def results(self) -> pd.DataFrame:
        """One row per request scored: its time, flight, label and score."""
        return pd.concat(self.scored, ignore_index=True)


def start_of_month(store: FeatureStore, start: datetime, end: datetime) -> None:
    """The weather reports of the month come at once, as files do, and the rows of all hours are built.

    Each hour's row knows the reports before its hour only, and is published at its hour.
    """
    store.load("weather", start=start, end=end)
    store.materialize(HOURLY, start=start, end=end)


def start_of_day(store: FeatureStore, day: datetime) -> None:
    """What the scheduler does at midnight: the row of yesterday, from what the lake holds."""
    store.materialize(DAILY, start=day - DAY, end=day)
    store.publish_view(DAILY)


def start_of_hour(store: FeatureStore) -> None:
    """What the scheduler does every hour: publish the hourly rows."""
    store.publish_view(HOURLY)


class Due(Generic[T]):
    """Hands out the items of a list that is sorted by time, as their time comes."""

    def __init__(self, items: Sequence[T], *, time: Callable[[T], datetime]) -> None:
        self._items, self._time, self._at = items, time, 0

    def __bool__(self) -> bool:
        """Whether some are left."""
        return self._at < len(self._items)

    def take(self, before: datetime) -> list[T]:
        """The next items earlier than `before`."""
        start = self._at
        while self and self._time(self._items[self._at]) < before:
            self._at += 1
        return list(self._items[start : self._at])


def _time(request: dict[str, object]) -> datetime:
    moment = request[REQUEST_TIME]
    if not isinstance(moment, datetime):
        raise TypeError(f"`{REQUEST_TIME}` must be a time, got {moment!r}")
    return moment
