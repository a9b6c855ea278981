"""Retiring a view or a service that is declared no more: what it takes up in lake and Redis is given back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, cast

import msgspec

from feature_store.changing.applied import Applied, publish, read_applied, record, recorded_features, view_of
from feature_store.errors import InputError, UnknownNameError
from feature_store.lake.view_tables import tables_of
from feature_store.online.keys import features_prefix, layouts_key, ready_key, services_key, statistics_key
from feature_store.online.layout import parse_layout
from feature_store.online.ready import read_ready
from feature_store.online.rollout import rollout_field
from feature_store.online.server import check_server
from feature_store.time_rule import MINUTE_US

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.lake import Lake
    from feature_store.registry import Registry
_SCANNED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What was given back."""

    what: str
    """`view spending@1` or `service risk@1`."""
    tables: Sequence[str] = ()
    """Dropped in the lake; their files go when the snapshots that still read them are expired."""
    values: int = 0
    """Entities whose values were deleted from Redis."""


def retire_view(view_id: str, *, registry: Registry, lake: Lake, client: Redis, env: str, clock: Clock) -> Retired:
    """Delete a view's tiles or rows from the lake, its values, layouts and ready record from Redis. May be repeated.

    What its features meant stays on record: the same version never means anything else.

    Raises:
        UnknownNameError: it was never applied.
        InputError: it is declared, a service reads it, or a running stream still writes it.
        OnlineStoreError: Redis is away; nothing was written.
    """
    check_server(client)
    before = read_applied(lake)
    known = {view_of(name) for name in recorded_features(lake)}
    if view_id not in known:
        raise UnknownNameError("view", view_id, known)
    refuse_view(view_id, registry, before)
    refuse_running(view_id, client, env, clock.now_us())
    features = {name: digest for name, digest in before.meanings.features.items() if view_of(name) != view_id}
    after = replace(before, meanings=replace(before.meanings, features=features))
    record(lake, before, after, at_us=clock.now_us())
    done = give_back(view_id, lake=lake, client=client, env=env)
    publish(client, env, lake)
    return done


def give_back(view_id: str, *, lake: Lake, client: Redis, env: str, dry_run: bool = False) -> Retired:
    """What a view takes up that is applied no more; may be repeated after it was cut off. A dry run only counts it."""
    tables = [table for table in tables_of(view_id) if (lake.exists(table) if dry_run else lake.partitions.drop(table))]
    values = _delete_values(client, env, view_id, dry_run=dry_run)
    return Retired(what=f"view {view_id}", tables=tables, values=values)


def retire_service(
    service_id: str, *, registry: Registry, lake: Lake, client: Redis, env: str, clock: Clock
) -> Retired:
    """Take a service from the readers. May be repeated.

    Raises:
        UnknownNameError: it was never applied, or is retired already.
        InputError: it is declared, or it is served or rolled out under its bare name.
        OnlineStoreError: Redis is away; nothing was written.
    """
    check_server(client)
    before = read_applied(lake)
    name = service_id.partition("@")[0]
    published = client.hexists(services_key(env), service_id)
    if service_id not in before.meanings.services and not published:
        raise UnknownNameError("service", service_id, before.meanings.services)
    refuse_service(service_id, registry, before)
    after = without_service(before, service_id)
    others = any(each.partition("@")[0] == name for each in after.meanings.services)
    if not others:
        after = replace(after, rollouts={each: found for each, found in after.rollouts.items() if each != name})
    record(lake, before, after, at_us=clock.now_us())
    gone = [service_id] if others else [service_id, name, rollout_field(name)]
    client.hdel(services_key(env), *gone)
    publish(client, env, lake)
    return Retired(what=f"service {service_id}")


def refuse_service(service_id: str, registry: Registry, applied: Applied) -> None:
    """Whether a service is in use.

    Raises:
        InputError: it is declared, or it is served or rolled out under its bare name.
    """
    name, _, version = service_id.partition("@")
    if service_id in {service.id for service in registry.services}:
        raise InputError(f"service '{service_id}' is declared; take it out of the declarations first")
    others = any(each.partition("@")[0] == name for each in applied.meanings.services if each != service_id)
    rollout = applied.rollouts.get(name)
    if others and rollout is not None and int(version) in rollout.versions:
        raise InputError(
            f"service '{service_id}' is served under the name '{name}' or rolled out there; "
            f"end that first with `feature-store rollout promote {name} --to ...` or `rollback`"
        )


def without_service(before: Applied, service_id: str) -> Applied:
    """What is applied without a service."""
    meanings = before.meanings
    left = replace(
        meanings,
        services={name: names for name, names in meanings.services.items() if name != service_id},
        reads={name: names for name, names in meanings.reads.items() if name != service_id},
    )
    return replace(before, meanings=left)


def refuse_view(view_id: str, registry: Registry, applied: Applied) -> None:
    """Whether a view is in use by what is declared or applied.

    Raises:
        InputError: it is.
    """
    if view_id in {view.id for view in registry.views}:
        raise InputError(f"view '{view_id}' is declared; take it out of the declarations and apply them first")
    readers = {s for name, services in applied.meanings.readers.items() if view_of(name) == view_id for s in services}
    if readers:
        listed = ", ".join(f"'{name}'" for name in sorted(readers))
        raise InputError(
            f"view '{view_id}' is read by service {listed}; retire that first with `feature-store retire ... --service`"
        )


def refuse_running(view_id: str, client: Redis, env: str, now_us: int) -> None:
    """Whoever still folds the view would write it again.

    Raises:
        InputError: somebody does.
    """
    for field, ready in read_ready(client, env).items():
        if field.isdigit() and view_id in ready.views and now_us - ready.beat_us < MINUTE_US:
            raise InputError(
                f"view '{view_id}' is still written by the running stream; start the stream with the declarations that "
                "do not have it, then retire it"
            )


def _delete_values(client: Redis, env: str, view_id: str, *, dry_run: bool) -> int:
    """Delete a view's field of every entity, then what says how to read it; how many fields there were."""
    fields = cast("list[bytes]", client.hkeys(layouts_key(env)))
    layouts = [field for field in fields if field.decode().partition("#")[0] == view_id]
    deleted = 0
    for prefix in _prefixes(client, env, layouts):
        keys = client.scan_iter(f"{_literal(prefix)}*", count=_SCANNED)
        while some := list(islice(keys, _SCANNED)):
            pipeline = client.pipeline(transaction=False)
            for key in some:
                (pipeline.hexists if dry_run else pipeline.hdel)(key, view_id)
            deleted += sum(cast("list[int]", pipeline.execute()))
    if dry_run:
        return deleted
    client.hdel(ready_key(env), view_id)
    client.hdel(statistics_key(env), view_id)
    if layouts:
        client.hdel(layouts_key(env), *layouts)
    return deleted


def _prefixes(client: Redis, env: str, layouts: Sequence[bytes]) -> set[str]:
    """Where rows of these layouts stand: a view may have become personal data while it was served.

    Of one that cannot be read nobody knows; its rows go when they expire.
    """
    found: set[str] = set()
    for value in cast("list[bytes | None]", client.hmget(layouts_key(env), layouts) if layouts else []):
        if value is None:
            continue
        with suppress(msgspec.DecodeError):
            layout = parse_layout(value)
            found.add(features_prefix(env, layout.entity, personal=layout.personal))
    return found


def _literal(prefix: str) -> str:
    """A prefix as a pattern that matches nothing but itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in prefix)
