"""What a run looks after beside its values.

Other declarations, and history loaded into its windows, it cannot take in while it runs: it asks for a successor, which
is built with them. What readers need beside values, and batch rows, it publishes again in a store that was emptied.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, cast

import duckdb
from redis.exceptions import RedisError

from feature_store.errors import FeatureStoreError
from feature_store.fold.drive import stream_fingerprint
from feature_store.online.keys import applied_key
from feature_store.restore import Refill
from feature_store.time_rule import BEGINNING_US, from_us

if TYPE_CHECKING:
    import redis
    from feature_store_deploy.streams.context import FlowContext

    from feature_store.fold.run import Start
    from feature_store.lake import Lake

logger = logging.getLogger(__name__)

EVERY_S = 2.0

Ask = Callable[[str], None]


def watch_in_background(context: FlowContext, start: Start, ask: Ask) -> None:
    """Watch in a thread that ends with the process; each reason is given once."""
    threading.Thread(target=_watch, args=(context, start, ask), daemon=True).start()


def _watch(context: FlowContext, start: Start, ask: Ask) -> None:
    client, refill, given = context.connect(), Refill(), set[str]()
    while True:
        try:
            with context.open_lake() as lake:
                loads = Loads(context, start)
                while True:
                    refill.look(context.compiled, lake, client, env=context.env, clock=context.clock)
                    for reason in filter(None, (applied(context, client), loads.reason(lake))):
                        if reason not in given:
                            given.add(reason)
                            ask(reason)
                    time.sleep(EVERY_S)
        except (RedisError, FeatureStoreError, duckdb.Error) as error:
            logger.debug("nothing can be learned about changes now: %s", error)
            time.sleep(EVERY_S)


def applied(context: FlowContext, client: redis.Redis) -> str | None:
    """Whether other stream views were applied than this run computes."""
    found = cast("bytes | None", client.get(applied_key(context.env)))
    if found is None or found.decode() == stream_fingerprint(context.compiled):
        return None
    return f"other definitions were applied ({hashlib.blake2b(found, digest_size=4).hexdigest()})"


class Loads:
    """Whether history was loaded, since a run began, that its windows hold."""

    def __init__(self, context: FlowContext, start: Start) -> None:
        self._context, self._origin, self._seen = context, start.origin.snapshot, start.origin.snapshot

    def reason(self, lake: Lake) -> str | None:
        """What was loaded since the last call; looks no further if the lake is as it was."""
        snapshot = lake.snapshot()
        if snapshot == self._seen:
            return None
        self._seen = snapshot
        found = [source for source in self._context.compiled.registry.sources if self._is_loaded(lake, source)]
        return f"history of {', '.join(found)} was loaded (snapshot {self._newest})" if found else None

    def _is_loaded(self, lake: Lake, source: str) -> bool:
        views = [view for view in self._context.compiled.registry.views_of(source) if view.online == "stream"]
        loads = lake.loads_since(source, self._origin) if views else {}
        now_us = self._context.clock.now_us()
        longest = [view.longest_window_us for view in views]
        first_us = (
            BEGINNING_US if None in longest else now_us - max((w for w in longest if w is not None), default=0) * 9 // 8
        )
        first = date.min if first_us == BEGINNING_US else from_us(first_us).date()
        inside = [snapshot for day, snapshot in loads.items() if first <= day <= from_us(now_us).date()]
        self._newest = max(inside, default=self._origin)
        return bool(inside)
