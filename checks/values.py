"""The checks that look at values: of a source's events, and of a view's features. One step for each, over the same samples."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace

import dagster as dg
from feature_store_deploy.assets.keys import events_key, history_key, online_key
from feature_store_deploy.checks.declared import (
    CATEGORIES,
    DRIFT,
    MISSING_RATE,
    RANGE,
    VOLUME,
    Figure,
    Measurement,
    judged,
    outcome,
)
from feature_store_deploy.checks.drift import measure_drift, report_path
from feature_store_deploy.checks.look import EventsLook, Look, ViewLook
from feature_store_deploy.checks.policy import checks_of, severity_of, spec_of
from feature_store_deploy.checks.profile import category_figures, missing_figures, range_figures
from feature_store_deploy.checks.samples import newest_whole_days, steadily
from feature_store_deploy.checks.steps import Checks, Step
from feature_store_deploy.checks.volume import measure_volume
from feature_store_deploy.checks.window import Days, days_of_run, is_backfill

from feature_store.declare import EventSource, FeatureView
from feature_store.declare.check import Check
from feature_store.store import FeatureStore

OF_SOURCE = (VOLUME, MISSING_RATE, RANGE, CATEGORIES, DRIFT)
OF_VIEW = (MISSING_RATE, RANGE, CATEGORIES, DRIFT)
_METHODS = {
    MISSING_RATE: "share of rows without a value",
    RANGE: "share of numbers beyond bounds, declared ones or those that the reference teaches",
    CATEGORIES: "share of rows with an unknown value, and of values more or less frequent than their bands allow",
}
_DESCRIPTIONS = {
    VOLUME: "A day of {} has about as many events as the same weekday used to have",
    MISSING_RATE: "In {} no more values are missing than usual",
    RANGE: "The numbers of {} are within their bounds",
    CATEGORIES: "The categories of {} are known ones, about as frequent as usual",
    DRIFT: "Nothing in {} has moved away from the days before",
}


def build_source_values_check(source: EventSource, *, env: str) -> Checks | None:
    """The checks of a source's days; None if the declaration wants none."""
    return _build(events_key(env, source), source, source, OF_SOURCE, f"'{source.name}'")


def build_view_values_check(view: FeatureView, *, env: str) -> Checks | None:
    """The checks of a view's features, as they were just before a sample of events; None if the declaration wants none."""
    return _build(values_key(env, view), view, view.source, OF_VIEW, f"'{view.id}'")


def values_key(env: str, view: FeatureView) -> dg.AssetKey:
    """The asset that a view's values are checked at: what readers get, if anybody reads it."""
    return history_key(env, view) if view.online is None else online_key(env, view)


def _build(
    key: dg.AssetKey, declared: EventSource | FeatureView, source: EventSource, names: tuple[str, ...], what: str
) -> Checks | None:
    checks = checks_of(declared, names)
    specs = [
        spec_of(key, name, check, description=_DESCRIPTIONS[name].format(what), owner=declared.owner)
        for name, check in checks.items()
    ]
    if not specs:
        return None

    def values(step: Step, names: Collection[str]) -> Iterator[dg.AssetCheckResult]:
        unasked = {DRIFT} if is_backfill(step.run) else set()  # it says nothing about how things stand now
        return evaluate_values(
            step.store,
            declared,
            source,
            key,
            {name: check for name, check in checks.items() if name in names and name not in unasked},
            days=step.days,
            reference=step.reference,
            ran=days_of_run(step.run),
            in_a_load=step.in_a_load,
        )

    return Checks(specs=specs, evaluate=values, takes_days=True)


def evaluate_values(
    store: FeatureStore,
    declared: EventSource | FeatureView,
    source: EventSource,
    key: dg.AssetKey,
    checks: Mapping[str, Check],
    *,
    days: Days | None = None,
    reference: Days | None = None,
    ran: Days | None = None,
    in_a_load: bool = False,
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate some checks of `OF_SOURCE` or `OF_VIEW`.

    Args:
        store: the deployment.
        declared: whose checks they are.
        source: of the events.
        key: the asset.
        checks: those to evaluate.
        days: that are looked at; by default those of the run, or the newest that are over.
        reference: what they are compared with; by default the days before.
        ran: the days of the run.
        in_a_load: whether something is built in the same run, which should not wait for a page that nobody asked for.
    """
    newest = (
        days or ran or newest_whole_days(store, source.name, max((each.days for each in checks.values()), default=1))
    )
    if newest is None or not store.lake.has_source(source.name):
        for name in checks:
            yield outcome(
                key=dg.AssetCheckKey(key, name),
                passed=True,
                description="there are no events yet",
                owner=declared.owner,
            )
        return
    before = reference or newest.before(max(newest.count, store.settings.drift_days))
    with steadily(store):
        look: Look = (
            EventsLook(store, source, days=newest, reference=before, checks=checks)
            if isinstance(declared, EventSource)
            else ViewLook(store, declared, days=newest, reference=before, checks=checks)
        )
        with closing(look):
            found = {
                name: _measured(store, look, name, check, key, in_a_load=in_a_load) for name, check in checks.items()
            }
    for name, check in checks.items():
        of_check = dg.AssetCheckKey(key, name)
        yield judged(found[name], key=of_check, owner=declared.owner, severity=severity_of(name, check))


def _measured(
    store: FeatureStore, look: Look, name: str, check: Check, key: dg.AssetKey, *, in_a_load: bool
) -> Measurement:
    if name == VOLUME and isinstance(look, EventsLook):
        return measure_volume(store, look.source, look.days, check)
    if name == DRIFT:
        return _measure_drift(store, look, key, check, in_a_load=in_a_load)
    return _measure(look, name, check)


def _measure(look: Look, name: str, check: Check) -> Measurement:
    known = look.usual_bounds if name == RANGE else look.usual
    figures = _figures(look, name, check)
    return Measurement(
        figures=[replace(each, said="") for each in figures] if look.is_personal else figures,
        reference=str(look.reference) if known else "the declaration",
        sample_size=look.rows,
        method=_METHODS[name],
        days=look.days,
        said="the days before have too few rows to say what is usual, and nothing is declared",
    )


def _figures(look: Look, name: str, check: Check) -> list[Figure]:
    if name == MISSING_RATE:
        return missing_figures(look.counted, look.missing, look.usual, check)
    if name == RANGE:
        return range_figures(look.counted, look.bounds, check)
    return category_figures(look.cursor, look.relation, look.columns, look.usual, check)


def _measure_drift(store: FeatureStore, look: Look, key: dg.AssetKey, check: Check, *, in_a_load: bool) -> Measurement:
    # Evidently's page shows the values themselves, so there is none of personal data.
    page = None if look.is_personal else report_path(store.settings.home, key, look.days)
    return measure_drift(
        look.current,
        look.back,
        check=check,
        default=store.settings.drift_threshold,
        report=page,
        said=str(look.reference),
        days=look.days,
        unwatched=look.unwatched,
        always_report=not in_a_load,
    )
