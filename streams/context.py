"""What every process of one flow is told, so that they agree on where they begin and what time it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from feature_store.fold.run import Start, begin_run, live_sources, open_log
from feature_store.lake import Lake, LakeLocation
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from feature_store.clock import Clock
    from feature_store.log.redis_streams import RedisStreamLog
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext:
    """A flow's surroundings; cheap to pass around, nothing in it is open."""

    compiled: Compiled
    lake: LakeLocation
    redis_url: str
    env: str
    shards: int
    clock: Clock

    def connect(self) -> redis.Redis:
        """A client of the online store and the log."""
        return redis.Redis.from_url(self.redis_url)

    def open_lake(self) -> Lake:
        """The lake, for the one thread that asks."""
        return Lake.open(self.lake, env=self.env, clock=self.clock, threads=1)

    def log(self, client: redis.Redis, source: str) -> RedisStreamLog:
        """The log of a source."""
        return open_log(client, self.env, self.compiled.registry.source(source))

    def partitions(self) -> list[tuple[str, int]]:
        """Every (source, partition) that the flow reads."""
        client = self.connect()
        return [
            (source, partition)
            for source in live_sources(self.compiled.registry)
            for partition in range(self.log(client, source).partitions)
        ]

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
            return begin_run(self.compiled, lake, client, env=self.env, shards=self.shards)
