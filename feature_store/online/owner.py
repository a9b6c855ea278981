"""Taking the online store over, and taking it back when it has lost what it held."""

from __future__ import annotations

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


def all_are_built(client: Redis, env: str, run: int, *, shard: int, shards: int) -> bool:
    """Say that a shard of a run has caught up; returns whether all others have, too, or have taken over already.

    Raises:
        FlowSuperseded: a newer run was faster.
    """
    with client.pipeline(transaction=False) as pipe:
        pipe.sadd(built_key(env, run), shard)
        pipe.expire(built_key(env, run), _BUILT_KEPT_S)
        pipe.scard(built_key(env, run))
        pipe.get(owner_key(env))
        _, _, built, found = pipe.execute()
    return _may_replace(parse_owner(found), run) or built == shards


def take_over(client: Redis, env: str, run: int, *, shards: int) -> Owner:
    """Make a run the owner of the store, of the generation that it has now: from here on, no older run writes anything.

    The ready records of the run before stay, as what they vouch for stays; but if the number of shards changes, each
    of them vouches for other entities than before, so they are withdrawn.

    Raises:
        FlowSuperseded: a newer run was faster.
    """
    owner = Owner(run, store_generation(client, env))

    def change(pipe: Pipeline) -> None:
        if _may_replace(parse_owner(cast("bytes | None", pipe.get(owner_key(env)))), run):
            return
        fields = cast("dict[bytes, bytes]", pipe.hgetall(ready_key(env)))
        others = [field for field in fields if field.isdigit()] if shards_of(fields) != shards else []
        pipe.multi()
        if others:
            pipe.hdel(ready_key(env), *others)
        pipe.hset(ready_key(env), SHARDS, str(shards))
        pipe.set(owner_key(env), owner.encode())

    client.transaction(change, owner_key(env))
    return owner


def take_back(client: Redis, env: str, owner: Owner, *, shard: int, shards: int) -> Owner:
    """Own a store again that has lost something, and withdraw what a shard vouched for in it.

    Returns the owner, of another generation if the store was emptied.

    Raises:
        FlowSuperseded: a newer run owns it.
    """
    renewed = Owner(owner.run, store_generation(client, env))

    def change(pipe: Pipeline) -> None:
        _may_replace(parse_owner(cast("bytes | None", pipe.get(owner_key(env)))), owner.run)
        pipe.multi()
        pipe.hdel(ready_key(env), str(shard))
        pipe.hset(ready_key(env), SHARDS, str(shards))
        pipe.set(owner_key(env), renewed.encode())

    client.transaction(change, owner_key(env))
    return renewed


def _may_replace(found: Owner | None, run: int) -> bool:
    """Whether the run owns the store already; an error if it never can."""
    if found is not None and found.run > run:
        raise FlowSuperseded(run, found.run)
    return found is not None and found.run == run
