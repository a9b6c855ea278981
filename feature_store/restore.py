"""The online store, written again from the lake and the logs: what readers need, batch rows, stream values.

A running flow does all of it by itself when it notices that the store was emptied; one that starts does so too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from feature_store.access.keyring import read_published
from feature_store.changing.applied import APPLIES, publish
from feature_store.errors import InputError
from feature_store.fold.run import LocalStream
from feature_store.history.publish import publish_rows
from feature_store.online.evictions import forget_if_evicted
from feature_store.online.keys import access_key, layouts_key, owner_key, services_key
from feature_store.online.layout import service_layout, view_layout
from feature_store.online.owner import read_owner
from feature_store.online.ready import ReadyRecord, read_ready
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

SIGN_OF_LIFE_S = 5.0
"""A flow whose heart has not beaten for so long is not running."""
_POLL_S = 0.05


def rebuild_online(compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock) -> Mapping[str, int]:
    """Write the online store again; returns how many entities each view has now.

    A running flow writes the values of the stream views, from what it has in memory; without one they are computed
    here, as of now. What is missing meanwhile reads UNKNOWN.

    Raises:
        OnlineStoreError: Redis is away, evicts, or cannot expire a field.
        FlowSuperseded: a flow was started meanwhile, and writes the values.
    """
    check_server(client)
    publish_again(compiled, lake, client, env=env, clock=clock)
    if any(view.online == "stream" for view in compiled.registry.views) and not _let_the_flow_write(client, env):
        LocalStream(compiled, lake, client, env=env, clock=clock).step()
    return _counted(compiled, client, env)


def is_emptied(compiled: Compiled, lake: Lake, client: Redis, env: str) -> bool:
    """Whether what was applied is gone from the online store: layouts, services, or API keys."""
    wanted = [access_key(env), layouts_key(env), *([services_key(env)] if compiled.registry.services else [])]
    return client.exists(*wanted) < len(wanted) and lake.exists(APPLIES)


def publish_again(compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock) -> None:
    """Publish the layouts, the services with their rollouts, and the newest rows of every batch view that has some."""
    registry = compiled.registry
    layouts = [view_layout(plan) for plan in compiled.plans.values() if plan.view.online is not None]
    services = [service_layout(service, registry) for service in registry.services]
    publish(client, env, lake, views=layouts, services=services)
    for view in registry.views:
        if view.is_batch:
            with suppress(InputError):  # nothing was built yet
                publish_rows(compiled, lake, client, view, env=env, clock=clock)


class Refill:
    """Publishes again whenever the store was emptied, its server has evicted, or its API keys are older than they were.
    What could not be, as the lake was locked, is owed until it is done.
    """

    def __init__(self) -> None:
        self._is_owed = False
        self._keys = 0
        """The newest version of the API keys that was seen in the store."""

    def look(self, compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock) -> None:
        """Publish, if that is needed.

        Raises:
            LakeError, OnlineStoreError: it could not; look again.
        """
        has_evicted = forget_if_evicted(client, env)
        went_back = self._keys_went_back(client, env)
        self._is_owed = self._is_owed or has_evicted or went_back or is_emptied(compiled, lake, client, env)
        if self._is_owed:
            publish_again(compiled, lake, client, env=env, clock=clock)
            self._is_owed = False

    def _keys_went_back(self, client: Redis, env: str) -> bool:
        """Whether a key that was revoked may work again: a replica that had not heard of it has taken over."""
        found = read_published(client, env)
        seen, self._keys = self._keys, max(self._keys, 0 if found is None else found.version)
        return found is not None and found.version < seen


def _let_the_flow_write(client: Redis, env: str) -> bool:
    """Let a running flow find that it does not own the store any more, which makes it write everything; False if none
    runs.
    """
    before = read_ready(client, env)
    if not _beats(client, env, before):
        return False
    client.delete(owner_key(env))
    while read_owner(client, env) is None:
        time.sleep(_POLL_S)
    while any(field.isdigit() and field not in read_ready(client, env) for field in before):
        time.sleep(_POLL_S)
    return True


def _beats(client: Redis, env: str, before: Mapping[str, ReadyRecord]) -> bool:
    """Whether somebody writes ready records of shards, or has just noticed that there are none any more."""
    hearts = {field: (record.run, record.n) for field, record in before.items() if field.isdigit()}
    until_s = time.perf_counter() + SIGN_OF_LIFE_S
    while time.perf_counter() < until_s:
        now = read_ready(client, env)
        if any(field.isdigit() and hearts.get(field) != (record.run, record.n) for field, record in now.items()):
            return True
        time.sleep(_POLL_S)
    return False


def _counted(compiled: Compiled, client: Redis, env: str) -> dict[str, int]:
    counts = {view.id: 0 for view in compiled.registry.views if view.online is not None}
    for kind in ("features", "features-pii"):
        for key in client.scan_iter(f"{kind}:{env}:*", count=1000):
            for field in cast("list[bytes]", client.hkeys(key)):
                counts[field.decode()] = counts.get(field.decode(), 0) + 1
    return counts
