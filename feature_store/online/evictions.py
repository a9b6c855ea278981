"""Whether the server has thrown keys away: nobody knows which, so nothing in the store can be believed any more.

A server that features may be written to does not evict; but its policy can be changed while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from feature_store.online.keys import evictions_key, generation_key, owner_key

if TYPE_CHECKING:
    from redis import Redis


def forget_if_evicted(client: Redis, env: str) -> bool:
    """Let the store count as emptied if the server has evicted since somebody looked last; returns whether it has.

    A store that counts as emptied has no generation and no owner: readers doubt it at once, and a running flow takes it
    back and writes everything again.
    """
    evicted = int(client.info("stats")["evicted_keys"])
    with client.pipeline(transaction=True) as pipe:
        pipe.getset(evictions_key(env), evicted)
        pipe.exists(generation_key(env))
        known, is_used = cast("tuple[bytes | None, int]", pipe.execute())
    if not is_used or evicted <= int(known or 0):
        return False  # a server that was started again counts from zero
    client.delete(generation_key(env), owner_key(env))
    return True
