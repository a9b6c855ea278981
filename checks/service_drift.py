"""`drift` of a service: what its model gets is distributed as what it was trained on."""

from dataclasses import replace
from datetime import date

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.assets.keys import training_key
from feature_store_deploy.checks.declared import DRIFT, Measurement, judged
from feature_store_deploy.checks.drift import measure_drift, report_path
from feature_store_deploy.checks.drifted import ASKED, CANDIDATE, MANIFEST, Drifted, Standard, newest_drift, standard_of
from feature_store_deploy.checks.look import begun, is_moving, known_span
from feature_store_deploy.checks.moments import knowledge_of
from feature_store_deploy.checks.policy import check_of, severity_of, spec_of
from feature_store_deploy.checks.samples import Sample, known_days, steadily
from feature_store_deploy.checks.sampling import newest_days, sampling_of
from feature_store_deploy.checks.steps import Checks, Step
from feature_store_deploy.checks.window import Days, days_of_run

from feature_store.declare import FeatureService
from feature_store.declare.check import Check
from feature_store.history.asked import asked_columns
from feature_store.history.baseline import Baseline, feature_columns
from feature_store.history.columns import personal_columns
from feature_store.lake.days import DAY
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us

SERVICE, SAMPLED = "service", "sampled"


def build_service_drift_check(service: FeatureService, *, env: str) -> Checks | None:
    """The check of a service's features against its baseline; None if the declaration wants none."""
    key, check = training_key(env, service), check_of(service, DRIFT)
    if check is None:
        return None
    described = f"What a model reads from '{service.id}' is distributed as in the training set that is its baseline"
    spec = spec_of(key, DRIFT, check, description=described, owner=service.owner)

    def drift(step: Step) -> dg.AssetCheckResult:
        found = measure_service_drift(
            step.store,
            service,
            key,
            check,
            days=step.days or days_of_run(step.run),
            reference=step.reference,
            in_a_load=step.in_a_load,
            last=newest_drift(step.instance, key),
        )
        return judged(found, key=spec.key, owner=service.owner, severity=severity_of(DRIFT, check))

    return replace(Checks.of_one(spec, drift), takes_days=True)


def measure_service_drift(
    store: FeatureStore,
    service: FeatureService,
    key: dg.AssetKey,
    check: Check,
    *,
    days: Days | None = None,
    reference: Days | None = None,
    in_a_load: bool = False,
    last: Drifted | None = None,
) -> Measurement:
    """How far the features of a service have moved from those that its model was trained on.

    Args:
        store: the deployment.
        service: whose features.
        key: the asset, which names Evidently's page.
        check: as declared.
        days: that are looked at; by default the newest that are over.
        reference: days to compare with instead of the baseline; without either, the days before.
        in_a_load: whether something is built in the same run, which should not wait for a page that nobody asked for.
        last: what the newest evaluation has said, which decides whether a newer training set counts.
    """
    days = days or newest_days(store, service, check.days)
    if days is None:
        return _unmeasured("there are no events yet")
    with steadily(store):
        standard = standard_of(store, service, last)
        return _compared(store, service, key, check, standard, days=days, reference=reference, in_a_load=in_a_load)


def _compared(
    store: FeatureStore,
    service: FeatureService,
    key: dg.AssetKey,
    check: Check,
    standard: Standard,
    *,
    days: Days,
    reference: Days | None,
    in_a_load: bool,
) -> Measurement:
    baseline = None if reference else standard.baseline
    rows_of = standard.baseline or standard.candidate
    sampling = sampling_of(store, service, days, rows_of, knowledge=knowledge_of(baseline))
    if sampling is None:
        return _blind(store, service, days)
    current = sampling.current(days)
    before = reference or standard.days or days.before(max(days.count, store.settings.drift_days))
    if baseline is None:
        back, said = sampling.back(before), str(before)
    else:
        back, said = _named(store, service, baseline.rows, baseline.manifest.time_column), baseline.name
    span = known_span(before, _days_of(back)) if baseline is None else _asked_us(baseline)
    told = {SERVICE: service.id, SAMPLED: sampling.said}
    told |= {MANIFEST: baseline.path} if baseline else {ASKED: str(reference)} if reference else {}
    told |= {CANDIDATE: standard.candidate.path} if standard.candidate else {}
    found = measure_drift(
        current,
        back,
        check=check,
        default=store.settings.drift_threshold,
        report=None if _is_personal(store, service) else report_path(store.settings.home, key, days),
        said=said,
        days=days,
        unwatched=_moving(store, service, span),
        always_report=not in_a_load,
    )
    return replace(found, metadata={**found.metadata, **told})


def _days_of(sample: Sample) -> list[date]:
    """The days of its rows, in order; a sample without rows may lack their column."""
    found: list[date] = pc.unique(sample.table.column(DAY)).to_pylist() if len(sample) else []
    return sorted(found)


def _is_personal(store: FeatureStore, service: FeatureService) -> bool:
    """Whether some of its features are."""
    resolved, names = store.registry.resolve(service), list(feature_columns(store.compiled, service))
    return bool(personal_columns(names, resolved, store.registry.reads(resolved)) & {*names})


def _named(store: FeatureStore, service: FeatureService, table: pa.Table, time_column: str) -> Sample:
    """The features of a training set by the names that readers know, and the day of each row."""
    columns = feature_columns(store.compiled, service)
    named = table.select(list(columns)).rename_columns(list(columns.values()))
    return Sample(named.append_column(DAY, table.column(time_column).cast(pa.timestamp("us")).cast(pa.date32())))


def _asked_us(baseline: Baseline) -> tuple[int, int]:
    """The first and the last time that the rows ask for."""
    found = pc.min_max(baseline.rows.column(baseline.manifest.time_column)).as_py()
    return (to_us(found["min"]), to_us(found["max"])) if found["min"] else (0, 0)


def _moving(store: FeatureStore, service: FeatureService, reference_us: tuple[int, int]) -> list[str]:
    """Features that are distributed otherwise by design; see `look.is_moving`."""
    moving = []
    for item in store.registry.resolve(service):
        for ref in item.refs:
            view = store.registry.view(ref.view_id)
            begun_us = begun(known_days(store, view.source.name))
            if is_moving(view.feature(ref.feature), begun_us, reference_us):
                moving.append(item.name)
    return moving


def _blind(store: FeatureStore, service: FeatureService, days: Days) -> Measurement:
    columns = ", ".join(asked_columns(store.registry, service))
    return replace(
        _unmeasured(
            f"nothing to compare: no source has all the columns {columns}, {days} has too few logged vectors, and no baseline "
            f"has these columns; make a training set with a `spine` of them and accept it with `feature-store baseline "
            f"{service.id} MANIFEST`, or have vectors logged (`log_rate`)"
        ),
        days=days,
        is_blind=True,
    )


def _unmeasured(why: str) -> Measurement:
    return Measurement(figures=(), reference="none", sample_size=0, method="none", said=why)
