"""The payments example as a deployment whose checks are evaluated without Dagster."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import dagster as dg
from feature_store_deploy.assets.training import default_spine, write_training_set
from feature_store_deploy.checks.declared import DRIFT, judged
from feature_store_deploy.checks.policy import check_of, checks_of, severity_of
from feature_store_deploy.checks.service_drift import measure_service_drift
from feature_store_deploy.checks.values import OF_SOURCE, OF_VIEW, evaluate_values
from feature_store_deploy.checks.window import Days

from feature_store import FeatureStore, Registry, Settings
from feature_store.clock import ManualClock
from feature_store.time_rule import to_us

EXAMPLE = Path(__file__).parent.parent / "examples" / "payments"
START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = dg.AssetKey(["dev", "measured"])


def module(name: str) -> ModuleType:
    """A file of the example, which is no package of this repository."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def at(day: int) -> datetime:
    """Midnight at which a day begins."""
    return START + timedelta(days=day)


def days_of(day: int) -> Days:
    """A day as checks name it."""
    found: date = at(day).date()
    return Days(first=found, last=found)


@contextmanager
def deployment(folder: Path, *, payments: int, days: int, seed: int = 0) -> Iterator[FeatureStore]:
    """The example with so many payments over some days; nothing is loaded yet. The working folder is its own."""
    generator, declared = module("generator"), module("payments")
    with chdir(folder):
        generator.write_daily(generator.generate_daily(payments=payments, days=days, seed=seed), Path("data"))
        settings = Settings(home=folder / "home", redis_url="redis://127.0.0.1:1/0")
        with FeatureStore(declared.registry, settings=settings, clock=ManualClock(to_us(at(days)))) as store:
            yield store


def build(store: FeatureStore, first: int, end: int) -> None:
    """Load and build days of everything."""
    for source in store.registry.sources:
        store.load(source, start=at(first), end=at(end))
    for view in store.registry.views:
        store.materialize(view.id, start=at(first), end=at(end))


def train(store: FeatureStore, day: int) -> None:
    """Pin a training set of the newest payments before a day."""
    [service] = store.registry.services
    spine = default_spine(service, store).replace("ORDER BY", f"WHERE _event_us < {to_us(at(day))} ORDER BY")
    found = store.get_historical_features(spine, service, allow_incomplete=True)
    written = write_training_set(found, store.training_folder(service), f"day_{day}")
    store.pin_baseline(service.id, written.with_suffix(".json"))


def evaluate(store: FeatureStore, day: int) -> Iterator[tuple[str, dg.AssetCheckResult]]:
    """Every check of a day's values, as a load evaluates them: whose, and what was said."""
    registry: Registry = store.registry
    options = {"days": days_of(day), "ran": days_of(day), "in_a_load": True}
    for source in registry.sources.values():
        for said in evaluate_values(store, source, source, KEY, checks_of(source, OF_SOURCE), **options):
            yield source.name, said
    for view in registry.views:
        for said in evaluate_values(store, view, view.source, KEY, checks_of(view, OF_VIEW), **options):
            yield view.name, said
    for service in registry.services:
        check = check_of(service, DRIFT)
        assert check is not None
        found = measure_service_drift(store, service, KEY, check, days=days_of(day), in_a_load=True)
        of_check = dg.AssetCheckKey(KEY, DRIFT)
        yield service.name, judged(found, key=of_check, owner=None, severity=severity_of(DRIFT, check))
