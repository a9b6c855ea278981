"""Rolling out a version of a service beside the one that is served: steps from one rollout to the next, and taking them.

A step is a version of the registry, so two people cannot take one at once; running readers follow within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from feature_store.changing.applied import Applied, publish, read_applied, record
from feature_store.errors import InputError, UnknownNameError
from feature_store.online.rollout import Mode, Rollout
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.lake import Lake

Step = Callable[[Rollout], Rollout]


def begin(mode: Mode, to: int, share: float) -> Step:
    """Read version `to` beside the one served: recorded (shadow), or served (split), for a share of the entities.

    Raises:
        InputError: the share is no per cent, or `to` is what is served.
    """
    if not 0 < share <= 100:
        raise InputError(f"`share` must be per cent, more than 0 and at most 100, got {share:g}")

    def step(rollout: Rollout) -> Rollout:
        _differs(rollout, to)
        return Rollout(serve=rollout.serve, mode=mode, to=to, share=share, previous=rollout.previous)

    return step


def promote(to: int | None = None) -> Step:
    """Serve a version to everybody: the one that is rolled out, or another.

    Raises:
        InputError: none is rolled out and none is named, or it is served already.
    """

    def step(rollout: Rollout) -> Rollout:
        version = rollout.to if to is None else to
        if version is None:
            raise InputError(
                f"version {rollout.serve} is served and none is rolled out beside it; name one with `--to`"
            )
        _differs(rollout, version)
        return Rollout(serve=version, previous=rollout.serve)

    return step


def rollback() -> Step:
    """Back by one: end a shadow or a split; else serve what was served before the last promotion.

    Raises:
        InputError: there is nothing to go back to.
    """

    def step(rollout: Rollout) -> Rollout:
        if rollout.to is not None:
            return Rollout(serve=rollout.serve, previous=rollout.previous)
        if rollout.previous is None:
            raise InputError(
                f"there is nothing to roll back: version {rollout.serve} was never promoted, and none is beside it"
            )
        return Rollout(serve=rollout.previous)

    return step


def take(step: Step, service: str, *, lake: Lake, client: Redis, env: str, clock: Clock) -> Rollout:
    """Take a step of a service: in the lake, then for the readers. If it dies in between, `apply` completes it.

    Raises:
        UnknownNameError: the service, or a version that would be read, was never applied or is retired.
        InputError: the step cannot be taken.
        ApplyConflict: somebody else changed the registry meanwhile.
        OnlineStoreError: Redis is away; nothing was written.
    """
    check_server(client)
    before = read_applied(lake)
    found = rollout_of(before, service)
    wanted = step(found)
    versions = versions_of(before, service)
    for version in wanted.versions - set(versions):
        raise UnknownNameError("service", f"{service}@{version}", [f"{service}@{each}" for each in versions])
    after = replace(before, rollouts={**before.rollouts, service: wanted})
    record(lake, before, after, at_us=clock.now_us(), what=[f"service {service}: {described(wanted)}"])
    publish(client, env, lake)
    return wanted


def rollout_of(applied: Applied, service: str) -> Rollout:
    """How a service is rolled out.

    Raises:
        UnknownNameError: no such service was applied.
    """
    if service not in applied.rollouts:
        raise UnknownNameError("service", service, applied.rollouts)
    return applied.rollouts[service]


def versions_of(applied: Applied, service: str) -> list[int]:
    """The versions of a service that are applied, in order."""
    return sorted(int(version) for name, _, version in map(_parted, applied.meanings.services) if name == service)


def described(rollout: Rollout) -> str:
    """What is served to whom."""
    served = f"version {rollout.serve} is served"
    if rollout.to is None:
        return served
    beside = "also read and recorded for" if rollout.mode == "shadow" else "served to"
    return f"{served}, version {rollout.to} is {beside} {rollout.share:g} % of the entities"


def compared(rollout: Rollout) -> tuple[int, int]:
    """The two versions that a report is about: what is served and what is beside it; else before and after a promotion.

    Raises:
        InputError: there is one version only.
    """
    if rollout.to is not None:
        return rollout.serve, rollout.to
    if rollout.previous is not None:
        return rollout.previous, rollout.serve
    raise InputError(f"there is nothing to compare: version {rollout.serve} was never promoted, and none is beside it")


def status(applied: Applied, services: Sequence[str] = ()) -> Mapping[str, Rollout]:
    """The rollouts of some services, by default of all."""
    return {name: rollout_of(applied, name) for name in services or sorted(applied.rollouts)}


def _parted(service_id: str) -> tuple[str, str, str]:
    return service_id.partition("@")


def _differs(rollout: Rollout, version: int) -> None:
    if version == rollout.serve:
        raise InputError(f"version {version} is served already")
