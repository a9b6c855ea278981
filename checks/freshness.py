"""`freshness`: what readers get knows everything up to a time that is no older than the view's SLA."""

from dataclasses import dataclass
from typing import cast

import dagster as dg
from feature_store_deploy.assets.keys import online_key
from feature_store_deploy.checks.declared import missing, outcome, stated
from feature_store_deploy.checks.policy import as_declared, check_of, spec_of
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.declare import FeatureView
from feature_store.online.keys import generation_key, ready_key
from feature_store.reader.readiness import Progress, Readiness, parse_readiness
from feature_store.store import FeatureStore
from feature_store.time_rule import SECOND_US, format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old the online values of a view are."""

    age_us: int | None
    """Since when something is missing from them, at most; None: nobody vouches for them."""
    silent: tuple[int, ...] = ()
    """Shards without a record."""


def freshness_of(view: FeatureView, readiness: Readiness, *, now_us: int) -> Freshness:
    """The age of a view's values: of the oldest event that some shard may not know, or of the published rows."""
    if view.is_batch:
        record = readiness.of(view.id, None)
        return Freshness(age_us=None if record is None else now_us - record.beat_us)
    records = {shard: readiness.of(view.id, shard) for shard in range(readiness.shards)}
    known = [record.known_us for record in records.values() if record is not None]
    silent = tuple(shard for shard, record in records.items() if record is None)
    return Freshness(age_us=None if silent else now_us - min(known), silent=silent)


def build_freshness_check(view: FeatureView, *, env: str) -> Checks | None:
    """The check of a view that is served; None if the declaration wants none."""
    check = check_of(view, "freshness")
    if check is None:
        return None
    described = f"What readers of '{view.id}' get is at most {format_duration(view.freshness_sla_us)} old"
    spec = spec_of(online_key(env, view), "freshness", check, description=described, owner=view.owner)

    def freshness(step: Step) -> dg.AssetCheckResult:
        return as_declared(_judge(view, step.store), "freshness", check)

    return Checks.of_one(spec, freshness)


def _judge(view: FeatureView, store: FeatureStore) -> dg.AssetCheckResult:
    from redis.exceptions import RedisError  # takes a third of a second

    from feature_store.online.refusal import worded

    now_us = store.clock.now_us()
    try:
        readiness = _readiness(store, now_us)
    except RedisError as error:
        return outcome(
            passed=False, description=worded(error), owner=view.owner, metadata=missing("unreachable_servers")
        )
    found = freshness_of(view, readiness, now_us=now_us)
    metadata: dict[str, object] = {"sla_seconds": view.freshness_sla_us / SECOND_US}
    if found.age_us is None:
        served = view.is_batch or _has_been_live(view, store)
        if not served:
            return outcome(passed=True, description="no stream has run yet", owner=view.owner, metadata=metadata)
        said = f"shards {list(found.silent)} are silent" if found.silent else "no rows were published"
        metadata |= missing("silent_shards", len(found.silent)) if found.silent else missing("unpublished_views")
        return outcome(passed=False, description=said, owner=view.owner, metadata=metadata)
    metadata["age_seconds"] = found.age_us / SECOND_US
    metadata |= stated(
        reference=f"the SLA of '{view.id}'",
        sample_size=1 if view.is_batch else readiness.shards,
        method="seconds since the oldest event that a shard may not know, or since the published row",
        figure=found.age_us / SECOND_US,
        limit=view.freshness_sla_us / SECOND_US,
    )
    return outcome(
        passed=found.age_us <= view.freshness_sla_us,
        description=f"{found.age_us / SECOND_US:,.0f} s old, allowed are {format_duration(view.freshness_sla_us)}",
        owner=view.owner,
        metadata=metadata,
    )


def _readiness(store: FeatureStore, now_us: int) -> Readiness:
    env = store.settings.environment
    generation = cast("bytes | None", store.redis.get(generation_key(env)))
    fields = cast("dict[bytes, bytes]", store.redis.hgetall(ready_key(env)))
    return parse_readiness(generation, fields, progress=Progress(), now_us=now_us, now_s=0.0)


def _has_been_live(view: FeatureView, store: FeatureStore) -> bool:
    """Whether the lake has events that came over the log: then somebody should vouch for the values."""
    source = view.source.name
    return store.lake.has_source(source) and bool(store.lake.positions(source))
