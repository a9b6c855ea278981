"""Where the Redis is that is written to: at a URL, or wherever its Sentinels say.

`redis+sentinel://user:password@host:26379,host:26379/name` names Sentinels and what they call the primary; user and
password are those of the primary and its replicas. `?db=1` chooses a database, as in other URLs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from feature_store.errors import InputError, OnlineStoreError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

SENTINEL = "redis+sentinel://"
SENTINEL_PORT = 26379


class Watched(NamedTuple):
    """A primary that Sentinels watch."""

    sentinels: list[tuple[str, int]]
    name: str
    options: dict[str, Any]
    """Of connections to the primary."""


def connect(url: str, **options: Any) -> redis.Redis:
    """A client of the Redis at a URL, or of the primary that Sentinels name each time it connects.

    Args:
        url: as redis-py takes it, or `redis+sentinel://`.
        options: of connections, as redis-py has them; the timeouts go for Sentinels, too.

    Raises:
        InputError: the URL of Sentinels cannot be read.
        OnlineStoreError: redis-py cannot read the URL.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    if url.startswith(SENTINEL):
        sentinels, name, given = parse_sentinels(url)
        asking = {**_timeouts(options), "retry": Retry(NoBackoff(), 1)}
        manager = Sentinel(sentinels, sentinel_kwargs=asking, **given, **options)  # type: ignore[no-untyped-call]
        return cast("Redis", manager.master_for(name))  # type: ignore[no-untyped-call]
    try:
        return Redis.from_url(url, **options)
    except ValueError as error:
        raise OnlineStoreError(f"`redis_url` cannot be read: {error}") from error


def connect_async(url: str, **options: Any) -> redis.asyncio.Redis:
    """A client for asyncio of the primary that Sentinels name each time it connects.

    Raises:
        InputError: the URL of Sentinels cannot be read.
    """
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    sentinels, name, given = parse_sentinels(url)
    asking = {**_timeouts(options), "retry": Retry(NoBackoff(), 1)}
    manager = Sentinel(sentinels, sentinel_kwargs=asking, **given, **options)  # type: ignore[no-untyped-call]
    return cast("redis.asyncio.Redis", manager.master_for(name))


@contextmanager
def connected(url: str, **options: Any) -> Iterator[redis.Redis]:
    """A client as `connect` makes it, until the end of the block."""
    client = connect(url, **options)
    try:
        yield client
    finally:
        disconnect(client)


def disconnect(client: redis.Redis) -> None:
    """Close a client that `connect` made, and those of its Sentinels."""
    client.close()
    for each in _sentinels(client):
        each.close()


async def disconnect_async(client: redis.asyncio.Redis) -> None:
    """Close a client that `connect_async` made, and those of its Sentinels."""
    await client.aclose()
    for each in _sentinels(client):
        await each.aclose()


def parse_sentinels(url: str) -> Watched:
    """What a URL of Sentinels says.

    Raises:
        InputError: it says something else.
    """
    body, _, query = url.removeprefix(SENTINEL).partition("?")
    netloc, _, path = body.partition("/")
    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options = {name: unquote(value) for name, value in (("username", user), ("password", password)) if value}
    asked = dict(parse_qsl(query))
    database, name = asked.pop("db", "0"), unquote(path)
    sentinels = [_host(each) for each in hosts.split(",")]
    if asked or not name or "/" in name or not database.isdigit() or None in sentinels:
        shown = f"{SENTINEL}{'***@' if credentials else ''}{hosts}/{path}"
        raise InputError(
            f"a URL of Sentinels must be like {SENTINEL}user:password@host:26379,host:26379/name?db=0, got '{shown}'"
        )
    return Watched([each for each in sentinels if each], name, {**options, "db": int(database)})


def _host(text: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:
        return None
    return (host, port) if host else None


def _timeouts(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith("socket_")}


def _sentinels(client: redis.Redis | redis.asyncio.Redis) -> list[Any]:
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    return [] if manager is None else manager.sentinels
