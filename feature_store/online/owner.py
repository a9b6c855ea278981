"""Taking the online store over, and taking it back when it has lost what it held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from feature_store.errors import FlowSuperseded
from feature_store.online.fence import Owner, parse_owner
from feature_store.online.keys import built_key, owner_key, ready_key
from feature_store.online.ready import SHARDS, shards_of, store_generation

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

_BUILT_KEPT_S = 86_400


def read_owner(client: Redis, env: str) -> Owner | None:
    """The run that may write; None if there is none."""
    return parse_owner(cast("bytes | None", client.get(owner_key(env))))


def all_are_built(client: Redis, env: str, owner: Owner, *, shard: int, shards: int) -> bool:
    """Say that a shard of a run has caught up; returns whether all others have, too, or have taken over already.

    Raises:
        FlowSuperseded: a newer run was faster.
    """
    with client.pipeline(transaction=False) as pipe:
        pipe.sadd(built_key(env, owner.run), shard)
        pipe.expire(built_key(env, owner.run), _BUILT_KEPT_S)
        pipe.scard(built_key(env, owner.run))
        pipe.get(owner_key(env))
        _, _, built, found = pipe.execute()
    return _may_replace(parse_owner(found), owner) or built == shards


def take_over(client: Redis, env: str, owner: Owner, *, shards: int) -> None:
    """Make a run the owner: from here on, no older one writes anything.

    The ready records of the run before stay, as what they vouch for stays; but if the number of shards changes, each
    of them vouches for other entities than before, so they are withdrawn.

    Raises:
        FlowSuperseded: a newer run was faster.
    """

    def change(pipe: Pipeline) -> None:
        if _may_replace(parse_owner(cast("bytes | None", pipe.get(owner_key(env)))), owner):
            return
        fields = cast("dict[bytes, bytes]", pipe.hgetall(ready_key(env)))
        others = [field for field in fields if field.isdigit()] if shards_of(fields) != shards else []
        pipe.multi()
        if others:
            pipe.hdel(ready_key(env), *others)
        pipe.hset(ready_key(env), SHARDS, str(shards))
        pipe.set(owner_key(env), owner.encode())

    _watching(client, env, change)


def take_back(client: Redis, env: str, owner: Owner, *, shard: int, shards: int) -> Owner:
    """Own a store again that has lost something, and withdraw what a shard vouched for in it.

    Returns the owner, of another generation if the store was emptied.

    Raises:
        FlowSuperseded: a newer run owns it.
    """
    renewed = Owner(owner.run, store_generation(client, env))

    def change(pipe: Pipeline) -> None:
        _may_replace(parse_owner(cast("bytes | None", pipe.get(owner_key(env)))), owner)
        pipe.multi()
        pipe.hdel(ready_key(env), str(shard))
        pipe.hset(ready_key(env), SHARDS, str(shards))
        pipe.set(owner_key(env), renewed.encode())

    _watching(client, env, change)
    return renewed


def _may_replace(found: Owner | None, owner: Owner) -> bool:
    """Whether the run owns the store already; an error if it never can."""
    if found is not None and found.run > owner.run:
        raise FlowSuperseded(owner.run, found.run)
    return found is not None and found.run == owner.run


def _watching(client: Redis, env: str, change: Callable[[Pipeline], None]) -> None:
    """Change the owner, from the start again if somebody else does meanwhile."""
    client.transaction(change, owner_key(env))
