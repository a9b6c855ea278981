"""`drift`: the distributions of a source's columns, and of a view's features, stay near those of a reference."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dagster as dg
from feature_store_deploy.assets.keys import events_key, history_key, online_key, op_name
from feature_store_deploy.assets.markdown import table
from feature_store_deploy.checks.declared import outcome, spec_metadata
from feature_store_deploy.checks.distance import Distance, distances
from feature_store_deploy.checks.samples import Sample, newest_day, sample_events, sample_view
from feature_store_deploy.checks.window import Days, days_of_run, is_backfill

from feature_store.declare import EventSource, FeatureView
from feature_store.errors import InputError
from feature_store.store import FeatureStore

CATEGORY_THRESHOLD = 0.2
"""Of columns compared as categories, unless the declaration says otherwise."""
FEWEST_ROWS = 100
"""With fewer rows on either side nothing is said."""

Sampler = Callable[[FeatureStore, Days], Sample]


def takes_days(op: str) -> bool:
    """Whether this op is a drift check, whose configuration is `DriftConfig`."""
    return op.endswith("__drift")


class DriftConfig(dg.Config):
    """What to compare with what."""

    days: str | None = None
    """`2013-04-01/2013-04-30`; by default the partitions of the run, or the newest days."""
    reference: str | None = None
    """Pinned days, `2013-01-01/2013-03-31`; by default as many days as are compared, just before them."""


def build_source_drift_check(source: EventSource, *, env: str) -> dg.AssetChecksDefinition:
    """The check of a source's columns. A warning: seasons drift too, and loaded rows are facts."""
    return _build(
        events_key(env, source),
        source,
        lambda store, days: sample_events(store, source, days),
        described=f"No column of '{source.name}' has moved away from the days before",
        owner=source.owner,
        declared=source.drift,
        personal=lambda store: store.registry.is_personal(source.name),
    )


def build_view_drift_check(view: FeatureView, *, env: str) -> dg.AssetChecksDefinition:
    """The check of a view's features, as they were just before a sample of events."""
    return _build(
        history_key(env, view) if view.online is None else online_key(env, view),
        view.source,
        lambda store, days: sample_view(store, view, days),
        described=f"No feature of '{view.id}' has moved away from the days before",
        owner=view.owner,
        declared=view.drift,
        personal=lambda _: view.is_personal,
    )


def _build(
    key: dg.AssetKey,
    source: EventSource,
    sampler: Sampler,
    *,
    described: str,
    owner: str | None,
    declared: Mapping[str, float | None],
    personal: Callable[[FeatureStore], bool],
) -> dg.AssetChecksDefinition:
    spec = dg.AssetCheckSpec("drift", asset=key, description=described, metadata=spec_metadata(owner))

    @dg.multi_asset_check(name=f"{op_name(key)}__drift", specs=[spec], can_subset=True)
    def drift(
        context: dg.AssetCheckExecutionContext, config: DriftConfig, feature_store: dg.ResourceParam[FeatureStore]
    ) -> Iterator[dg.AssetCheckResult]:
        if is_backfill(context.run):
            return
        days = _asked(config.days, "days") or days_of_run(context.run) or _newest_days(feature_store, source)
        if days is None:
            yield outcome(passed=True, description="there are no events yet", owner=owner)
            return
        reference = _asked(config.reference, "reference") or days.before((days.last - days.first).days + 1)
        # Evidently's page shows the values themselves, so there is none of personal data.
        path = None if personal(feature_store) else report_path(feature_store.settings.home, key, days)
        samples = [sampler(feature_store, each) for each in (days, reference)]
        found = compare(*samples, declared=declared, default=feature_store.settings.drift_threshold, report=path)
        yield _result(found, days, reference, path, samples=samples, owner=owner)

    return drift


def compare(
    current: Sample, reference: Sample, *, declared: Mapping[str, float | None], default: float, report: Path | None
) -> list[Distance]:
    """The distances of the columns that are watched and have values on both sides; none if there are too few rows."""
    if min(len(current.frame), len(reference.frame)) < FEWEST_ROWS:
        return []
    numbers = [name for name in current.numbers if _is_watched(name, current, reference, declared)]
    texts = [
        name for name in current.texts if name in reference.texts and _is_watched(name, current, reference, declared)
    ]
    if not numbers and not texts:
        return []
    thresholds = dict.fromkeys(numbers, default) | dict.fromkeys(texts, CATEGORY_THRESHOLD)
    thresholds |= {name: value for name, value in declared.items() if value is not None}
    return distances(current.frame, reference.frame, numbers=numbers, texts=texts, thresholds=thresholds, report=report)


def report_path(home: Path, key: dg.AssetKey, days: Days) -> Path:
    """Where Evidently's page is kept; evaluating the same days again replaces it."""
    return home.joinpath("reports", "drift", *key.path, f"{str(days).replace('/', '_')}.html").absolute()


def _is_watched(name: str, current: Sample, reference: Sample, declared: Mapping[str, float | None]) -> bool:
    if name in declared and declared[name] is None:
        return False
    return bool(current.frame[name].notna().any() and reference.frame[name].notna().any())


def _newest_days(store: FeatureStore, source: EventSource) -> Days | None:
    newest = newest_day(store, source.name)
    return None if newest is None else Days.up_to(newest.last, store.settings.drift_days)


def _asked(text: str | None, name: str) -> Days | None:
    try:
        return None if text is None else Days.parse(text)
    except ValueError as error:
        raise InputError(f"`{name}` must be days such as '2013-03-01/2013-03-31', got {text!r}") from error


def _result(
    found: list[Distance], days: Days, reference: Days, report: Path | None, *, samples: list[Sample], owner: str | None
) -> dg.AssetCheckResult:
    drifted = [each.column for each in found if each.drifted]
    metadata: dict[str, object] = {
        "reference": str(reference),
        "rows": len(samples[0].frame),
        "reference_rows": len(samples[1].frame),
        "drifted": drifted,
    }
    if found:
        rows = [[each.column, f"{each.distance:.3f}", each.threshold, "yes" if each.drifted else ""] for each in found]
        metadata["columns"] = dg.MetadataValue.md(table(["column", "distance", "threshold", "drifted"], rows))
    if found and report is not None:
        metadata["report"] = dg.MetadataValue.path(str(report))
        metadata["report_link"] = dg.MetadataValue.url(report.as_uri())
    said = f"drifted: {', '.join(drifted)}" if drifted else "nothing has drifted"
    return outcome(
        passed=not drifted,
        severity=dg.AssetCheckSeverity.WARN,
        description=said if found else "too few rows to compare",
        owner=owner,
        days=days,
        metadata=metadata,
    )
