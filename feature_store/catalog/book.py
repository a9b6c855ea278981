"""The catalog kept in the lake: a row whenever something is declared otherwise; and its copy in Redis, for the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pyarrow as pa

from feature_store.access.actor import whoever
from feature_store.catalog.described import entries
from feature_store.catalog.document import (
    DECLARED,
    KINDS,
    Catalog,
    EntityEntry,
    Revision,
    ServiceEntry,
    SourceEntry,
    ViewEntry,
    history_field,
    kind_of,
    pack,
)
from feature_store.online.keys import catalog_key

if TYPE_CHECKING:
    from redis.client import Pipeline

    from feature_store.changes import Meanings
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled

BOOK = "registry_definitions"
"""Table: how each view, service, source and entity was declared, from when on, and by whom that was applied."""
Of = TypeVar("Of", ViewEntry, ServiceEntry, SourceEntry, EntityEntry)
Revisions = dict[tuple[str, str], list[Revision]]
"""(kind, `name@version`) -> how it was declared, oldest first."""


def read_revisions(lake: Lake) -> Revisions:
    """Everything that is on record."""
    found: Revisions = {}
    if not lake.exists(BOOK):
        return found
    with lake.reading() as cursor:
        rows = cursor.execute(
            f"SELECT kind, id, applied_us, applied_by, definition FROM {lake.table_sql(BOOK)} ORDER BY applied_us, number"
        ).fetchall()
    for kind, name, at_us, who, definition in rows:
        revision = Revision(id=name, applied_us=at_us, applied_by=who, definition=msgspec.Raw(definition.encode()))
        found.setdefault((kind, name), []).append(revision)
    return found


def new_rows(compiled: Compiled, lake: Lake, *, at_us: int) -> Mapping[str, pa.Table]:
    """The rows that what is declared adds to the book: none for what is on record as it is."""
    known = {name: bytes(revisions[-1].definition) for name, revisions in read_revisions(lake).items()}
    declared = [((kind_of(each), each.id), msgspec.json.encode(each)) for each in entries(compiled)]
    fresh = [(name, text) for name, text in declared if known.get(name) != text]
    if not fresh:
        return {}
    count = len(fresh)
    rows = {
        "kind": [kind for (kind, _), _ in fresh],
        "id": [name for (_, name), _ in fresh],
        "number": pa.array(range(count), type=pa.int64()),
        "applied_us": pa.array([at_us] * count, type=pa.int64()),
        "applied_by": [whoever()] * count,
        "definition": [text.decode() for _, text in fresh],
    }
    return {BOOK: pa.table(rows)}


def put_catalog(pipeline: Pipeline, env: str, fields: Mapping[str, bytes]) -> None:
    """Write the catalog in the place of the one that is there."""
    pipeline.delete(catalog_key(env))
    pipeline.hset(catalog_key(env), mapping=fields)  # type: ignore[arg-type]


def catalog_fields(revisions: Revisions, meanings: Meanings) -> dict[str, bytes]:
    """The fields of `catalog:<env>`: what is applied, and the history of each, retired versions too."""
    catalog = _applied(revisions, meanings)
    by_name: dict[tuple[str, str], list[Revision]] = {}
    for (kind, name), found in revisions.items():
        by_name.setdefault((kind, name.partition("@")[0]), []).extend(found)
    listed = (("view", catalog.views), ("service", catalog.services), ("source", catalog.sources))
    present = {(kind, entry.name) for kind, group in listed for entry in group}
    histories = {
        history_field(kind, name): pack(sorted(found, key=lambda each: each.applied_us))
        for (kind, name), found in by_name.items()
        if (kind, name) in present
    }
    return {DECLARED: pack(catalog), **histories}


def _applied(revisions: Revisions, meanings: Meanings) -> Catalog:
    """The newest definition of each view and service that is applied, with their sources and entities."""
    applied = {name.partition(":")[0] for name in meanings.features}
    views = [each for each in _newest(revisions, ViewEntry) if each.id in applied]
    entities = {each.entity for each in views}
    return Catalog(
        views=views,
        services=[each for each in _newest(revisions, ServiceEntry) if each.id in meanings.services],
        sources=[each for each in _newest(revisions, SourceEntry) if each.name in meanings.sources],
        entities=[each for each in _newest(revisions, EntityEntry) if each.name in entities],
    )


def _newest(revisions: Revisions, kind: type[Of]) -> list[Of]:
    """The newest definitions of a kind, by name and version."""
    found = [
        msgspec.json.decode(each[-1].definition, type=kind)
        for (name, _), each in revisions.items()
        if KINDS[name] is kind
    ]
    return sorted(found, key=lambda each: (each.name, getattr(each, "version", 0)))
