"""Who reads a feature: services by the sample of served vectors, training sets by their manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.changing.applied import read_applied
from feature_store.declare.feature import AS
from feature_store.errors import InputError
from feature_store.history.manifest import Manifest
from feature_store.proof.served_log import SERVED, SERVICE
from feature_store.proof.served_table import SERVED_TABLE

if TYPE_CHECKING:
    from feature_store.lake import Lake
    from feature_store.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReads:
    """How a service was read."""

    vectors: int
    """On record, of the time that is asked for."""
    rate: float
    """The share of its entities whose vectors are recorded; 0: nobody can say whether it is read."""
    last_us: int | None
    """When a vector on record was served last, whenever that was."""

    @property
    def reads(self) -> float:
        """About how many vectors were served."""
        return self.vectors / self.rate if self.rate else 0.0


def features_of_services(registry: Registry, lake: Lake) -> dict[str, set[str]]:
    """`service@version`, declared or applied -> the `view@version:feature` that it reads."""
    found = {name: set(features) for name, features in read_applied(lake).meanings.reads.items()}
    for service in registry.services:
        refs = (ref for item in registry.resolve(service) for ref in item.refs)
        found[service.id] = {_plain(ref.meaning) for ref in refs}
    return found


def service_reads(registry: Registry, lake: Lake, services: Iterable[str], *, since_us: int) -> dict[str, ServiceReads]:
    """How each service was read since a time, by the sample of served vectors that the lake has."""
    rates = {service.id: float(service.log_rate) for service in registry.services}
    rows: list[tuple[str, int, int]] = []
    if lake.exists(SERVED_TABLE):
        with lake.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {SERVICE}, count(*) FILTER ({SERVED} >= ?), max({SERVED}) FROM {lake.table_sql(SERVED_TABLE)} "
                "GROUP BY ALL",
                [since_us],
            ).fetchall()
    newest = {service.name: registry.service(service.name).id for service in registry.services}
    counts: dict[str, int] = defaultdict(int)
    last: dict[str, int] = {}
    for name, count, at_us in rows:
        service = newest.get(name, name)  # a bare name is the newest version
        counts[service] += count
        last[service] = max(at_us, last.get(service, at_us))
    return {
        name: ServiceReads(vectors=counts[name], rate=rates.get(name, 1.0), last_us=last.get(name)) for name in services
    }


def features_of_manifests(folder: Path) -> dict[str, set[str]]:
    """Manifest in a folder -> the `view@version:feature` that its training set was made of."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.json")):
        with suppress(InputError, OSError, UnicodeDecodeError):
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
            found[str(path.relative_to(folder))] = {_plain(name) for name in manifest.fingerprints}
    return found


def readers(of: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Feature -> who reads it."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(of):
        for feature in of[name]:
            found[feature].append(name)
    return found


def _plain(meaning: str) -> str:
    """A feature without the role in which it is read."""
    return meaning.partition(AS)[0]
