"""How a deployment stands: what lake, log and online store hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from feature_store.errors import FeatureStoreError, LogError
from feature_store.log.binding import open_log
from feature_store.online.ready import ReadyRecord, read_ready
from feature_store.online.server import inspect_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.declare.source import EventSource
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a source stands."""

    name: str
    days_loaded: int
    first_day: date | None
    last_day: date | None
    positions: Mapping[int, int]
    """Partition -> the first offset that the lake does not have."""
    lag: Mapping[int, int]
    """Partition -> records of the log that the lake does not have; empty without a log or if it cannot be read."""
    problem: str = ""
    """Why the log cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """How a deployment stands."""

    snapshot: int
    sources: Sequence[SourceStatus]
    ready: Mapping[str, ReadyRecord]
    """Shard or batch view -> what it vouches for."""
    server: str
    """The online store's server and version, or why it does not answer."""


def status(compiled: Compiled, lake: Lake, client: Redis, *, env: str) -> StoreStatus:
    """What lake, log and online store hold; an online store that does not answer is part of the status."""
    ready: Mapping[str, ReadyRecord] = {}
    try:
        facts = inspect_server(client)
        server, answers = f"{facts.name} {facts.version}", True
        ready = read_ready(client, env)
    except FeatureStoreError as error:
        server, answers = str(error), False
    sources = [
        _source_status(source, lake, client if answers else None, env) for source in compiled.registry.sources.values()
    ]
    return StoreStatus(snapshot=lake.snapshot(), sources=sources, ready=ready, server=server)


def _source_status(source: EventSource, lake: Lake, client: Redis | None, env: str) -> SourceStatus:
    days = lake.days(source.name).loaded
    positions = lake.positions(source.name)
    lag: dict[int, int] = {}
    problem = ""
    if client is not None and source.log is not None:
        try:
            log = open_log(client, env, source)
            lag = {p: log.lag(p, positions[p] if p in positions else log.begin(p)) for p in range(log.partitions)}
        except LogError as error:
            problem = str(error)
    return SourceStatus(
        name=source.name,
        days_loaded=len(days),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        positions=positions,
        lag=lag,
        problem=problem,
    )
