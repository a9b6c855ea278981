"""What is applied to an environment: a document in the lake with a version, changed only by who had read the newest.

Redis holds what readers need of it, and can be written again from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from feature_store.access.actor import whoever
from feature_store.access.book import read_keyring
from feature_store.access.keyring import encode_keyring
from feature_store.catalog.book import catalog_fields, put_catalog, read_revisions
from feature_store.changes import Meanings, compare, parse_meanings
from feature_store.errors import ApplyConflict
from feature_store.online.keys import access_key, applied_key, layouts_key, services_key
from feature_store.online.layout import ServiceLayout, ViewLayout, layout_fields, service_fields
from feature_store.online.rollout import Rollout, rollout_fields
from feature_store.proof.definitions import VERSIONS
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

    from feature_store.lake import Lake

APPLIES = "registry_applies"
"""A row for every version of the registry: who made it, what changed, and the whole of it."""
SHOWN = 4
"""Changes of a version that a conflict names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What is applied: everything that was declared and has not been retired."""

    version: int = 0
    """Of the registry; it grows with every change. 0: nothing was applied yet."""
    meanings: Meanings
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    """Service -> how it is rolled out."""


def read_applied(lake: Lake) -> Applied:
    """What is applied now."""
    if not lake.exists(APPLIES):
        return Applied(meanings=Meanings(features=recorded_features(lake), services={}))
    with lake.reading() as cursor:
        row = cursor.execute(
            f"SELECT version, meanings, rollouts FROM {lake.table_sql(APPLIES)} ORDER BY version DESC LIMIT 1"
        ).fetchone()
    if row is None:
        return Applied(meanings=Meanings(features={}, services={}))
    rollouts = msgspec.json.decode(row[2], type=dict[str, Rollout])
    return Applied(version=row[0], meanings=parse_meanings(row[1]), rollouts=rollouts)


def retired_us(lake: Lake, view_id: str) -> int | None:
    """When a view that is applied no more was retired; None if no version of the registry had it."""
    with lake.reading() as cursor:
        sql = f"SELECT applied_us, meanings FROM {lake.table_sql(APPLIES)} ORDER BY version DESC"
        versions = cursor.execute(sql).fetchall() if lake.exists(APPLIES) else []
    after_us: int | None = None
    for applied_us, meanings in versions:
        if any(view_of(name) == view_id for name in parse_meanings(meanings).features):
            return after_us
        after_us = int(applied_us)
    return None


def recorded_features(lake: Lake) -> dict[str, str]:
    """`view@version:feature` -> fingerprint of everything that was ever applied."""
    if not lake.exists(VERSIONS):
        return {}
    with lake.reading() as cursor:
        rows = cursor.execute(f"SELECT view, feature, fingerprint FROM {lake.table_sql(VERSIONS)}").fetchall()
    return {f"{view}:{feature}": digest for view, feature, digest in rows}


def with_declared(applied: Applied, declared: Meanings) -> Meanings:
    """What is applied once this is declared too: what is declared no more stays until it is retired.

    Of a view that is declared, only the features that it has now.
    """
    views = {view_of(name) for name in declared.features}
    kept = {name: digest for name, digest in applied.meanings.features.items() if view_of(name) not in views}
    return Meanings(
        features={**kept, **declared.features},
        services={**applied.meanings.services, **declared.services},
        reads={**applied.meanings.reads, **declared.reads},
        sources={**applied.meanings.sources, **declared.sources},
    )


def view_of(feature: str) -> str:
    """`view@version` of `view@version:feature`."""
    return feature.partition(":")[0]


def feature_of(feature: str) -> str:
    """The feature's own name of `view@version:feature`."""
    return feature.partition(":")[2]


def record(
    lake: Lake,
    before: Applied,
    after: Applied,
    *,
    at_us: int,
    what: Sequence[str] | None = None,
    sources: Mapping[str, pa.Schema] | None = None,
    definitions: Mapping[str, pa.Table] | None = None,
) -> Applied:
    """Make `after` the next version of the registry, if `before` is still the newest; the same version if they are the same.

    Args:
        lake: of the environment.
        before: as it was read.
        after: as it shall be; its version is given here.
        at_us: when.
        what: lines that say what was done; by default what has become of features and services.
        sources: whose tables are created or widened with it, in one commit.
        definitions: rows of the catalog's book, which are appended with it. They alone make no version: the registry has
            versions of what is meant, and a description means nothing to a reader.

    Raises:
        ApplyConflict: somebody else was first; nothing was written.
    """
    rows, new = dict(definitions or {}), before
    if (after.meanings, after.rollouts) != (before.meanings, before.rollouts):
        new = replace(after, version=before.version + 1)
        changes = [f"{c.kind} {c.what}" for c in compare(before.meanings, after.meanings)] if what is None else what
        rows |= _rows(lake, new, changes, at_us)
    if not rows and not sources:
        return before
    if lake.append_next(rows, book=APPLIES, after=before.version, sources=sources) is None:
        raise conflict(lake, before.version)
    return new


