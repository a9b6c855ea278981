"""December over the log in arrival order, stepped in this process: faster than life, but never ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter

import redis

from demo.replay import DAY, Due, Publisher, Scorer, start_of_day, start_of_hour
from demo.stage import Stage
from feature_store.clock import ManualClock
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.log.binding import open_log
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us
from features.flights import REQUEST_TIME, arrival_order, requests

STEP = timedelta(minutes=15)


def step_days(
    stage: Stage, scorer: Scorer, store: FeatureStore, clock: ManualClock, *, days: Sequence[datetime]
) -> None:
    """Replay whole days: at each step everything that has arrived is folded, then the flights of the step are scored.

    So a vector knows what had arrived at the beginning of its step, up to a quarter of an hour before it was asked for.
    At night there are steps in which nobody asks; they are left out.
    """
    client = stage.client()
    stream = LocalStream(store.compiled, store.lake, client, env=store.settings.environment, clock=clock)
    publisher, archive = Publisher(store, client), Archive(store, client)
    with stage.progress() as progress:
        task = progress.add_task("December, stepped", total=len(days))
        for day in days:
            clock.move_to(to_us(day))
            archive.step()
            start_of_day(store, day)
            _step_day(store, stream, publisher, scorer, clock, day)
            progress.advance(task)
    archive.step()


def _step_day(
    store: FeatureStore, stream: LocalStream, publisher: Publisher, scorer: Scorer, clock: ManualClock, day: datetime
) -> None:
    asked = requests(day, day + DAY).to_pylist()
    due = Due(asked, time=itemgetter(REQUEST_TIME))
    logged = [event for event in arrival_order(day, day + DAY) if event.source != "weather"]
    coming = Due(logged, time=attrgetter("arrived_at"))
    vectors, hour = [], None
    for start in (day + STEP * i for i in range(DAY // STEP)):
        mine = due.take(start + STEP)
        if not mine:
            continue
        clock.move_to(to_us(start))
        if start.hour != hour:
            hour = start.hour
            start_of_hour(store)
        publisher.publish(coming.take(start))
        stream.step()
        vectors.extend(scorer.read(mine))
    clock.move_to(to_us(day + DAY))
    publisher.publish(coming.take(day + DAY))
    stream.step()
    if asked:
        scorer.score(asked, vectors)


class Archive:
    """Brings the logs and the commit records to the lake."""

    def __init__(self, store: FeatureStore, client: redis.Redis) -> None:
        env = store.settings.environment
        logs = {
            name: open_log(client, env, source)
            for name, source in store.registry.sources.items()
            if source.log is not None
        }
        self._logs = logs
        self._archivers = [Archiver(store.compiled, store.lake, log, source=name) for name, log in logs.items()]
        self._commits = CommitArchiver(store.lake, client, env)

    def step(self) -> None:
        """Bring over all there is."""
        for archiver in (*self._archivers, self._commits):
            while archiver.step():
                pass
        for log in self._logs.values():
            log.trim()
