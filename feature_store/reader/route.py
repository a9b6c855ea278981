"""Which plans a read takes: one, or two while a service is rolled out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from feature_store.errors import InputError, OnlineStoreError, UnknownNameError, shown
from feature_store.online.layout import ServiceLayout, ViewLayout, parse_service
from feature_store.online.rollout import Rollout, is_in_share, is_service, parse_rollout, rollout_field
from feature_store.reader.computing import requested
from feature_store.reader.places import RowRefused
from feature_store.reader.plan import ReadPlan, keys_of, plan_read

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What is read for a service or a list of features."""

    plan: ReadPlan
    """Of the version that is served."""
    rollout: Rollout | None = None
    """None unless another version is read too."""
    beside: ReadPlan | None = None
    """Of that version."""

    @property
    def plans(self) -> tuple[ReadPlan, ...]:
        """All plans."""
        return (self.plan,) if self.beside is None else (self.plan, self.beside)


class Part(NamedTuple):
    """Rows of a request that are read by one plan."""

    plan: ReadPlan
    rows: Sequence[int] | None
    """Their positions; None: all."""
    keys: list[str | None]
    """Of their entities, row by row."""
    requests: list[list[object]]
    """What they give for functions, as `computing.requested` says."""
    shadow: bool = False
    """Read to be recorded, not served."""


def parts_of(route: Route, rows: Sequence[Row], *, recorded: bool) -> list[Part]:
    """The parts of a request, what is served first.

    Args:
        route: of the service.
        rows: of the request.
        recorded: whether somebody records what is read in the shadow; else it is not read.

    Raises:
        RowRefused: a row lacks a join key, or a column for a function, of what is served.
    """
    whole = part_of(route.plan, None, rows)
    rollout, beside = route.rollout, route.beside
    if rollout is None or beside is None or (rollout.mode == "shadow" and not recorded):
        return [whole]
    width = len(route.plan.entities)
    service = route.plan.service.name
    firsts = whole.keys[::width] if width else [""] * len(rows)
    chosen = [i for i, key in enumerate(firsts) if key is not None and is_in_share(service, key, rollout.share)]
    if not chosen:
        return [whole]
    if rollout.mode == "shadow":
        return [whole, *_shadow(beside, rows, chosen)]
    other = part_of(beside, chosen, [rows[i] for i in chosen])
    taken = set(chosen)
    rest = [i for i in range(len(rows)) if i not in taken]
    if not rest:
        return [other]
    keys = [key for i in rest for key in whole.keys[i * width : i * width + width]]
    return [Part(route.plan, rest, keys, [[given[i] for i in rest] for given in whole.requests]), other]


def part_of(plan: ReadPlan, chosen: Sequence[int] | None, rows: Sequence[Row]) -> Part:
    """Rows that are read by a plan, which are chosen from a request.

    Raises:
        RowRefused: a row lacks a join key, or what a function needs.
    """
    try:
        return Part(plan, chosen, keys_of(plan, rows), requested(plan, rows) if plan.requests else [])
    except RowRefused as refused:
        raise refused if chosen is None else RowRefused(chosen[refused.row], str(refused)) from None


def _shadow(plan: ReadPlan, rows: Sequence[Row], chosen: list[int]) -> list[Part]:
    """The shadow of some rows; none where it asks for more than the request has."""
    try:
        return [part_of(plan, chosen, [rows[i] for i in chosen])._replace(shadow=True)]
    except InputError:
        return []


def find_route(env: str, name: str, services: Mapping[bytes, bytes], views: Mapping[str, ViewLayout]) -> Route:
    """What is read for a service: `name@version`, or `name` as it is rolled out.

    Args:
        env: the environment.
        name: the service.
        services: the fields of `services:<env>`.
        views: the layouts in use.

    Raises:
        InputError: the name is none.
        UnknownNameError: the service, or a view or feature of it, is not published.
        OnlineStoreError: it was published by another version of this library, or is damaged.
    """
    if not name.isprintable():
        raise InputError(f"the name of a service must be printable text, got {shown(name)}")
    if "@" in name:
        return Route(plan=plan_read(env, _service(name, services), views))
    version = services.get(name.encode())
    if version is None:
        raise UnknownNameError("service", name, [each for each in _names(services) if "@" not in each])
    number = _version(name, version)
    plan = plan_read(env, _service(f"{name}@{number}", services), views)
    rollout = _rollout(name, services)
    if rollout is None or rollout.to is None or rollout.serve != number:
        return Route(plan=plan)
    try:
        beside = plan_read(env, _service(f"{name}@{rollout.to}", services), views)
    except (OnlineStoreError, UnknownNameError):
        if rollout.mode == "split":
            raise
        return Route(plan=plan)  # what is not served fails nobody
    return Route(plan=plan, rollout=rollout, beside=beside)


def services_of(
    env: str, services: Mapping[bytes, bytes], views: Mapping[str, ViewLayout]
) -> tuple[dict[str, Route], list[ReadPlan]]:
    """All services that can be read: each name as it is rolled out, and the plan of each version.

    Args:
        env: the environment.
        services: the fields of `services:<env>`.
        views: the layouts in use.
    """
    routes: dict[str, Route] = {}
    plans: list[ReadPlan] = []
    for name in sorted(_names(services)):
        try:
            route = find_route(env, name, services, views)
        except (OnlineStoreError, UnknownNameError):
            continue  # of another version of this library, or over what was retired: a read of it says so
        if "@" in name:
            plans.append(route.plan)
        else:
            routes[name] = route
    return routes, plans


def _service(service_id: str, services: Mapping[bytes, bytes]) -> ServiceLayout:
    found = services.get(service_id.encode())
    if found is None:
        raise UnknownNameError("service", service_id, [each for each in _names(services) if "@" in each])
    try:
        service = parse_service(found)
    except msgspec.DecodeError as error:
        raise OnlineStoreError(
            f"service '{service_id}' was published by another version of this library: {error}"
        ) from error
    if service.id != service_id:
        raise OnlineStoreError(
            f"in the place of service '{service_id}' stands '{service.id}'; run `feature-store apply`"
        )
    return service


def _names(services: Mapping[bytes, bytes]) -> list[str]:
    """The names of services and `name@version` of their versions."""
    names = []
    for field in filter(is_service, services):
        with suppress(UnicodeDecodeError):
            names.append(field.decode())
    return names


def _version(name: str, value: bytes) -> int:
    if not re.fullmatch(rb"[1-9][0-9]{0,8}", value):
        raise OnlineStoreError(
            f"the version of service '{name}' cannot be read: {shown(value)}; run `feature-store apply`"
        )
    return int(value)


def _rollout(name: str, services: Mapping[bytes, bytes]) -> Rollout | None:
    found = services.get(rollout_field(name).encode())
    try:
        return None if found is None else parse_rollout(found)
    except msgspec.DecodeError as error:
        raise OnlineStoreError(
            f"the rollout of service '{name}' was published by another version of this library: {error}"
        ) from error
