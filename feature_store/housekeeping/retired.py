"""Views and services that are declared no more: what they take up in lake and Redis goes, unless something uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from feature_store.changing.applied import Applied, read_applied, recorded_features, retired_us, view_of
from feature_store.changing.retire import (
    Retired,
    give_back,
    refuse_running,
    refuse_service,
    refuse_view,
    retire_service,
    retire_view,
    without_service,
)
from feature_store.errors import InputError
from feature_store.housekeeping.task import Kept, Options, Tidied, counted
from feature_store.lake.view_tables import tables_of
from feature_store.online.keys import layouts_key, services_key
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.deployment import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is declared no more."""

    services: list[str]
    views: list[str]
    """To be retired."""
    leftovers: list[str]
    """Views that were retired by a command that was cut off."""
    kept: list[Kept]


def remove_retired(deployment: Deployment, options: Options) -> Tidied:
    """Give back what retired views left behind; with `retire`, retire what is declared no more and nothing uses."""
    client = deployment.redis
    check_server(client)
    found = _find(deployment, client, retire=options.retire)
    given = [*_retired(deployment, client, found, dry_run=options.dry_run)]
    return Tidied(
        task="retired",
        figures={
            "services": len(found.services),
            "views": len(found.views),
            "leftovers": len(found.leftovers),
            "tables": sum(len(each.tables) for each in given),
            "values": sum(each.values for each in given),
        },
        details={each.what: _told(each) for each in given},
        kept=found.kept,
    )


def _retired(deployment: Deployment, client: Redis, found: _Found, *, dry_run: bool) -> Iterator[Retired]:
    lake, env, registry, clock = deployment.lake, deployment.env, deployment.compiled.registry, deployment.clock
    for service in found.services:
        if dry_run:
            yield Retired(what=f"service {service}")
        else:
            yield retire_service(service, registry=registry, lake=lake, client=client, env=env, clock=clock)
    for view in found.views:
        if dry_run:
            yield give_back(view, lake=lake, client=client, env=env, dry_run=True)
        else:
            yield retire_view(view, registry=registry, lake=lake, client=client, env=env, clock=clock)
    for view in found.leftovers:
        yield give_back(view, lake=lake, client=client, env=env, dry_run=dry_run)


def _find(deployment: Deployment, client: Redis, *, retire: bool) -> _Found:
    registry, applied = deployment.compiled.registry, read_applied(deployment.lake)
    found = _Found(services=[], views=[], leftovers=[], kept=[])
    declared = {service.id for service in registry.services}
    standing = applied.meanings.services.keys()
    left = _published(client, deployment.env) - standing if applied.version else set()
    for service in sorted((standing | left) - declared):
        why = _refused(partial(refuse_service, service, registry, applied))
        command = f"feature-store retire {service} --service"
        if _goes(found, f"service {service}", why, retire=retire or service in left, command=command):
            found.services.append(service)
            applied = without_service(applied, service)
    _find_views(deployment, client, applied, found, retire=retire)
    return found


def _published(client: Redis, env: str) -> set[str]:
    """The services that readers find; one that was retired by a command that was cut off is still among them."""
    fields = cast("list[bytes]", client.hkeys(services_key(env)))
    return {field.decode() for field in fields if b"@" in field}


def _find_views(deployment: Deployment, client: Redis, applied: Applied, found: _Found, *, retire: bool) -> None:
    registry, env, now_us = deployment.compiled.registry, deployment.env, deployment.clock.now_us()
    declared = {view.id for view in registry.views}
    standing = {view_of(name) for name in applied.meanings.features}
    recorded = {view_of(name) for name in recorded_features(deployment.lake)}
    for view in sorted((standing | recorded) - declared):
        if view not in standing and not _left(deployment, client, view):
            continue
        why = _refused(partial(refuse_view, view, registry, applied))
        why = why or _refused(partial(refuse_running, view, client, env, now_us))
        if view not in standing:
            if not why and _is_built_again(deployment, view):
                why = "it was built again since it was retired: apply it, or `feature-store retire` it again"
            if _goes(found, f"view {view}", why, retire=True, command=""):
                found.leftovers.append(view)
        elif _goes(found, f"view {view}", why, retire=retire, command=f"feature-store retire {view}"):
            found.views.append(view)


def _goes(found: _Found, what: str, why: str, *, retire: bool, command: str) -> bool:
    """Whether it may go; else it is noted why not."""
    if not why and retire:
        return True
    found.kept.append(Kept(what, why or f"it is declared no more, but not retired: `{command}`, or `--retire`"))
    return False


def _is_built_again(deployment: Deployment, view: str) -> bool:
    """Whether somebody with other declarations is about to apply a retired view again."""
    retired = retired_us(deployment.lake, view)
    built = [at_us for table in tables_of(view) if (at_us := deployment.lake.builds.last_us(table)) is not None]
    return bool(built) and (retired is None or max(built) >= retired)


def _left(deployment: Deployment, client: Redis, view: str) -> bool:
    """Whether a retired view still has a table, or a layout, which goes behind the last of its values."""
    if any(deployment.lake.exists(table) for table in tables_of(view)):
        return True
    fields = cast("list[bytes]", client.hkeys(layouts_key(deployment.env)))
    return any(field.decode().partition("#")[0] == view for field in fields)


def _refused(check: Callable[[], None]) -> str:
    try:
        check()
    except InputError as refused:
        return str(refused)
    return ""


def _told(each: Retired) -> str:
    parts = [", ".join(each.tables), f"{counted(each.values, 'value')} in Redis" if each.values else ""]
    return "; ".join(part for part in parts if part) or "its registry entries"
