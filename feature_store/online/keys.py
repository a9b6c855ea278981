"""The names of everything in Redis; the environment is part of each, so environments never meet."""

from __future__ import annotations

import zlib


def features_prefix(env: str, entity: str, *, personal: bool) -> str:
    """What stands before an entity's key in the name of its hash.

    Personal data has names of its own because Redis grants access by key pattern; the braces hold the same text, so
    both hashes of an entity live in the same slot of a cluster.
    """
    return f"features{'-pii' if personal else ''}:{env}:{{{entity}:"


def features_key(env: str, entity: str, key: str, *, personal: bool = False) -> str:
    """The hash of one entity: a field per view version, its packed row as the value."""
    return f"{features_prefix(env, entity, personal=personal)}{key}}}"


def layouts_key(env: str) -> str:
    """Hash: `view@version` and `view@version#layout` -> layout as JSON."""
    return f"layouts:{env}"


def services_key(env: str) -> str:
    """Hash: `name@version` -> service as JSON, `name` -> its newest version."""
    return f"services:{env}"


def ready_key(env: str) -> str:
    """Hash: a shard's number or a batch view's `view@version` -> ready record; `shards` -> how many shards."""
    return f"ready:{env}"


def generation_key(env: str) -> str:
    """String: a random id that an emptied store does not have any more."""
    return f"generation:{env}"


def evictions_key(env: str) -> str:
    """String: how many keys the server had evicted when somebody looked last."""
    return f"evictions:{env}"


def owner_key(env: str) -> str:
    """String: the run that may write the values of stream views, and the generation of the store it writes to."""
    return f"owner:{env}"


def tail_key(env: str, shard: int) -> str:
    """String: the last write of a shard, by its run and number; a store that went back has another."""
    return f"tail:{env}:{shard}"


def built_key(env: str, run: int) -> str:
    """Set: the shards of a run that have caught up and wait for the others before the run takes over."""
    return f"built:{env}:{run}"


def applied_key(env: str) -> str:
    """String: the fingerprint of the stream views that were applied last."""
    return f"applied:{env}"


def access_key(env: str) -> str:
    """String: the API keys, as digests with what they may do; nothing is served over HTTP while it is missing."""
    return f"access:{env}"


def catalog_key(env: str) -> str:
    """Hash: what people read of all declarations, compressed, and how each was declared before."""
    return f"catalog:{env}"


def statistics_key(env: str) -> str:
    """Hash: `view@version` -> how the values of its features are distributed, as JSON."""
    return f"statistics:{env}"


def commits_key(env: str) -> str:
    """Stream: one record for every batch of a shard."""
    return f"commits:{env}"


def under_way_key(env: str) -> str:
    """Hash: a shard's number -> the commit of the batch whose values it is writing."""
    return f"under_way:{env}"


def served_key(env: str, *, personal: bool = False) -> str:
    """Stream: a sample of the vectors that readers have served, on their way to the lake."""
    return f"served{'-pii' if personal else ''}:{env}"


def shard_of(entity: str, key: str, *, shards: int) -> int:
    """The shard that keeps an entity."""
    return zlib.crc32(f"{entity}:{key}".encode()) % shards
