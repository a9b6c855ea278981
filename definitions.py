"""The only wiring: settings and registry in, everything that Dagster runs out. `workspace.yaml` names this file."""

import sys
import warnings
from pathlib import Path

import dagster as dg

from assets.books import quicken_books
from assets.events import build_events_asset
from assets.online import build_online_asset, build_stream_spec
from assets.partitions import daily_partitions
from assets.resource import STORE, feature_store_resource
from assets.schedules import build_view_schedule
from assets.training import build_training_asset
from assets.views import build_view_asset
from checks.alerts import build_alert_sensor
from checks.drift import build_source_drift_check, build_view_drift_check
from checks.freshness import build_freshness_check
from checks.parity import build_parity_check
from checks.schedules import build_check_schedules
from checks.schema import build_schema_check
from feature_store.clock import Clock
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
    views = [build_view_asset(view, env=env, partitions=partitions, policy=policy) for view in registry.views]
    batch = [view for view in registry.views if view.is_batch]
    online = [build_online_asset(view, env=env) for view in batch]
    shown = [build_stream_spec(view, env=env) for view in registry.views if view.online == "stream"]
    training = [build_training_asset(service, registry, env=env) for service in registry.services]
    served = [view for view in registry.views if view.online is not None]
    checks = [
        *(build_schema_check(source, env=env) for source in loaded),
        *(build_source_drift_check(source, env=env) for source in loaded),
        *(build_view_drift_check(view, env=env) for view in registry.views),
        *(build(view, env=env) for view in served for build in (build_freshness_check, build_parity_check)),
    ]
    ui_url = f"http://127.0.0.1:{settings.ui_port}"
    return dg.Definitions(
        asset_checks=checks,
        assets=[*events, *views, *online, *shown, *training],
        sensors=[build_alert_sensor(env=env, webhook_url=settings.alert_webhook_url, ui_url=ui_url)],
        schedules=[*(build_view_schedule(view, env=env) for view in batch), *build_check_schedules(checks, env=env)],
        resources={STORE: feature_store_resource(registry, settings, clock=clock)},
        executor=dg.in_process_executor,
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """This deployment, as its settings describe it."""
    # Dagster knows this directory only while it imports this file, but declarations may import more of it later.
    if (here := str(Path(__file__).parent)) not in sys.path:
        sys.path.append(here)
    quicken_books()
    settings = Settings()
    return build_definitions(load_registry(settings.declarations), settings)
