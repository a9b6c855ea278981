"""Which servers answer a reader: what it may conclude from a ready record depends on it."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from feature_store.errors import InputError, shown

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster

    Client = redis.Redis | RedisCluster
    AsyncClient = redis.asyncio.Redis | AsyncRedisCluster


class Servers(Enum):
    """Who answers."""

    ONE = "one"
    """A server that is written to, at an address or found by Sentinel: what it vouched for a second ago still holds,
    until a connection to it is lost."""
    REPLICAS = "replicas"
    """Any of several, each as far behind as its own ready records say: what one vouches for says nothing of another."""
    CLUSTER = "cluster"
    """Each has a share of the keys and a history of its own: nothing orders their answers, and the node with the ready
    records does not know what another has lost."""


def servers_of(url: str | Client | AsyncClient, *, asyncio: bool = False) -> Servers:
    """Who answers by a URL or a client of redis-py.

    Raises:
        InputError: the client is of no use: it is none for this reader, decodes packed values as text, or reads from
            replicas of a cluster.
    """
    if isinstance(url, str):
        return Servers.ONE
    client: Any = url
    cluster = _is_cluster(client, asyncio=asyncio)
    encoder = client.encoder if cluster else client.connection_pool.get_encoder()
    if encoder.decode_responses:
        raise InputError("`url` must be a URL or a client of redis-py made with decode_responses=False")
    if not cluster:
        return Servers.ONE if getattr(client.connection_pool, "is_master", True) else Servers.REPLICAS
    if client.read_from_replicas or client.load_balancing_strategy:
        raise InputError(
            "`url` must not be a cluster's client that reads from replicas: "
            "nothing says how far behind each of them is; read from the primaries"
        )
    return Servers.CLUSTER


def refuse_timeout(timeout_s: object) -> None:
    """Refuse what is no time to wait for.

    Raises:
        InputError: it is no positive number of seconds.
    """
    if type(timeout_s) is bool or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
        raise InputError(f"`timeout_s` must be a positive number of seconds, got {shown(timeout_s)}")


def shown_client(client: Client | AsyncClient) -> str:
    """How errors name where a client of redis-py connects to, without passwords."""
    if nodes := getattr(client, "nodes_manager", None):
        return f"the cluster of {', '.join(sorted(nodes.startup_nodes))}"
    from feature_store.online.server import address

    return address(cast("redis.Redis", client))


def _is_cluster(client: object, *, asyncio: bool) -> bool:
    if asyncio:
        from redis.asyncio import Redis as AsyncRedis
        from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster

        one: type = AsyncRedis
        many: type = AsyncRedisCluster
    else:
        from redis import Redis
        from redis.cluster import RedisCluster

        one, many = Redis, RedisCluster
    if not isinstance(client, (one, many)):
        raise InputError(
            f"`url` must be a URL or a client of {'redis.asyncio' if asyncio else 'redis-py that is not for asyncio'}, "
            f"got {type(client).__module__}.{type(client).__qualname__}"
        )
    return isinstance(client, many)
