"""Whether a Redis server can be trusted with features: reachable, keeping what it is given, able to expire a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from feature_store.errors import OnlineStoreError
from feature_store.online.refusal import refusal

if TYPE_CHECKING:
    import redis

REQUIRED = "Redis 8.0 or Valkey 9.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What matters about a server."""

    name: str
    """`Redis` or `Valkey`."""
    version: str
    eviction: str
    """Its `maxmemory-policy`."""
    field_expiry: bool
    """Whether it knows HSETEX."""
    cluster: bool = False
    """Whether it is a node of a Redis Cluster."""

    @property
    def evicts(self) -> bool:
        """Whether a missing value may have been thrown away, so that nothing follows from its absence."""
        return self.eviction != "noeviction"


def inspect_server(client: redis.Redis) -> ServerFacts:
    """What the server says about itself.

    Raises:
        OnlineStoreError: nobody answers, or not to us.
    """
    try:
        info = client.info()
        field_expiry = _knows_field_expiry(client)
    except (RedisError, OSError) as error:
        where, refused = address(client), refusal(error)
        silent = f"no Redis answers at {where} ({str(error).rstrip('.')}); start it, or correct the Redis URL"
        raise OnlineStoreError(f"Redis at {where} {refused}" if refused else silent) from error
    return ServerFacts(
        name="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version", info.get("redis_version", "unknown"))),
        eviction=str(info.get("maxmemory_policy", "unknown")),
        field_expiry=field_expiry,
        cluster=bool(info.get("cluster_enabled")),
    )


def check_server(client: redis.Redis) -> ServerFacts:
    """The server's facts, when features may be written to it.

    Raises:
        OnlineStoreError: it cannot be reached, is one of a cluster, evicts keys, or cannot expire a field of a hash.
    """
    facts = inspect_server(client)
    if facts.cluster:
        raise OnlineStoreError(
            f"{facts.name} {facts.version} at {address(client)} is a node of a Redis Cluster; "
            "features are written to one server, with or without replicas"
        )
    if not facts.field_expiry:
        raise OnlineStoreError(
            f"{facts.name} {facts.version} at {address(client)} has no field expiry (HSETEX); "
            f"{REQUIRED} or later is required"
        )
    if facts.evicts:
        raise OnlineStoreError(
            f"{facts.name} {facts.version} at {address(client)} may evict features and log records "
            f"(maxmemory-policy is '{facts.eviction}'); set it to 'noeviction'"
        )
    return facts


def address(client: redis.Redis) -> str:
    """Where a client connects to, without its password."""
    pool = client.connection_pool
    if name := getattr(pool, "service_name", None):
        return f"{'the primary' if getattr(pool, 'is_master', True) else 'a replica'} of Sentinel's '{name}'"
    where: Mapping[str, object] = pool.connection_kwargs
    return str(where["path"]) if "path" in where else f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"


def _knows_field_expiry(client: redis.Redis) -> bool:
    # COMMAND INFO would say it too, but redis-py cannot read its answer for an unknown command.
    try:
        client.execute_command("HSETEX")  # type: ignore[no-untyped-call]
    except ResponseError as error:
        return "unknown command" not in str(error).lower()
    return True
