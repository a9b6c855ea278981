"""A feature service: the named, version-pinned, ordered list of features that one model consumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from feature_store.declare.check import Checks
from feature_store.declare.computed import Computed, OnDemand
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.keyed import KeyedView
from feature_store.declare.outputs import refuse_other
from feature_store.declare.view import FeatureView
from feature_store.errors import InputError

Policy = Literal["serve", "default", "fail"]
Item = FeatureView | KeyedView | FeatureRef | Ratio | OnDemand | Computed | str
Default = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class FeatureService:
    """What one model reads, in the order in which it reads it."""

    name: str
    features: Sequence[Item] = field(kw_only=True)
    version: int = field(default=1, kw_only=True)
    owner: str | None = field(default=None, kw_only=True)
    description: str = field(default="", kw_only=True)
    defaults: Mapping[str, Default] = field(default_factory=dict, kw_only=True)
    """Served for a value that is UNKNOWN, or STALE/AHEAD under the policy 'default'; by `view:feature` or the name of what is computed."""
    on_stale: Policy = field(default="serve", kw_only=True)
    on_ahead: Policy = field(default="serve", kw_only=True)
    log_rate: float = field(default=0.01, kw_only=True)
    """Share of the entities whose vectors readers log as they serve them, chosen by a hash of their keys; 0: none, 1: all."""
    checks: Checks = field(default_factory=dict, kw_only=True, hash=False)
    """As of a source, by `view:feature` or the name of what is computed."""

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def _repr_html_(self) -> str:
        from feature_store.declare.shown import service_html

        return service_html(self)


def served_names(resolved: Sequence[FeatureRef | Ratio | Computed]) -> list[str]:
    """Under which names resolved features stand in a vector: the version of a view is named where another has the name already."""
    names: list[str] = []
    for item in resolved:
        names.append(str(item) if isinstance(item, FeatureRef) and item.name in names else item.name)
    return names


def defaults_of(service: FeatureService, resolved: Sequence[FeatureRef | Ratio | Computed]) -> list[Default]:
    """The defaults of a service's resolved features, in order: by the served name, else by the one that names the view's version."""
    named = zip(served_names(resolved), resolved, strict=True)
    return [service.defaults.get(name, service.defaults.get(str(item))) for name, item in named]


def ratio(
    name: str,
    numerator: FeatureRef | str,
    denominator: FeatureRef | str,
    *,
    empty: float | None = None,
    description: str = "",
) -> Ratio:
    """A feature divided by another, computed at read time in training and in serving; `empty` if there is no quotient."""
    for side in (numerator, denominator):
        if not isinstance(side, FeatureRef | str):
            raise InputError(f"`ratio` takes features such as view['count_1h'], got {side!r}")
    refuse_other(empty, "float", f"ratio '{name}': `empty`")
    parts = [FeatureRef.parse(side) if isinstance(side, str) else side for side in (numerator, denominator)]
    return Ratio(name=name, numerator=parts[0], denominator=parts[1], empty=empty, description=description)
