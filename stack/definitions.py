"""The only wiring: settings and registry in, everything that Dagster runs out. A project's `definitions.py` asks for it."""

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import dagster as dg
from feature_store_deploy.assets.books import quicken_books
from feature_store_deploy.assets.catalog_links import with_links
from feature_store_deploy.assets.costs import build_costs_asset, build_costs_schedule
from feature_store_deploy.assets.ends import build_live_spec, build_service_spec, build_source_spec
from feature_store_deploy.assets.events import build_events_asset
from feature_store_deploy.assets.housekeeping import build_housekeeping_assets, build_housekeeping_schedule
from feature_store_deploy.assets.maintenance import build_maintenance_asset, build_maintenance_schedule
from feature_store_deploy.assets.online import build_online_asset, build_stream_spec
from feature_store_deploy.assets.outdated import build_outdated_sensor
from feature_store_deploy.assets.partitions import daily_partitions
from feature_store_deploy.assets.resource import STORE, feature_store_resource
from feature_store_deploy.assets.schedules import build_history_job, build_view_schedule
from feature_store_deploy.assets.served import build_served_asset
from feature_store_deploy.assets.statistics import build_statistics_asset, build_statistics_schedule
from feature_store_deploy.assets.stream import build_stream_asset
from feature_store_deploy.assets.training import build_training_asset
from feature_store_deploy.assets.views import build_view_asset
from feature_store_deploy.checks.alerts.sensor import build_alert_sensor
from feature_store_deploy.checks.dead_letters import build_dead_letters_check
from feature_store_deploy.checks.default_values import build_default_values_check
from feature_store_deploy.checks.freshness import build_freshness_check
from feature_store_deploy.checks.health import build_health_check
from feature_store_deploy.checks.outdated import build_outdated_check
from feature_store_deploy.checks.parity import build_parity_check
from feature_store_deploy.checks.retraining import build_retraining_check, build_retraining_sensor
from feature_store_deploy.checks.schedules import build_check_schedules
from feature_store_deploy.checks.schema import build_schema_check
from feature_store_deploy.checks.service_drift import build_service_drift_check
from feature_store_deploy.checks.skew import build_skew_check
from feature_store_deploy.checks.steps import Checks, build_steps
from feature_store_deploy.checks.stream import build_stream_check
from feature_store_deploy.checks.stream_sensor import build_stream_sensor
from feature_store_deploy.checks.values import build_source_values_check, build_view_values_check

from feature_store.clock import Clock
from feature_store.fold.run import live_sources
from feature_store.registry import Registry, load_registry
from feature_store.settings import Settings
from feature_store.transforms.compiled import compile_registry


def build_definitions(registry: Registry, settings: Settings, *, clock: Clock | None = None) -> dg.Definitions:
    """Everything that Dagster runs for these declarations; `clock` is the machine's by default."""
    with warnings.catch_warnings():
        # Backfill policies and mappings to days before the first are beta in the Dagster that is pinned here.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _build(registry, settings, clock)


