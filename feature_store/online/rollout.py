"""Which version of a service is served under its bare name, and to whom: kept beside the services' layouts as JSON."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from feature_store.untrusted import decoded

Mode = Literal["off", "shadow", "split"]
SUFFIX = "#rollout"
"""Of the field of `services:<env>` that says how a service is rolled out."""
PARTS = 10_000
"""Into so many parts the entities of a service are divided: a share is known to a hundredth of a per cent."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is rolled out."""

    serve: int
    """The version that is served under the bare name,"""
    mode: Mode = "off"
    to: int | None = None
    """and the one beside it: read and recorded (shadow), or served to a share of the entities (split)."""
    share: float = 0.0
    """Of the entities that are in `to`, in per cent."""
    previous: int | None = None
    """What was served before `serve` was promoted."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 100:
            raise ValueError(f"`share` must be between 0 and 100, got {self.share}")

    @property
    def versions(self) -> set[int]:
        """The versions that are read."""
        return {self.serve} if self.to is None else {self.serve, self.to}


_decode = msgspec.json.Decoder(Rollout).decode


def rollout_field(name: str) -> str:
    """The field of `services:<env>` with the rollout of a service."""
    return f"{name}{SUFFIX}"


def rollout_fields(rollouts: Mapping[str, Rollout]) -> dict[str, bytes]:
    """The fields of `services:<env>`: the version under the bare name, and the rollout beside it."""
    fields: dict[str, bytes] = {}
    for name, rollout in rollouts.items():
        fields[name] = b"%d" % rollout.serve
        fields[rollout_field(name)] = msgspec.json.encode(rollout)
    return fields


def parse_rollout(value: bytes) -> Rollout:
    """A rollout from its JSON.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return decoded(_decode, value)


def is_in_share(service: str, key: str, share: float) -> bool:
    """Whether an entity is in the share (per cent): by a hash, so it stays in every larger one.

    `key` is the canonical key of the service's first entity. The service's name is part of the hash: the same
    customers are not the first to try everything.
    """
    return zlib.crc32(f"{service}:{key}".encode()) % PARTS < round(share * PARTS / 100)


def is_service(field: bytes) -> bool:
    """Whether a field of `services:<env>` names a service or one of its versions."""
    return not field.endswith(SUFFIX.encode())


def settle(rollouts: Mapping[str, Rollout], services: Mapping[str, list[int]]) -> dict[str, Rollout]:
    """The rollouts once these versions are declared: a version that still is goes on being served.

    Args:
        rollouts: as they stand.
        services: name -> its declared versions.
    """
    settled = dict(rollouts)
    for name, versions in services.items():
        found = settled.get(name)
        if found is None or found.serve not in versions:
            settled[name] = Rollout(serve=max(versions))
        elif found.to is not None and found.to not in versions:
            settled[name] = Rollout(serve=found.serve, previous=found.previous)
    return settled
