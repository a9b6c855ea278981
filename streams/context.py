"""What every process of one flow is told, so that they agree on where they begin and what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from feature_store.fold.consumer import stream_consumer
from feature_store.fold.observed import UNOBSERVED
from feature_store.fold.run import Start, begin_run, live_sources, next_run
from feature_store.lake import Lake, LakeLocation
from feature_store.log.binding import open_log
from feature_store.online.address import connect
from feature_store.online.owner import read_owner
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from feature_store.clock import Clock
    from feature_store.fold.observed import Observer
    from feature_store.log.protocol import EventLog
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext:
    """A flow's surroundings; cheap to pass around, nothing in it is open."""

    compiled: Compiled
    lake: LakeLocation
    redis_url: str
    env: str
    workers: int
    clock: Clock
    observer: Observer = UNOBSERVED
    """Who counts what this process does."""
    failures: list[Exception] = field(default_factory=list)
    """What our own code raised in this process while the engine called it."""

    def connect(self) -> redis.Redis:
        """A client of the online store and the log."""
        return connect(self.redis_url)

    def open_lake(self) -> Lake:
        """The lake, for the one thread that asks."""
        return Lake.open(self.lake, env=self.env, clock=self.clock, threads=1)

    def log(self, client: redis.Redis, source: str) -> EventLog:
        """The log of a source."""
        return open_log(client, self.env, self.compiled.registry.source(source))

    def logs(self, client: redis.Redis) -> dict[str, EventLog]:
        """The logs of all sources that the flow reads."""
        return {source: self.log(client, source) for source in live_sources(self.compiled.registry)}

    def begin(self) -> Start:
        """Begin a new run of the flow, from here on a consumer of its logs. See `fold.run.begin_run`."""
        client = self.connect()
        check_server(client)
        with self.open_lake() as lake:
            run = next_run(lake, client, self.env)
            for log in self.logs(client).values():
                log.register(stream_consumer(self.env, run))
            now_us = self.clock.now_us()
            return begin_run(self.compiled, lake, client, env=self.env, shards=self.workers, now_us=now_us, run=run)

    def abandon(self, start: Start) -> None:
        """Keep no records for a run that ended, unless it was the owner: the next one builds from them."""
        client = self.connect()
        owner = read_owner(client, self.env)
        if owner is None or owner.run != start.run:
            for log in self.logs(client).values():
                log.unregister(stream_consumer(self.env, start.run))
