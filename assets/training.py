"""`training/<service>`: a point-in-time correct training set as a Parquet file with its manifest."""

import time
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pyarrow.parquet as pq
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import history_key, training_key
from feature_store_deploy.assets.lineage import training_lineage
from feature_store_deploy.assets.markdown import table
from pydantic import Field

from feature_store.declare import EventSource, FeatureService
from feature_store.errors import InputError
from feature_store.history.asked import asked_columns, asking_source
from feature_store.history.manifest import Knowledge
from feature_store.history.training import TrainingSet
from feature_store.long_keys import askable_sql
from feature_store.masked import masked
from feature_store.registry import Registry
from feature_store.store import FeatureStore
from feature_store.transforms.compiled import Compiled
from feature_store.transforms.project import TIME

POOL = "training"
"""Of runs that make training sets, which take memory."""
DEFAULT_ROWS = 10_000
PREVIEW_ROWS, PREVIEW_COLUMNS = 5, 12


class TrainingConfig(dg.Config):
    """What a training set is made for."""

    spine: str | None = Field(
        default=None,
        description="Join keys and times: a Parquet file, or SQL over the lake; by default the newest events of a "
        "source that has all join keys and what on-demand features take, each asked for just before it happened",
    )
    time_column: str = Field(default="event_timestamp", description="The spine's column of times")
    knowledge: str = Field(
        default="served", description="'served': what a value could know at the time; 'corrected': all events"
    )
    allow_incomplete: bool = Field(default=False, description="Answer rows beyond what the lake has")


def build_training_asset(
    service: FeatureService, registry: Registry, compiled: Compiled, *, env: str
) -> dg.AssetsDefinition:
    """The asset that writes a service's training set."""
    views = {read.view.id: read.view for read in registry.reads(registry.resolve(service))}

    @dg.asset(
        key=training_key(env, service),
        deps=[history_key(env, view) for _, view in sorted(views.items())],
        description=declared.service_description(service, registry),
        group_name="services",
        owners=declared.owners(service.owner),
        kinds={"parquet", "duckdb"},
        code_version=declared.service_version(service, registry),
        pool=POOL,
        metadata=training_lineage(service, registry, compiled, env=env),
    )
    def training(
        context: dg.AssetExecutionContext, config: TrainingConfig, feature_store: dg.ResourceParam[FeatureStore]
    ) -> dg.MaterializeResult:
        begun = time.perf_counter()
        found = feature_store.get_historical_features(
            _spine(config, feature_store, service),
            service,
            knowledge=_knowledge(config.knowledge),
            time_column=config.time_column,
            allow_incomplete=config.allow_incomplete,
        )
        feature_store.pin(found.manifest)
        path = write_training_set(found, feature_store.training_folder(service), context.run.run_id)
        seconds = round(time.perf_counter() - begun, 3)
        told = {"seconds": seconds, "bytes_written": path.stat().st_size}
        return dg.MaterializeResult(metadata={**_metadata(found, path), **told})

    return training


def default_spine(service: FeatureService, store: FeatureStore) -> str:
    """SQL for the newest events of a source that has all join keys: the features as they were just before each.

    What on-demand features take from a request are columns of the event, too. Events of entities that nobody can ask for
    are left out.

    Raises:
        InputError: no source has them.
    """
    source, keys = spine_source(service, store)
    listed = "".join(f'"{key}", ' for key in keys)
    reads = store.registry.reads(store.registry.resolve(service))
    asked = askable_sql(store.compiled.schemas[source.name], [tuple(read.columns.values()) for read in reads])
    events = store.lake.events_sql(source.name, where=asked)
    return (
        f"SELECT {listed}make_timestamptz({TIME}) AS event_timestamp FROM ({events}) "
        f"ORDER BY {TIME} DESC LIMIT {DEFAULT_ROWS}"
    )


def spine_source(service: FeatureService, store: FeatureStore) -> tuple[EventSource, list[str]]:
    """A source whose events have all join keys of a service and what its on-demand features take; and these columns.

    Raises:
        InputError: no source has them.
    """
    keys, source = asked_columns(store.registry, service), asking_source(store.compiled, store.lake, service)
    if source is None:
        raise InputError(
            f"service '{service.name}': no source has all the columns {', '.join(keys)}; give the run a `spine`"
        )
    return source, keys


def write_training_set(found: TrainingSet, directory: Path, name: str) -> Path:
    """Write rows and manifest side by side; returns the rows' file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.parquet"
    path.with_suffix(".json").write_text(found.manifest.to_json())
    pq.write_table(found.table, path)
    return path


def _spine(config: TrainingConfig, store: FeatureStore, service: FeatureService) -> Path | str:
    if config.spine is None:
        return default_spine(service, store)
    return Path(config.spine) if config.spine.endswith(".parquet") else config.spine


def _knowledge(text: str) -> Knowledge:
    if text not in ("served", "corrected"):
        raise InputError(f"`knowledge` must be 'served' or 'corrected', got {text!r}")
    return cast("Knowledge", text)


def _metadata(found: TrainingSet, path: Path) -> dict[str, Any]:
    missing = {name: found.table.column(name).null_count / max(len(found), 1) for name in found.feature_columns}
    shown = found.table.select(found.table.column_names[:PREVIEW_COLUMNS]).slice(0, PREVIEW_ROWS)
    rows = [
        [masked(value, personal=name in found.personal) for name, value in row.items()] for row in shown.to_pylist()
    ]
    return {
        "dagster/row_count": len(found),
        "path": dg.MetadataValue.path(str(path.absolute())),
        "snapshot_id": found.manifest.snapshot,
        "knowledge": found.manifest.knowledge,
        "knowledge_report": dg.MetadataValue.md(str(found.manifest.known).replace("\n", "\n\n")),
        "fingerprints": dg.MetadataValue.json(dict(found.manifest.fingerprints)),
        "missing": dg.MetadataValue.md(
            table(["feature", "missing"], [[f"`{name}`", f"{share:.1%}"] for name, share in missing.items()])
        ),
        "preview": dg.MetadataValue.md(table(shown.column_names, rows)),
    }
