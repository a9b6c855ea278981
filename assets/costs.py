"""The asset of what features cost: bytes in Redis and in the lake, reads, and the features that nobody uses."""

import dagster as dg
from feature_store_deploy.assets.declared import owners
from feature_store_deploy.assets.housekeeping import GROUP
from feature_store_deploy.assets.keys import costs_key, op_name
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.assets.schedules import build_schedule

from feature_store.costs.report import DAYS, Costs, FeatureCost
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us

CRON = "30 4 * * *"
SHOWN = 50
"""Features that a page lists; the figures are of all."""


class Counting(dg.Config):
    """What is counted."""

    days: int = DAYS
    """Reads of so many days."""


def build_costs_asset(*, env: str, owner: str | None) -> dg.AssetsDefinition:
    """The asset of an environment's features."""

    @dg.asset(
        key=costs_key(env),
        group_name=GROUP,
        owners=owners(owner),
        kinds={"ducklake", "redis"},
        description="What each feature takes in Redis and in the lake, how often it is read, and which nobody uses",
    )
    def costs(config: Counting, feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=told(feature_store.costs(days=config.days)))

    return costs


def build_costs_schedule(*, env: str) -> dg.ScheduleDefinition:
    """Once a day, behind housekeeping."""
    key = costs_key(env)
    return build_schedule(
        op_name(key), dg.AssetSelection.assets(key), cron=CRON, description="Says what features cost, and who uses them"
    )


def told(found: Costs) -> dict[str, dg.MetadataValue | int]:
    """Costs, as metadata."""
    largest = sorted(found.features, key=lambda each: -each.redis_bytes - each.lake_bytes)[:SHOWN]
    sources = [[name, f"{size:,}"] for name, size in found.sources.items()]
    return {
        "features": len(found.features),
        "redis_bytes": sum(each.redis_bytes for each in found.features) + sum(found.undeclared.values()),
        "redis_bytes_undeclared": sum(found.undeclared.values()),
        "lake_bytes": sum(each.lake_bytes for each in found.features),
        "event_bytes": sum(found.sources.values()),
        "reads": sum(each.reads for each in found.features),
        "not_read": sum(each.use == "not read" for each in found.features),
        "unused": len(found.unused),
        "unused_features": dg.MetadataValue.md(_features(found.unused[:SHOWN]) if found.unused else "none"),
        "largest_features": dg.MetadataValue.md(_features(largest)),
        "sources": dg.MetadataValue.md(table(["source", "bytes of events"], sources)),
        "hashes": found.hashes,
        "hashes_weighed": found.weighed,
    }


def _features(chosen: list[FeatureCost]) -> str:
    columns = ["feature", "Redis bytes", "lake bytes", "reads", "last read", "use", "in"]
    return table(columns, [_row(each) for each in chosen])


def _row(each: FeatureCost) -> list[str]:
    last = "" if each.last_read_us is None else f"{from_us(each.last_read_us):%Y-%m-%d %H:%M}"
    used = ", ".join([*each.services, *each.training_sets])
    return [
        f"`{each.feature}`", f"{each.redis_bytes:,}", f"{each.lake_bytes:,}", f"{each.reads:,}", last, each.use, used
    ]  # fmt: skip
