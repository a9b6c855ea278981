"""Whom an asset concerns: its owner, and the views that stand or fall with it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import dagster as dg
from feature_store_deploy.assets.keys import (
    events_key,
    history_key,
    online_key,
    served_vectors_key,
    stream_key,
    training_key,
)

from feature_store.registry import Registry

NOBODY = "nobody"
SHOWN = 5


class Concern(NamedTuple):
    """Of one asset."""

    owner: str
    groups: tuple[str, ...]
    """Views, which are the feature groups."""


def concerns(registry: Registry, env: str) -> Mapping[dg.AssetKey, Concern]:
    """Of every asset of a source, a view or a service."""
    found: dict[dg.AssetKey, Concern] = {}
    for source in registry.sources.values():
        views = tuple(view.name for view in registry.views_of(source.name))
        for key in (events_key(env, source), stream_key(env, source)):
            found[key] = Concern(source.owner or NOBODY, views)
    for view in registry.views:
        for key in (history_key(env, view), online_key(env, view)):
            found[key] = Concern(view.owner or NOBODY, (view.name,))
    for service in registry.services:
        views = tuple(dict.fromkeys(read.view.name for read in registry.reads(registry.resolve(service))))
        for key in (training_key(env, service), served_vectors_key(env, service)):
            found[key] = Concern(service.owner or NOBODY, views)
    return found


def together(some: Iterable[Concern]) -> tuple[str, str]:
    """Owner and feature groups of several assets, as a message names them."""
    found = list(some)
    owners = dict.fromkeys(each.owner for each in found if each.owner != NOBODY)
    groups = list(dict.fromkeys(group for each in found for group in each.groups))
    more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return ", ".join(owners) or NOBODY, ", ".join(groups[:SHOWN]) + more
