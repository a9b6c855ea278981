"""What it takes to ask for the features of a service: columns, and a source whose events have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.declare.requests import requests_of

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.declare.source import EventSource
    from feature_store.lake import Lake
    from feature_store.registry import Registry
    from feature_store.transforms.compiled import Compiled


def asked_columns(registry: Registry, service: FeatureService, *, optional: bool = False) -> list[str]:
    """Join keys and what on-demand features take from a request; `optional`: what has a default, too."""
    resolved = registry.resolve(service)
    columns = {column for read in registry.reads(resolved) for column in read.columns.values()}
    requests = requests_of(resolved).values()
    return sorted(columns | {each.column for each in requests if optional or each.default is None})


def asking_source(compiled: Compiled, lake: Lake, service: FeatureService) -> EventSource | None:
    """A source in the lake whose events have all `asked_columns`; None: there is none."""
    columns = {*asked_columns(compiled.registry, service)}
    for name, source in compiled.registry.sources.items():
        if columns <= {*compiled.schemas[name].names} and lake.has_source(name):
            return source
    return None
