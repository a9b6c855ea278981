"""What every process of one flow is told, so that they agree on where they begin and what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from feature_store.fold.run import Start, begin_run, live_sources
from feature_store.lake import Lake, LakeLocation
from feature_store.log.binding import open_log
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from feature_store.clock import Clock
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
    failures: list[Exception] = field(default_factory=list)
    """What our own code raised in this process while the engine called it."""

    def connect(self) -> redis.Redis:
        """A client of the online store and the log."""
        return redis.Redis.from_url(self.redis_url)

    def open_lake(self) -> Lake:
        """The lake, for the one thread that asks."""
        return Lake.open(self.lake, env=self.env, clock=self.clock, threads=1)

    def log(self, client: redis.Redis, source: str) -> EventLog:
        """The log of a source."""
        return open_log(client, self.env, self.compiled.registry.source(source))

    @property
    def consumer(self) -> str:
        """The flow's name among the consumers of a log. What a restart needs is the lake's position; this one only keeps
        the trimmer behind a running flow.
        """
        return f"stream:{self.env}"

    def begin(self) -> Start:
        """Begin a new run of the flow, from here on a consumer of its logs. See `fold.run.begin_run`."""
        client = self.connect()
        check_server(client)
        for source in live_sources(self.compiled.registry):
            self.log(client, source).register(self.consumer)
        with self.open_lake() as lake:
            return begin_run(self.compiled, lake, client, env=self.env, shards=self.workers)
