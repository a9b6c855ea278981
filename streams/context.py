"""What every process of one flow is told, so that they agree on where they begin and what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from feature_store.clock import Clock, SystemClock
from feature_store.fold.rebuild import Origin, resolve_origin
from feature_store.lake import Lake
from feature_store.log.redis_streams import RedisStreamLog
from feature_store.online.ready import store_generation, withdraw_ready, write_shards
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from pathlib import Path

    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext:
    """A flow's surroundings; cheap to pass around, nothing in it is open."""

    compiled: Compiled
    lake_directory: Path
    redis_url: str
    env: str
    shards: int
    clock: Clock = field(default_factory=SystemClock)

    def connect(self) -> redis.Redis:
        """A client of the online store and the log."""
        return redis.Redis.from_url(self.redis_url)

    def open_lake(self) -> Lake:
        """The lake, for the one thread that asks."""
        return Lake.open(self.lake_directory, env=self.env, clock=self.clock, threads=1)

    def live_sources(self) -> list[str]:
        """The sources that come over a log and feed a stream view."""
        registry = self.compiled.registry
        return [
            name
            for name, source in registry.sources.items()
            if source.log is not None and any(view.online == "stream" for view in registry.views_of(name))
        ]

    def log(self, client: redis.Redis, source: str) -> RedisStreamLog:
        """The log of a source.

        Raises:
            ValueError: if the source has none.
        """
        binding = self.compiled.registry.source(source).log
        if binding is None:
            raise ValueError(f"source '{source}' has no log")
        return RedisStreamLog(
            client, env=self.env, source=binding.topic, partitions=binding.partitions, limit=binding.limit
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where one run of a flow begins."""

    run: int
    generation: str
    origin: Origin
    evicts: bool


def begin_run(context: FlowContext) -> Start:
    """Resolve where a new run begins. Until it has caught up, what is missing in Redis is UNKNOWN.

    Raises:
        OnlineStoreError: Redis is away, too old or evicts.
    """
    client = context.connect()
    facts = check_server(client)
    for shard in range(context.shards):
        withdraw_ready(client, context.env, shard)
    write_shards(client, context.env, context.shards)
    with context.open_lake() as lake:
        for source in context.live_sources():
            lake.ensure_source(source, context.compiled.schemas[source])
        origin = resolve_origin(context.compiled, lake)
    run = int(client.incr(f"runs:{context.env}"))  # type: ignore[arg-type]  # redis-py types sync and async alike
    return Start(run=run, generation=store_generation(client, context.env), origin=origin, evicts=facts.evicts)
