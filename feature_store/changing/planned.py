"""What applying the declarations would change here, and what it would take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from feature_store.changes import Change, Meanings, compare, meanings
from feature_store.changing.applied import read_applied, view_of
from feature_store.changing.probe import Cost, cost_of

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.evolution import Reader
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What would change from one registry to another."""

    version: int | None = None
    """Of the registry that is compared with: `apply --expect` takes it. None: compared with an exported file."""
    changes: Sequence[Change]
    unchanged: Sequence[str]
    """Features that stay as they are."""
    services: Sequence[str]
    """Services that are new, changed or gone, or read a feature that is changed or gone."""
    same: Mapping[str, Sequence[str]]
    """New feature -> features that are there and mean the same."""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    """View with new features -> what it takes to build it."""

    @property
    def is_breaking(self) -> bool:
        """Whether a change is."""
        return any(change.breaking for change in self.changes)

    def to_json(self) -> str:
        """As JSON with sorted keys."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)


def planned(
    before: Meanings, after: Meanings, *, version: int | None = None, readers: Sequence[Reader] = ()
) -> Planned:
    """What changes, without what it takes. `readers`: see `compare`."""
    changes = compare(before, after, readers=readers)
    return Planned(
        version=version,
        changes=changes,
        unchanged=sorted(name for name, digest in before.features.items() if after.features.get(name) == digest),
        services=_affected(before, changes),
        same=_same(before, after),
    )


def plan_here(compiled: Compiled, lake: Lake, client: Redis, *, env: str, now_us: int) -> Planned:
    """What applying the declarations to an environment would change, and what building that takes. Writes nothing.

    Raises:
        LakeError: the lake cannot be read.
        RedisError: Redis is away.
    """
    applied, declared = read_applied(lake), meanings(compiled.registry)
    found = planned(applied.meanings, declared, version=applied.version, readers=compiled.registry.readers)
    new: dict[str, int] = {}
    for change in found.changes:
        if change.feature and change.kind != "retired":
            new[view_of(change.feature)] = new.get(view_of(change.feature), 0) + 1
    costs: dict[str, Cost] = {}
    hashes: set[tuple[str, bool]] = set()
    for view in compiled.registry.views:
        if view.id in new:
            place = (view.entity.name, view.is_personal)
            costs[view.id] = cost_of(
                compiled,
                lake,
                client,
                view,
                env=env,
                now_us=now_us,
                share=new[view.id] / len(view.declared),
                hashes=place not in hashes,
            )
            hashes |= {place} if view.online is not None else set()
    return replace(found, costs=costs)


def _affected(before: Meanings, changes: Sequence[Change]) -> list[str]:
    touched = {change.feature for change in changes if change.feature and change.kind != "created"}
    readers = before.readers
    reading = {service for name in touched for service in readers.get(name, ())}
    own = {change.service for change in changes if change.service}
    return sorted(reading | own)


def _same(before: Meanings, after: Meanings) -> dict[str, list[str]]:
    by_digest: dict[str, list[str]] = {}
    for name, digest in {**before.features, **after.features}.items():
        by_digest.setdefault(digest, []).append(name)
    return {
        name: sorted(other for other in by_digest[digest] if other != name)
        for name, digest in after.features.items()
        if name not in before.features and len(by_digest[digest]) > 1
    }
