"""The lake's files: small ones merged, snapshots that nothing pinned forgotten, with the files that only they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.housekeeping.task import Kept, Options, Tidied, counted
from feature_store.time_rule import DAY_US

if TYPE_CHECKING:
    from feature_store.deployment import Deployment


def compact(deployment: Deployment, options: Options) -> Tidied:
    """Merge the small files of every table. Every snapshot reads the same."""
    merged = deployment.lake.upkeep.compact_all(dry_run=options.dry_run)
    return Tidied(
        task="compact",
        figures={"tables": len(merged), "files": sum(merged.values())},
        details={table: f"{counted(files, 'file')} fewer" for table, files in merged.items()},
    )


def forget_snapshots(deployment: Deployment, options: Options) -> Tidied:
    """Forget snapshots older than `days` that nothing pinned, and delete files that nothing has read for a day."""
    older_than_us = deployment.clock.now_us() - options.days * DAY_US
    pins = [Kept(f"snapshot {number}", why) for number, why in deployment.lake.pins().items()]
    try:
        found = deployment.lake.upkeep.expire(
            older_than_us=older_than_us, environments=options.environments, dry_run=options.dry_run
        )
    except InputError as refused:
        nothing = {"snapshots": 0, "files": 0, "bytes": 0}
        return Tidied(task="snapshots", figures=nothing, kept=[Kept("all snapshots", str(refused)), *pins])
    figures = {"snapshots": found.snapshots, "files": found.files, "bytes": found.size_bytes}
    return Tidied(task="snapshots", figures=figures, kept=pins)
