"""The asset that keeps the lake small: files merged, snapshots that nobody needs forgotten."""

import dagster as dg
from feature_store_deploy.assets.declared import owners
from feature_store_deploy.assets.housekeeping import GROUP
from feature_store_deploy.assets.keys import maintenance_key, op_name
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.assets.schedules import build_schedule
from pydantic import Field

from feature_store.errors import InputError
from feature_store.housekeeping.task import SNAPSHOT_DAYS
from feature_store.lake.upkeep import Expiry
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US

CRON = "40 3 * * *"


class Maintenance(dg.Config):
    """What may be forgotten."""

    days: int = SNAPSHOT_DAYS
    """Every snapshot of so many days stays."""
    environments: list[str] = Field(default_factory=list)
    """Other environments of this lake, whose old snapshots go too."""
    dry_run: bool = False
    """Only say what would be merged and forgotten."""


def build_maintenance_asset(*, env: str, owner: str | None) -> dg.AssetsDefinition:
    """The asset of an environment's lake."""

    @dg.asset(
        key=maintenance_key(env),
        group_name=GROUP,
        owners=owners(owner),
        kinds={"ducklake"},
        description="Merges small files, and forgets old snapshots that nothing pinned",
    )
    def maintenance(
        context: dg.AssetExecutionContext, config: Maintenance, feature_store: dg.ResourceParam[FeatureStore]
    ) -> dg.MaterializeResult:
        lake, dry_run = feature_store.lake, config.dry_run
        before = lake.extent()
        merged = lake.upkeep.compact_all(dry_run=dry_run)
        forgotten, refused = _expire(feature_store, config)
        if refused:
            context.log.warning(refused)
        after = lake.extent()
        pins = lake.pins()
        reasons = [[str(snapshot), why] for snapshot, why in pins.items()]
        return dg.MaterializeResult(
            metadata={
                "dry_run": dry_run,
                "files_before": before.files,
                "files_after": before.files - sum(merged.values()) if dry_run else after.files,
                "bytes_before": before.size_bytes,
                "bytes_after": after.size_bytes,
                "merged_away": dg.MetadataValue.json(merged),
                "snapshots_forgotten": forgotten.snapshots,
                "files_deleted": forgotten.files,
                "bytes_deleted": forgotten.size_bytes,
                "snapshots_kept": after.snapshots - (forgotten.snapshots if dry_run else 0),
                "kept_because": refused or f"{len(pins)} pinned; the newest; those of the last {config.days} days",
                "pinned": dg.MetadataValue.md(table(["snapshot", "for"], reasons) if reasons else "none"),
            }
        )

    return maintenance


def build_maintenance_schedule(*, env: str) -> dg.ScheduleDefinition:
    """Once a day, when little else runs."""
    key = maintenance_key(env)
    selection = dg.AssetSelection.assets(key)
    return build_schedule(op_name(key), selection, cron=CRON, description="Keeps the lake small")


def _expire(store: FeatureStore, config: Maintenance) -> tuple[Expiry, str]:
    """What was forgotten, and why nothing may be, if another environment was not named."""
    older_than_us = store.clock.now_us() - config.days * DAY_US
    try:
        found = store.lake.upkeep.expire(
            older_than_us=older_than_us, environments=config.environments, dry_run=config.dry_run
        )
    except InputError as refused:
        return Expiry(snapshots=0, files=0, size_bytes=0), str(refused)
    return found, ""
