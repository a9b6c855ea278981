"""`health` of the lake: nothing has piled up that an operator must act on."""

import shutil

import dagster as dg
from feature_store_deploy.assets.keys import maintenance_key
from feature_store_deploy.checks.declared import HEALTH, Figure, Measurement, judged, spec_metadata
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.history.outdated import outdated
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US, SECOND_US

FILES = 20_000
"""Data files: from some ten thousand on every read is slowed by looking for them. `feature-store lake compact` merges them."""
SNAPSHOTS = 1_000_000
"""A commit every three seconds for a month. `feature-store lake expire` forgets them."""
PENDING = 31
"""Days that wait to be built again, of all views; a sensor asks for so many at a time."""
DISK = 0.9
"""Used share of the disk that the home is on."""
UNKEPT_DAYS = 3.0
"""Days since the lake was last maintained, which is daily work."""
METHOD = "what the lake's books, the disk and Dagster's say now"


def build_health_check(*, env: str, owner: str | None) -> Checks:
    """The check of an environment's lake, which is of whoever runs the deployment."""
    key, described = maintenance_key(env), "Files, snapshots, days that wait, the disk: nothing has piled up"
    spec = dg.AssetCheckSpec(HEALTH, asset=key, description=described, metadata=spec_metadata(owner))

    def health(step: Step) -> dg.AssetCheckResult:
        found = measure_health(step.store, unkept_days=_unkept_days(step.instance, key, step.store))
        return judged(found, key=spec.key, owner=owner, severity=dg.AssetCheckSeverity.ERROR)

    return Checks.of_one(spec, health)


def measure_health(store: FeatureStore, *, unkept_days: float | None) -> Measurement:
    """Each figure with what to do about it; `unkept_days` is the time since the lake was maintained, None: never."""
    extent, now_us = store.lake.extent(), store.clock.now_us()
    disk = shutil.disk_usage(store.settings.home)
    pending = {view: len(days) for view, days in outdated(store.lake, store.registry.views, now_us=now_us).items()}
    waiting = ", ".join(f"{name} {count}" for name, count in pending.items() if count)
    figures = [
        Figure(name="files", value=extent.files, limit=FILES, said="`feature-store lake compact`"),
        Figure(name="snapshots", value=extent.snapshots, limit=SNAPSHOTS, said="`feature-store lake expire`"),
        Figure(
            name="pending_days", value=sum(pending.values()), limit=PENDING, said=waiting or "`feature-store backfill`"
        ),
        Figure(name="disk_used", value=disk.used / disk.total, limit=DISK, said=f"{disk.free / 2**30:,.1f} GiB free"),
    ]
    if unkept_days is not None:
        figures.append(
            Figure(name="unkept_days", value=unkept_days, limit=UNKEPT_DAYS, said="materialize `lake/maintenance`")
        )
    return Measurement(
        figures=figures,
        reference="fixed limits",
        sample_size=extent.files,
        method=METHOD,
        metadata={"size_bytes": extent.size_bytes},
    )


def _unkept_days(instance: dg.DagsterInstance, key: dg.AssetKey, store: FeatureStore) -> float | None:
    records = instance.fetch_materializations(key, limit=1).records
    return (store.clock.now_us() / SECOND_US - records[0].timestamp) * SECOND_US / DAY_US if records else None
