"""How fresh views are now, as readers see it: by what the shards and the publisher of batch rows vouch for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from feature_store.online.keys import generation_key, ready_key
from feature_store.online.ready import STALE_US
from feature_store.reader.readiness import Progress, parse_readiness
from feature_store.reader.transport import as_hash
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from feature_store.online.layout import ViewLayout
    from feature_store.reader.async_transport import AsyncTransport
    from feature_store.reader.readiness import Readiness


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """How fresh a view is."""

    state: str
    """fresh; stale: older than its SLA; catching_up: a stream computes it first; unknown: nobody vouches for it."""
    known_until: datetime | None = None
    """What had arrived by then is in the values; of a batch view, the time of its rows."""
    age_s: float | None = None
    sla_s: float


async def freshness_now(
    views: Mapping[str, ViewLayout], transport: AsyncTransport, *, env: str, now_us: int
) -> dict[str, Freshness]:
    """How fresh views are, by one round trip.

    Args:
        views: `view@version` -> its layout.
        transport: to Redis.
        env: the environment.
        now_us: the time.

    Raises:
        OnlineStoreError: Redis does not answer.
    """
    asked = [("GET", generation_key(env)), ("HGETALL", ready_key(env))]
    generation, ready = cast("list[Any]", await transport.exchange(asked))
    readiness = parse_readiness(generation, as_hash(ready), progress=Progress(), now_us=now_us, now_s=0.0)
    return {view: freshness_of(layout, readiness, now_us=now_us) for view, layout in views.items()}


def freshness_of(layout: ViewLayout, readiness: Readiness, *, now_us: int) -> Freshness:
    """How fresh a view is now; a stream view is as fresh as the slowest of its shards."""
    sla_s = layout.sla_us / 1e6
    fields = [None] if layout.online == "batch" else range(readiness.shards)
    vouched = [readiness.of(layout.id, field) for field in fields]
    found = [each for each in vouched if each is not None]
    if len(found) < len(vouched):
        return Freshness(state="unknown", sla_s=sla_s)
    known_us = min(each.known_us for each in found)
    age_us = max(now_us - known_us, 0)
    if any(layout.id not in each.views for each in found):
        state = "catching_up"
    elif layout.online == "batch" and age_us > layout.sla_us + STALE_US:
        state = "unknown"
    else:
        state = "stale" if age_us > layout.sla_us else "fresh"
    return Freshness(state=state, known_until=from_us(known_us), age_s=age_us / 1e6, sla_s=sla_s)
