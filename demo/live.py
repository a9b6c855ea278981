"""`python -m demo.live`: the flights of December 2013 as if they left now, a feed without an end for `make up`.

Four weeks of December are repeated for ever, each time moved by whole weeks, so weekday and hour fit. Event ids name the
shift, so a second round is not taken for duplicates of the first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import cast

import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from demo.replay import DAY, Due, Publisher
from feature_store.errors import FeatureStoreError
from feature_store.fold.archive import Archiver
from feature_store.log.binding import open_log
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us
from features.flights import LIVE_FROM, LONGEST_DELAY, LiveEvent, arrival_order

ROUND = timedelta(weeks=4)
HISTORY = timedelta(days=35)
"""What the first start fills the lake with: more than the longest window."""
CHUNK = timedelta(hours=6)
PAUSE_S = 0.2


def feed(start: datetime, end: datetime) -> Iterator[LiveEvent]:
    """The events that arrive in `start <= arrived_at < end` of today's time, in that order."""
    while start < end:
        shift = (start - LIVE_FROM) // ROUND * ROUND
        until = min(end, LIVE_FROM + shift + ROUND)
        yield from arrival_order(start - shift, until - shift, since=LIVE_FROM - LONGEST_DELAY, shift=shift)
        start = until


class Feed:
    """Publishes the feed from where an earlier process stopped."""

    def __init__(self, store: FeatureStore, client: redis.Redis) -> None:
        self._store, self._client, self._publisher = store, client, Publisher(store, client)
        self._mark = f"replayed:{store.settings.environment}"

    @property
    def position(self) -> datetime:
        """Everything that arrived before it is published; not longer ago than the history that is wanted."""
        mark = cast("bytes | None", self._client.get(self._mark))
        oldest = self.now - HISTORY
        return oldest if mark is None else max(oldest, datetime.fromisoformat(mark.decode()))

    @property
    def now(self) -> datetime:
        """The clock's time."""
        return from_us(self._store.clock.now_us())

    def publish(self, events: list[LiveEvent], *, until: datetime) -> None:
        """Publish events and remember it. A process that dies in between publishes them again, as duplicates."""
        self._publisher.publish(events)
        self._client.set(self._mark, until.astimezone(UTC).isoformat())


def prepare(store: FeatureStore, client: redis.Redis) -> None:
    """Bring log, lake and batch rows up to now: everything that has arrived since the last time."""
    source = Feed(store, client)
    start = source.position
    end = source.now
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console()) as progress:
        task = progress.add_task(f"flights since {start:%Y-%m-%d %H:%M} UTC", total=(end - start).total_seconds())
        while start < end:
            until = min(end, start + DAY)
            source.publish(list(feed(start, until)), until=until)
            progress.advance(task, (until - start).total_seconds())
            start = until
    archive(store, client)
    publish_batch_views(store)


def archive(store: FeatureStore, client: redis.Redis) -> None:
    """Bring everything in the logs to the lake."""
    for name, source in store.registry.sources.items():
        log = open_log(client, store.settings.environment, source)
        archiver = Archiver(store.compiled, store.lake, log, source=name)
        while archiver.step():
            pass


def publish_batch_views(store: FeatureStore) -> None:
    """Build and publish the newest rows of the batch views; later Dagster's schedules do."""
    today = from_us(store.clock.now_us()).replace(hour=0, minute=0, second=0, microsecond=0)
    for view in store.registry.views:
        if view.is_batch:
            store.materialize(view.id, start=today - DAY, end=today + DAY)
            store.publish_view(view.id)


def replay(store: FeatureStore, client: redis.Redis) -> None:
    """Publish each event when its time comes, for ever."""
    source = Feed(store, client)
    start = source.position
    while True:
        end = max(start, source.now) + CHUNK
        coming = Due(list(feed(start, end)), time=attrgetter("arrived_at"))
        while (now := source.now) < end:
            if events := coming.take(now):
                source.publish(events, until=now)
            time.sleep(PAUSE_S)
        source.publish(coming.take(end), until=end)
        start = end


def main(action: str) -> None:
    """Run one of the two."""
    settings = Settings()
    with FeatureStore(settings=settings) as store, redis.Redis.from_url(settings.redis_url) as client:
        {"prepare": prepare, "replay": replay}[action](store, client)


if __name__ == "__main__":
    if sys.argv[1:] not in (["prepare"], ["replay"]):
        sys.stderr.write("usage: python -m demo.live prepare|replay\n")
        sys.exit(2)
    try:
        main(sys.argv[1])
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
