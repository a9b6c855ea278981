"""Digests of everything declared that the values of a training set depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.declare.computed import Computed
from feature_store.declare.feature import Ratio
from feature_store.declare.service import FeatureService
from feature_store.registry import fingerprint, view_fingerprint

if TYPE_CHECKING:
    from feature_store.declare.feature import FeatureRef
    from feature_store.declare.label import Label
    from feature_store.registry import Resolved
    from feature_store.transforms.compiled import Compiled


def definitions(
    compiled: Compiled,
    service: FeatureService | Sequence[object],
    resolved: Sequence[Resolved],
    labels: Sequence[Label],
) -> dict[str, str]:
    """What a training set was declared as: name -> digest, of features, ratios, on-demand features, labels and the service's policies."""
    found = {ref.meaning: _stored(compiled, ref) for item in resolved for ref in item.refs}
    found |= {f"ratio {item.name}": _ratio(item) for item in resolved if isinstance(item, Ratio)}
    found |= {f"on-demand {item.name}": item.of.meaning for item in resolved if isinstance(item, Computed)}
    found |= {f"label {label.name}": view_fingerprint(compiled.label_plan(label).view) for label in labels}
    if isinstance(service, FeatureService):
        found[f"service {service.id}"] = _digest([dict(service.defaults), service.on_stale, service.on_ahead])
    return dict(sorted(found.items()))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of which the two are not the same."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _stored(compiled: Compiled, ref: FeatureRef) -> str:
    view = compiled.registry.view(ref.view_id)
    return fingerprint(view, next(feature for feature in view.declared if feature.name == ref.feature))


def _ratio(item: Ratio) -> str:
    return _digest([item.numerator.meaning, item.denominator.meaning, item.empty])


def _digest(meaning: object) -> str:
    text = json.dumps(meaning, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
