"""`keys create | list | rotate | revoke`: who may ask the HTTP and gRPC APIs for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.access.actor import whoever
from feature_store.access.audit import AuditLog, Entry
from feature_store.access.book import change_keys, read_keyring
from feature_store.access.grants import Grants, check_grants, exact
from feature_store.access.keyring import Keyring
from feature_store.access.keys import ApiKey, make_key, revoked, rotated
from feature_store.changing.applied import view_of
from feature_store.cli.looks import plain_table
from feature_store.errors import FeatureStoreError, InputError, UnknownNameError
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us, parse_duration

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Who may ask the HTTP and gRPC APIs for what.")

Key = Annotated[str, typer.Argument(help="The key's id, as `list` names it", metavar="ID")]
Step = Callable[[Keyring], tuple[Keyring, str, tuple[ApiKey, str]]]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what has it")],
    *,
    service: Annotated[list[str] | None, typer.Option(help="A service that it reads; `*` for any text in it")] = None,
    view: Annotated[list[str] | None, typer.Option(help="A view that it reads without a service; `*` likewise")] = None,
    source: Annotated[list[str] | None, typer.Option(help="A source that it publishes to; `*` likewise")] = None,
    personal: Annotated[
        list[str] | None, typer.Option(help="A view with personal data that it may read where the others allow it")
    ] = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="It reads the server's metrics")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="It sees all descriptions and who has which key")] = False,
    expires: Annotated[str | None, typer.Option(help="After how long it ends, such as 90d", metavar="DURATION")] = None,
) -> None:
    """Make a key and show it, once. From the first key on, the API answers nobody without one."""
    grants = Grants(
        services=tuple(service or ()),
        views=tuple(view or ()),
        sources=tuple(source or ()),
        personal=tuple(personal or ()),
        metrics=metrics,
        admin=admin,
    )
    check_grants(grants)
    length_us = _duration(expires, "--expires")
    with FeatureStore() as store:
        _check_names(store, grants)
        now_us = store.clock.now_us()
        ends_us = None if length_us is None else now_us + length_us
        key, text = make_key(name, grants, now_us=now_us, by=whoever(), expires_us=ends_us)
        _change(store, "create key", lambda ring: (ring.with_key(key), f"created {key.id}: {key.grants}", (key, text)))
    _show(key, text)


@app.command(name="list")
def list_keys() -> None:
    """List the keys, what they may do, and whether they work."""
    with FeatureStore() as store:
        keys, now_us = read_keyring(store.lake).keys, store.clock.now_us()
    console = Console(highlight=False)
    if not keys:
        console.print("no keys: the API listens on a loopback address only, and answers everybody there")
        return
    console.print(_table(keys, now_us))


@app.command()
def rotate(
    key: Key,
    *,
    overlap: Annotated[
        str | None, typer.Option(help="For how long the old secret still works, such as 1d", metavar="DURATION")
    ] = None,
) -> None:
    """Give a key a new secret and show it, once; its id and grants stay."""
    overlap_us = _duration(overlap, "--overlap") or 0

    def step(ring: Keyring) -> tuple[Keyring, str, tuple[ApiKey, str]]:
        new, text = rotated(ring.key(key), now_us=store.clock.now_us(), overlap_us=overlap_us)
        return ring.with_key(new), f"rotated {key}", (new, text)

    with FeatureStore() as store:
        new, text = _change(store, "rotate key", step)
    _show(new, text)


@app.command()
def revoke(key: Key) -> None:
    """Take a key back: within five seconds no server answers it any more."""

    def step(ring: Keyring) -> tuple[Keyring, str, tuple[ApiKey, str]]:
        old = revoked(ring.key(key), now_us=store.clock.now_us())
        return ring.with_key(old), f"revoked {key}", (old, "")

    with FeatureStore() as store:
        old, _ = _change(store, "revoke key", step)
    Console(highlight=False, soft_wrap=True).print(f"key {old.id} ({old.name}) is revoked", markup=False)


def _change(store: FeatureStore, did: str, step: Step) -> tuple[ApiKey, str]:
    audit = AuditLog(store.settings.audit_log)
    env = store.settings.environment
    what, problem = "", ""
    try:
        key, text = change_keys(step, lake=store.lake, client=store.redis, env=env, clock=store.clock)
        what = f"{key.id} {key.grants}"
    except FeatureStoreError as error:
        problem = str(error)
        raise
    finally:
        at = from_us(store.clock.now_us())
        audit.note(Entry(at=at, env=env, did=did, by=whoever(), what=what, problem=problem))
        audit.close()
    return key, text


def _check_names(store: FeatureStore, grants: Grants) -> None:
    """Refuse names of what is neither declared nor applied: the usual slip, found now rather than by a refusal.

    Raises:
        UnknownNameError: names the nearest.
        InputError: a view is granted as personal data that holds none.
    """
    registry, applied = store.registry, store.applied().meanings
    services = {name.partition("@")[0] for name in applied.services} | {each.name for each in registry.services}
    views = {view_of(name).partition("@")[0] for name in applied.features} | {view.name for view in registry.views}
    _known("service", grants.services, services)
    _known("view", (*grants.views, *grants.personal), views)
    _known("source", grants.sources, registry.sources)
    for view in registry.views:
        if view.name in grants.personal and not view.is_personal:
            raise InputError(
                f"`--personal` must name a view with personal data, view '{view.name}' has none (tag `pii`)"
            )


def _known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in exact(names):
        if name not in set(known):
            raise UnknownNameError(kind, name, known)


def _duration(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else parse_duration(text, name=option)
    except ValueError as error:
        raise InputError(str(error)) from None


def _show(key: ApiKey, text: str) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    ends = "" if key.expires_us is None else f", until {from_us(key.expires_us):%Y-%m-%d %H:%M} UTC"
    console.print(f"key {key.id} ({key.name}): {key.grants}{ends}")
    console.print("It is shown this once; send it as `Authorization: Bearer <key>`:")
    console.print(text)


def _table(keys: Mapping[str, ApiKey], now_us: int) -> Table:
    table = plain_table("id", "name", "state", "may", "created", "ends")
    for key in sorted(keys.values(), key=lambda key: key.created_us):
        created, ends = (
            "-" if at is None else f"{from_us(at):%Y-%m-%d %H:%M}" for at in (key.created_us, key.expires_us)
        )
        table.add_row(key.id, key.name, key.state(now_us), str(key.grants), created, ends)
    return table
