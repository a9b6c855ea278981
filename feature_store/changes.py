"""What a change of declarations would change: two registries compared by what their features mean, without any store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from feature_store.declare.feature import AS, Ratio
from feature_store.errors import InputError
from feature_store.evolution import ColumnChange, Reader, SourceSchema, compare_sources, source_schema
from feature_store.registry import Registry, fingerprint

FORMAT = 1
FOLDER = Path("environments")
"""Where a project keeps what each of its environments serves."""
Kind = Literal["created", "changed", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanings:
    """What a registry says, as it is exported: enough to compare with, nothing secret."""

    features: Mapping[str, str]
    """`view@version:feature` -> fingerprint."""
    services: Mapping[str, Sequence[str]]
    """`service@version` -> its features in order; a ratio as its name and a digest of its parts."""
    reads: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """`service@version` -> the `view@version:feature` that it reads, those of its ratios too."""
    sources: Mapping[str, SourceSchema] = field(default_factory=dict)
    """Source -> what its events rest on; empty in what was exported before sources were compared."""

    @property
    def readers(self) -> dict[str, list[str]]:
        """`view@version:feature` -> the services that read it."""
        readers: dict[str, list[str]] = {}
        for service, names in self.services.items():
            for name in self.reads.get(service, [name.partition(AS)[0] for name in names]):
                readers.setdefault(name, []).append(service)
        return readers

    def to_json(self) -> str:
        """As JSON with sorted keys, for a file under version control."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two registries."""

    kind: Kind
    what: str
    """`feature view@1:count_1h` or `service fraud@1`."""
    breaking: bool
    """Whether something that is in use would mean something else, or be gone."""
    reason: str = ""

    @property
    def feature(self) -> str:
        """`view@version:feature`; empty if it is a service that changes."""
        kind, _, name = self.what.partition(" ")
        return name if kind == "feature" else ""

    @property
    def service(self) -> str:
        """`service@version`; empty if it is a feature that changes."""
        kind, _, name = self.what.partition(" ")
        return name if kind == "service" else ""


def meanings(registry: Registry) -> Meanings:
    """What a registry's features and services mean."""
    features = {
        f"{view.id}:{feature.name}": fingerprint(view, feature) for view in registry.views for feature in view.declared
    }
    services = {
        service.id: [_named(item) if isinstance(item, Ratio) else item.meaning for item in registry.resolve(service)]
        for service in registry.services
    }
    reads = {
        service.id: sorted({ref.meaning.partition(AS)[0] for item in registry.resolve(service) for ref in item.refs})
        for service in registry.services
    }
    sources = {name: source_schema(source) for name, source in registry.sources.items()}
    return Meanings(features=features, services=services, reads=reads, sources=sources)


def parse_meanings(text: str) -> Meanings:
    """What `Meanings.to_json` gave.

    Raises:
        InputError: it has another format.
        ValueError, KeyError, TypeError: it is no such text.
    """
    found = json.loads(text)
    if found["format"] != FORMAT:
        raise InputError(f"has format {found['format']!r}, this version reads {FORMAT}; export it again")
    return Meanings(
        features=dict(found["features"]),
        services=dict(found["services"]),
        reads=dict(found.get("reads", {})),
        sources=msgspec.convert(found.get("sources", {}), dict[str, SourceSchema]),
    )


def exported_file(environment: str) -> Path:
    """Where a project keeps what an environment serves."""
    return FOLDER / f"{environment}.json"


def exported_environments() -> list[str]:
    """The environments that have such a file in the working folder."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_meanings(path: Path) -> Meanings:
    """Read what `Meanings.to_json` wrote.

    Raises:
        InputError: the file is not there or says something else; names it.
    """
    try:
        return parse_meanings(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"'{path}' {error}") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is no exported registry; `feature-store export` writes one") from error


def compare(before: Meanings, after: Meanings, *, readers: Sequence[Reader] = ()) -> list[Change]:
    """What becomes of each feature, service and source, breaking changes first.

    `readers` are the views and labels that are declared: what they compute with a column may forbid to widen it.
    """
    changes = [*_features(before, after), *_services(before, after), *_sources(before, after, readers)]
    return sorted(changes, key=lambda change: (not change.breaking, change.kind, change.what))


def _features(before: Meanings, after: Meanings) -> Iterator[Change]:
    used = before.readers
    for name, meaning in before.features.items():
        what = f"feature {name}"
        if name not in after.features:
            reason = f"service {', '.join(used[name])} reads it" if name in used else ""
            yield Change(kind="retired", what=what, breaking=name in used, reason=reason)
        elif after.features[name] != meaning:
            reason = "its meaning differs under the same version; give the view a new `version`"
            yield Change(kind="changed", what=what, breaking=True, reason=reason)
    for name in after.features:
        if name not in before.features:
            yield Change(kind="created", what=f"feature {name}", breaking=False)


def _services(before: Meanings, after: Meanings) -> Iterator[Change]:
    for name, features in before.services.items():
        what = f"service {name}"
        if name not in after.services:
            yield Change(kind="retired", what=what, breaking=True, reason="models that name it find nothing")
        elif list(after.services[name]) != list(features):
            yield Change(kind="changed", what=what, breaking=True, reason=_other(features, after.services[name]))
    for name in after.services:
        if name not in before.services:
            yield Change(kind="created", what=f"service {name}", breaking=False)


def _other(before: Sequence[str], after: Sequence[str]) -> str:
    """Why a service is another one under the same version."""
    named = [
        {name: digest for name, _, digest in (each.partition("=") for each in side) if digest}
        for side in (before, after)
    ]
    redefined = [name for name, digest in named[0].items() if named[1].get(name, digest) != digest]
    told = f"{', '.join(redefined)} would mean something else" if redefined else "other features, or in another order,"
    return f"{told} under the same version; give it a new `version`"


def source_changes(before: Meanings, after: Meanings, readers: Sequence[Reader]) -> Iterator[tuple[str, ColumnChange]]:
    """(source, what becomes of a column of it), of the sources that are on both sides, without what stays."""
    for name, new in after.sources.items():
        if name in before.sources:
            own = [reader for reader in readers if reader.source.name == name]
            for change in compare_sources(before.sources[name], new, own):
                if change.kind != "unchanged":
                    yield name, change


def _sources(before: Meanings, after: Meanings, readers: Sequence[Reader]) -> Iterator[Change]:
    for name, change in source_changes(before, after, readers):
        what = f"source {name}"
        yield Change(kind="changed", what=what, breaking=change.kind == "incompatible", reason=str(change))


def _named(ratio: Ratio) -> str:
    parts = json.dumps([ratio.numerator.meaning, ratio.denominator.meaning, ratio.empty])
    return f"{ratio.name}={hashlib.blake2b(parts.encode(), digest_size=4).hexdigest()}"
