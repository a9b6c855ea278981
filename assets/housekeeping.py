"""The assets that keep a deployment small: each runs one task of housekeeping, or says what it would do."""

from collections.abc import Sequence

import dagster as dg
from feature_store_deploy.assets.declared import owners
from feature_store_deploy.assets.keys import housekeeping_key
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.assets.schedules import build_schedule

from feature_store.housekeeping.task import Options, Task, Tidied
from feature_store.housekeeping.tasks import TASKS
from feature_store.store import FeatureStore

CRON = "20 3 * * *"
"""Before `lake/maintenance`, which takes the files that these leave."""
GROUP = "housekeeping"
KINDS = {"retired": {"ducklake", "redis"}, "events": {"ducklake"}, "keys": {"redis"}, "logs": {"redis"}}


class Housekeeping(dg.Config):
    """What may go."""

    dry_run: bool = False
    """Only say what would go."""
    retire: bool = False
    """Views and services that are declared no more go too, where nothing uses them."""


def build_housekeeping_assets(*, env: str, owner: str | None) -> list[dg.AssetsDefinition]:
    """An asset for each task but those of `lake/maintenance`."""
    return [_build(task, env=env, owner=owner) for task in TASKS.values() if task.name in KINDS]


def _build(task: Task, *, env: str, owner: str | None) -> dg.AssetsDefinition:
    @dg.asset(
        key=housekeeping_key(env, task.name),
        group_name=GROUP,
        owners=owners(owner),
        kinds=KINDS[task.name],
        description=f"Removes {task.about}; with `dry_run` it only says what would go",
    )
    def housekeeping(config: Housekeeping, feature_store: dg.ResourceParam[FeatureStore]) -> dg.MaterializeResult:
        options = Options(dry_run=config.dry_run, retire=config.retire)
        return dg.MaterializeResult(metadata=told(task.run(feature_store, options), options))

    return housekeeping


def build_housekeeping_schedule(*, env: str) -> dg.ScheduleDefinition:
    """Once a day, when little else runs."""
    chosen = dg.AssetSelection.assets(*(housekeeping_key(env, name) for name in TASKS if name in KINDS))
    return build_schedule(f"{env}__housekeeping", chosen, cron=CRON, description="Removes what nothing needs any more")


def told(done: Tidied, options: Options) -> dict[str, dg.MetadataValue | int | bool]:
    """What a task did, as metadata."""
    figures = {name.replace(" ", "_"): count for name, count in done.figures.items()}
    return {
        "dry_run": options.dry_run,
        **figures,
        "examined": done.examined,
        "removed": _listed(["what", "how much"], list(done.details.items())),
        "kept": _listed(["what", "why"], done.kept),
    }


def _listed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> dg.MetadataValue:
    return dg.MetadataValue.md(table(columns, rows) if rows else "none")
