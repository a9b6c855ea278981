"""The lives of a topic: one that was deleted and created again counts its leader epochs from 0 anew, its offsets too.

Kafka gives every topic an id of its own. Here each id gets a number to which its leader epochs are added, above every
epoch of the topic's earlier lives, so that epochs only grow. It stands in Redis: `logmeta:<env>:{<topic>}` holds
`life:<topic id>` and `epoch`, the greatest epoch that was ever given out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import redis

# ARGV: topic id, an epoch that a reader has reached, or -1. A reader that knows a later epoch than Redis has outlived
# Redis' memory of it: the life begins above that one.
_BASE = """
local life, reached = 'life:' .. ARGV[1], tonumber(ARGV[2])
local base, epoch = redis.call('HGET', KEYS[1], life), tonumber(redis.call('HGET', KEYS[1], 'epoch') or '-1')
if not base or reached >= epoch and reached >= 0 then
  base = math.max(epoch, reached) + 1
  redis.call('HSET', KEYS[1], life, base, 'epoch', base)
end
return tostring(base)
"""

_RAISE = """
if tonumber(ARGV[1]) > tonumber(redis.call('HGET', KEYS[1], 'epoch') or '-1') then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
end
"""


class TopicLives:
    """What the epochs of each life of a topic are added to."""

    def __init__(self, client: redis.Redis, *, env: str, topic: str) -> None:
        self._client, self._key = client, f"logmeta:{env}:{{{topic}}}"
        self._raised = -1

    def base(self, topic_id: str, *, reached: int = -1) -> int:
        """The number of this life; above `reached` if no greater epoch than that was given out."""
        return int(cast("bytes", self._client.eval(_BASE, 1, self._key, topic_id, reached)))

    def raise_to(self, epoch: int) -> None:
        """Note an epoch before anybody keeps an offset of it."""
        if epoch > self._raised:
            self._client.eval(_RAISE, 1, self._key, epoch)
            self._raised = epoch