def _rows(lake: Lake, new: Applied, changes: Sequence[str], at_us: int) -> dict[str, pa.Table]:
    known = recorded_features(lake)
    fresh = {name: digest for name, digest in new.meanings.features.items() if name not in known}
    rows = {APPLIES: _apply_row(new, changes, at_us)}
    return rows | ({VERSIONS: _feature_rows(fresh, at_us)} if fresh else {})


def conflict(lake: Lake, expected: int) -> ApplyConflict:
    """The error for who had read a version that is not the newest any more: it says who changed what since."""
    with lake.reading() as cursor:
        rows = cursor.execute(
            f"SELECT version, applied_by, applied_us, changes FROM {lake.table_sql(APPLIES)} "
            "WHERE version > ? ORDER BY version",
            [expected],
        ).fetchall() if lake.exists(APPLIES) else []  # fmt: skip
    others = [
        f"version {version} by {who} at {from_us(at_us):%Y-%m-%d %H:%M:%S} UTC: {_few(json.loads(changes))}"
        for version, who, at_us, changes in rows
    ]
    return ApplyConflict(expected=expected, found=rows[-1][0] if rows else read_applied(lake).version, others=others)


def _few(changes: Sequence[str]) -> str:
    more = len(changes) - SHOWN
    return ", ".join([*changes[:SHOWN], *([f"and {more} more"] if more > 0 else [])])


def publish(
    client: Redis,
    env: str,
    lake: Lake,
    *,
    views: Iterable[ViewLayout] = (),
    services: Iterable[ServiceLayout] = (),
    stream: tuple[int, str] | None = None,
) -> None:
    """Write layouts, services, the newest rollouts, the catalog and the API keys for those who serve an environment, all at once.

    Of two who publish at once each writes what the lake says then, so it does not matter who is last: the layout of a view
    that somebody has given other features since stays theirs.

    Args:
        client: of the online store.
        env: the environment.
        lake: of the environment.
        views: those that are declared and served.
        services: those that are declared.
        stream: a version of the registry and what a stream of it computes, which a running flow is told if it is the newest.
    """
    layouts, published = list(views), service_fields(services)

    def write(pipeline: Pipeline) -> None:
        newest, keyring = read_applied(lake), read_keyring(lake).published()  # while Redis is watched
        catalog = catalog_fields(read_revisions(lake), newest.meanings)
        pipeline.multi()
        pipeline.set(access_key(env), encode_keyring(keyring))
        for layout in layouts:
            put = pipeline.hset if _is_newest(layout, newest) else pipeline.hsetnx
            for name, value in layout_fields([layout]).items():
                put(layouts_key(env), name, value)
        fields = {**published, **rollout_fields(newest.rollouts)}
        if fields:
            pipeline.hset(services_key(env), mapping=fields)  # type: ignore[arg-type]
        put_catalog(pipeline, env, catalog)
        if stream is not None and stream[0] == newest.version:
            pipeline.set(applied_key(env), stream[1])

    client.transaction(write, services_key(env), access_key(env))


def _is_newest(layout: ViewLayout, newest: Applied) -> bool:
    """Whether a view's features are those that were applied last, or none were."""
    applied = {name for name in newest.meanings.features if view_of(name) == layout.id}
    return not applied or applied == {f"{layout.id}:{feature.name}" for feature in layout.features}


def _apply_row(applied: Applied, changes: Sequence[str], at_us: int) -> pa.Table:
    return pa.table(
        {
            "version": pa.array([applied.version], type=pa.int64()),
            "applied_us": pa.array([at_us], type=pa.int64()),
            "applied_by": [whoever()],
            "changes": [json.dumps(list(changes))],
            "meanings": [applied.meanings.to_json()],
            "rollouts": [msgspec.json.encode(applied.rollouts).decode()],
        }
    )


def _feature_rows(fresh: Mapping[str, str], at_us: int) -> pa.Table:
    return pa.table(
        {
            "view": [view_of(name) for name in fresh],
            "feature": [feature_of(name) for name in fresh],
            "fingerprint": list(fresh.values()),
            "applied_us": pa.array([at_us] * len(fresh), type=pa.int64()),
        }
    )
