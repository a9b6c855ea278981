"""An entity that has values now, so that the command which is printed shows something."""

from __future__ import annotations

import shlex

from feature_store.declare import FeatureView, KeyedView
from feature_store.declare.requests import requests_of
from feature_store.long_keys import askable_sql
from feature_store.store import FeatureStore


def example_command(store: FeatureStore) -> str:
    """`feature-store get ...` for the newest service, or the first view, with the join keys of a recent event."""
    registry = store.registry
    if registry.services:
        service = registry.services[-1]
        resolved = registry.resolve(service)
        name, reads = service.id if service.version > 1 else service.name, registry.reads(resolved)
        asked = [each.column for each in requests_of(resolved).values() if each.default is None]
    else:
        view = registry.views[0]
        name, reads, asked = f"{view.name}:{view.declared[0].name}", (KeyedView(view),), []
    keys = list(dict.fromkeys([*(column for read in reads for column in read.columns.values()), *asked]))
    values = _recent(store, [read.view for read in reads], keys) if keys else {}
    pairs = " ".join(shlex.quote(f"{key}={values.get(key, '...')}") for key in keys)
    return f"feature-store get {name} {pairs}".rstrip()


def _recent(store: FeatureStore, views: list[FeatureView], keys: list[str]) -> dict[str, object]:
    """Join keys of the newest event of the source that has most of them."""
    known = set(store.lake.sources())
    sources = {view.source.name: set(store.compiled.schemas[view.source.name].names) & set(keys) for view in views}
    for source in sorted(known & set(sources), key=lambda name: -len(sources[name])):
        columns = [key for key in keys if key in sources[source]]
        listed = ", ".join(f'"{column}"' for column in columns)
        present = " AND ".join(
            [
                *(f'"{column}" IS NOT NULL' for column in columns),
                askable_sql(store.compiled.schemas[source], [(column,) for column in columns]),
            ]
        )
        query = (
            f"SELECT {listed} FROM ({store.lake.events_sql(source)}) WHERE {present} ORDER BY _event_us DESC LIMIT 1"
        )
        with store.lake.cursor() as cursor:
            row = cursor.execute(query).fetchone()
        if row is not None:
            return dict(zip(columns, row, strict=True))
    return {}
