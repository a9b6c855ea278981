"""Where the catalog tells of what an asset holds: a link in the asset's metadata."""

from collections.abc import Iterator, Sequence

import dagster as dg
from feature_store_deploy.assets.keys import (
    events_key,
    history_key,
    online_key,
    served_vectors_key,
    service_key,
    source_key,
    stream_key,
    training_key,
)

from feature_store.registry import Registry

Asset = dg.AssetsDefinition | dg.AssetSpec


def with_links(assets: Sequence[Asset], registry: Registry, *, env: str, catalog_url: str) -> list[Asset]:
    """The assets, each with the address of its page; those that have none stay as they are."""
    pages = dict(_pages(registry, env))

    def linked(spec: dg.AssetSpec) -> dg.AssetSpec:
        page = pages.get(spec.key)
        return spec if page is None else spec.merge_attributes(metadata={"catalog": _url(catalog_url, page)})

    return [linked(each) if isinstance(each, dg.AssetSpec) else each.map_asset_specs(linked) for each in assets]


def _url(catalog_url: str, page: str) -> dg.UrlMetadataValue:
    return dg.MetadataValue.url(f"{catalog_url}#/{page}")


def _pages(registry: Registry, env: str) -> Iterator[tuple[dg.AssetKey, str]]:
    for source in registry.sources.values():
        for key in (source_key(env, source), events_key(env, source), stream_key(env, source)):
            yield key, f"sources/{source.name}"
    for view in registry.views:
        yield history_key(env, view), f"views/{view.id}"
        yield online_key(env, view), f"views/{view.id}"
    for service in registry.services:
        yield service_key(env, service), f"services/{service.id}"
        yield training_key(env, service), f"services/{service.id}"
        yield served_vectors_key(env, service), f"services/{service.id}"