def _build(registry: Registry, settings: Settings, clock: Clock | None) -> dg.Definitions:
    compiled, env = compile_registry(registry), settings.environment
    partitions = daily_partitions(registry)
    policy = dg.BackfillPolicy.multi_run(max_partitions_per_run=settings.backfill_days)
    loaded = [source for source in registry.sources.values() if source.load is not None]
    events = [build_events_asset(source, compiled, env=env, partitions=partitions, policy=policy) for source in loaded]
    origins = [build_source_spec(source, compiled, env=env) for source in loaded]
    unloaded = [source for source in registry.sources.values() if source.load is None]
    archived = [build_live_spec(source, compiled, env=env, partitions=partitions) for source in unloaded]
    views = [build_view_asset(view, compiled, env=env, partitions=partitions, policy=policy) for view in registry.views]
    batch = [view for view in registry.views if view.is_batch]
    online = [build_online_asset(view, compiled, env=env) for view in batch]
    shown = [build_stream_spec(view, compiled, env=env) for view in registry.views if view.online == "stream"]
    live = [registry.source(name) for name in live_sources(registry)]
    streams = [build_stream_asset(source, compiled, env=env) for source in live]
    training = [build_training_asset(service, registry, compiled, env=env) for service in registry.services]
    services = [build_service_spec(service, registry, compiled, env=env) for service in registry.services]
    vectors = [build_served_asset(service, registry, env=env) for service in registry.services]
    checks = build_steps(
        [
            *_checks(registry, env=env),
            build_health_check(env=env, owner=settings.owner),
            *(build_stream_check(source, env=env) for source in live),
            *(build_outdated_check(view, env=env, rebuild=settings.rebuild) for view in registry.views),
        ]
    )
    history_job = build_history_job(registry, env=env)
    return dg.Definitions(
        asset_checks=checks,
        assets=[
            *with_links(
                [*origins, *events, *archived, *streams, *views, *online, *shown, *training, *vectors, *services],
                registry,
                env=env,
                catalog_url=settings.catalog_url,
            ),
            build_statistics_asset(registry, settings),
            *build_housekeeping_assets(env=env, owner=settings.owner),
            build_costs_asset(env=env, owner=settings.owner),
            build_maintenance_asset(env=env, owner=settings.owner),
        ],
        sensors=[
            build_alert_sensor(registry, settings),
            *([build_stream_sensor(registry, settings, clock=clock)] if live else []),
            build_outdated_sensor(registry, env=env, partitions=partitions, rebuild=settings.rebuild),
            *filter(None, (build_retraining_sensor(service, settings) for service in registry.services)),
        ],
        schedules=[
            *(build_view_schedule(view, history_job, env=env) for view in registry.views),
            *build_check_schedules(checks, env=env),
            build_statistics_schedule(env=env),
            build_housekeeping_schedule(env=env),
            build_costs_schedule(env=env),
            build_maintenance_schedule(env=env),
        ],
        resources={STORE: feature_store_resource(registry, settings, clock=clock)},
        executor=dg.in_process_executor,
    )


def _checks(registry: Registry, *, env: str) -> list[Checks]:
    """Those of every source, view and service that the declarations do not leave out."""
    sources = registry.sources.values()
    served = [view for view in registry.views if view.online is not None]
    checks = [
        *(build_schema_check(source, env=env) for source in sources if source.load is not None),
        *(build_source_values_check(source, env=env) for source in sources),
        *(build_dead_letters_check(source, env=env) for source in sources if source.log is not None),
        *(build_view_values_check(view, env=env) for view in registry.views),
        *(build(view, env=env) for view in served for build in (build_freshness_check, build_parity_check)),
        *(
            build(service, env=env)
            for service in registry.services
            for build in (
                build_skew_check,
                build_default_values_check,
                build_service_drift_check,
                build_retraining_check,
            )
        ),
    ]
    return [check for check in checks if check is not None]


def load_definitions(folder: Path) -> dg.Definitions:
    """Everything that Dagster runs for the project in a folder, as its settings describe it.

    Raises:
        SettingsError: a setting is wrong.
        DeclarationError: the declarations are.
    """
    # Dagster knows the folder only while it imports a file of it, but declarations may import more of it later.
    if (here := str(folder.absolute())) not in sys.path:
        sys.path.append(here)
    quicken_books()
    return _of(Settings())


@lru_cache(maxsize=1)
def _of(settings: Settings) -> dg.Definitions:
    """Built once: Dagster asks for them twice whenever it loads a code location, and takes the second answer."""
    with _for_ever():
        return build_definitions(load_registry(settings.declarations), settings)


@contextmanager
def _for_ever() -> Iterator[None]:
    """What is made here stays as long as the process: looking for garbage in it takes a third of the time of loading."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@dg.definitions
def definitions() -> dg.Definitions:
    """The project in the working directory, for one that has no `definitions.py`."""
    return load_definitions(Path.cwd())
