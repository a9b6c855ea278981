"""What every feature costs and who uses it, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from feature_store.costs.online import SAMPLE, online_bytes
from feature_store.costs.reads import features_of_manifests, features_of_services, readers, service_reads
from feature_store.costs.stored import feature_bytes, source_bytes
from feature_store.time_rule import DAY_US

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

DAYS = 30
"""How many days of served vectors are counted."""
Use = Literal["read", "not read", "not known", "unused"]
"""`not read`: a service or a training set names it, but no vector of these days is on record; `not known`: only services
that record nothing read it; `unused`: nobody names it, and nobody reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCost:
    """One feature."""

    feature: str
    """`view@version:feature`."""
    redis_bytes: int
    lake_bytes: int
    """Of the newest tiles or rows; the events are their source's."""
    reads: int
    """About how many vectors with it were served in these days."""
    last_read_us: int | None
    """When one that is on record was served last."""
    services: Sequence[str]
    """Declared or applied."""
    training_sets: Sequence[str]
    """Manifests that name it."""
    use: Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """All of an environment."""

    days: int
    features: Sequence[FeatureCost]
    undeclared: Mapping[str, int]
    """`view@version` -> bytes in Redis of values whose view is not declared here, or has no layout."""
    sources: Mapping[str, int]
    """Source -> bytes of its events in the lake."""
    hashes: int
    """Of entities in Redis."""
    weighed: int
    """Of these, the sample that Redis was asked to weigh."""

    @property
    def unused(self) -> list[FeatureCost]:
        """Features that nobody names and nobody reads, the largest first."""
        found = [each for each in self.features if each.use == "unused"]
        return sorted(found, key=lambda each: (-each.redis_bytes - each.lake_bytes, each.feature))


def costs(
    compiled: Compiled,
    lake: Lake,
    client: Redis,
    *,
    env: str,
    manifests: Path,
    now_us: int,
    days: int = DAYS,
    sample: int = SAMPLE,
) -> Costs:
    """What every declared feature takes in Redis and in the lake, and who has read it.

    Args:
        compiled: what is declared.
        lake: of the environment.
        client: of its online store.
        env: the environment.
        manifests: the folder of its training sets.
        now_us: the time up to which reads count.
        days: for how long before.
        sample: hashes of each entity that are weighed.
    """
    registry = compiled.registry
    online, stored = online_bytes(client, env, sample=sample), feature_bytes(compiled, lake)
    of_services = features_of_services(registry, lake)
    reads = service_reads(registry, lake, of_services, since_us=now_us - days * DAY_US)
    by_service, by_manifest = readers(of_services), readers(features_of_manifests(manifests))
    features = []
    for name, lake_bytes in stored.items():
        services, sets = by_service.get(name, []), by_manifest.get(name, [])
        mine = [reads[service] for service in services]
        vectors = sum(each.vectors for each in mine)
        blind = bool(mine) and all(each.rate == 0 for each in mine)
        unread: Use = "not known" if blind else "not read" if services or sets else "unused"
        features.append(
            FeatureCost(
                feature=name,
                redis_bytes=round(online.features.get(name, 0.0)),
                lake_bytes=round(lake_bytes),
                reads=round(sum(each.reads for each in mine)),
                last_read_us=max((each.last_us for each in mine if each.last_us is not None), default=None),
                services=services,
                training_sets=sets,
                use="read" if vectors else unread,
            )
        )
    return Costs(
        days=days,
        features=features,
        undeclared=_undeclared(stored, online.features, online.unknown),
        sources=source_bytes(compiled, lake),
        hashes=online.hashes,
        weighed=online.weighed,
    )


def _undeclared(
    declared: Mapping[str, float], features: Mapping[str, float], unknown: Mapping[str, float]
) -> dict[str, int]:
    found = dict(unknown)
    for name, size in features.items():
        if name not in declared:
            view = name.partition(":")[0]
            found[view] = found.get(view, 0.0) + size
    return {view: round(size) for view, size in sorted(found.items())}
