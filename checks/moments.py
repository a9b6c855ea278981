"""Features as they were just before a sample of events, of all stream views of a source and of the services that have its keys.

They are drawn together, the events of each view read once, and kept: every check looks at the same moments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from feature_store_deploy.assets.declared import service_version
from feature_store_deploy.checks.declared import CATEGORIES, DRIFT, MISSING_RATE, RANGE
from feature_store_deploy.checks.kept import folder_of, kept_days, samples_folder
from feature_store_deploy.checks.policy import check_of
from feature_store_deploy.checks.samples import MOMENT, Sample, moments

from feature_store.declare import EventSource, Feature, FeatureRef, FeatureService, FeatureView, KeyedView, Ratio
from feature_store.history.asked import asked_columns, asking_source
from feature_store.history.baseline import Baseline, feature_columns
from feature_store.history.manifest import Knowledge
from feature_store.history.reading import LakeReading
from feature_store.history.training import get_historical_features, open_reading
from feature_store.history.workers import Workers
from feature_store.lake.days import DAY
from feature_store.lake.view_tables import tiles_table
from feature_store.registry import Resolved, meanings_of, view_fingerprint
from feature_store.store import FeatureStore

NEVER_MISSING = ("count", "count_distinct")
"""Aggregates that always have a value."""
BUCKETS = 4
"""So many buckets of a training set are read at once: few rows are asked for, which have a part of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Features that are drawn for a view or a service."""

    name: str
    meaning: object
    """What means something else is not looked for in the same folder."""
    features: FeatureService | Sequence[str]
    names: Sequence[str]
    """What the features are called in the sample."""
    columns: Sequence[str]
    """Of events: what is needed to ask."""
    whole: Sequence[str] = ()
    """Those of them without which a row is left out."""
    knowledge: Knowledge = "corrected"

    def folder(self, store: FeatureStore) -> Path:
        """Where samples are kept."""
        return folder_of(store, self.name, self.meaning)


def sample_view(store: FeatureStore, view: FeatureView, days: Sequence[date], *, anew: bool) -> Sample:
    """A view's features as they were just before a sample of its source's events of some days, and `_day`.

    `anew`: as the lake is now; otherwise a sample that was drawn earlier will do.
    """
    mine = _of_view(view)
    if not mine.names:
        return Sample(pa.schema([(DAY, pa.date32())]).empty_table())
    return _sample(store, view.source, mine, days, anew=anew, alone=view.is_batch)


def sample_service(
    store: FeatureStore,
    service: FeatureService,
    source: EventSource,
    days: Sequence[date],
    *,
    anew: bool,
    knowledge: Knowledge,
) -> Sample:
    """A service's features in the same way, by the names that readers know.

    Args:
        store: the deployment.
        service: whose features.
        source: of the events.
        days: with events.
        anew: as above.
        knowledge: what values could know, as in its baseline.
    """
    return _sample(store, source, _of_service(store, service, knowledge), days, anew=anew)


def sample_spine(store: FeatureStore, service: FeatureService, spine: pa.Table, *, knowledge: Knowledge) -> Sample:
    """A service's features at the rows of a spine, which has `asked_columns` and `MOMENT`, as `sample_service` has them."""
    [(_, table)] = _drawn(store, [_of_service(store, service, knowledge)], spine)
    return Sample(table)


def knowledge_of(baseline: Baseline | None) -> Knowledge:
    """What the values that are compared with a baseline could know."""
    return "corrected" if baseline is None else baseline.manifest.knowledge


def _sample(
    store: FeatureStore, source: EventSource, mine: Asked, days: Sequence[date], *, anew: bool, alone: bool = False
) -> Sample:
    def draw(missing: Sequence[date]) -> dict[Path, pa.Table]:
        asked = [] if alone else _together(store, source)
        asked = asked if mine in asked else [mine]
        columns = list(dict.fromkeys(column for each in asked for column in each.columns))
        keys = [tuple(read.columns.values()) for each in asked for read in _reads(store, each)]
        return dict(_drawn(store, asked, moments(store, source, columns, missing, anew=anew, keys=keys)))

    found = kept_days(store, mine.folder(store), days, draw, anew=anew)
    return Sample(pa.schema([(name, pa.float64()) for name in mine.names]).empty_table() if found is None else found)


def _reads(store: FeatureStore, asked: Asked) -> Sequence[KeyedView]:
    return store.registry.reads(store.registry.resolve(asked.features))


def _drawn(store: FeatureStore, asked: Sequence[Asked], spine: pa.Table) -> Iterator[tuple[Path, pa.Table]]:
    tiles = {tiles_table(v): (v.source.name, meanings_of(v)) for v in store.registry.views if not v.is_batch}
    with open_reading(store.lake, remembers=True, tiles=tiles, beside=samples_folder(store) / "tiles") as reading:
        # What a value could know needs more columns of events than hindsight does.
        for each in sorted(asked, key=lambda one: one.knowledge == "corrected"):
            yield each.folder(store), _answered(store, each, spine, reading)


def _answered(store: FeatureStore, asked: Asked, spine: pa.Table, reading: LakeReading) -> pa.Table:
    settings = store.settings
    found = get_historical_features(
        store.compiled,
        store.lake,
        spine,
        asked.features,
        knowledge=asked.knowledge,
        allow_incomplete=True,
        workers=Workers(bucket_events=BUCKETS * settings.training_bucket_events, memory_mb=settings.batch_memory_mb),
        reading=reading,
    )
    day = found.table.column(MOMENT).cast(pa.timestamp("us")).cast(pa.date32())
    named = found.table.select(list(found.feature_columns)).rename_columns(list(asked.names)).append_column(DAY, day)
    known = [pc.is_valid(found.table.column(key)) for key in asked.whole]
    return named.filter(reduce(pc.and_, known)) if known else named


def _together(store: FeatureStore, source: EventSource) -> list[Asked]:
    """The stream views of a source, and the services for which its events can ask; not those whose functions may fail."""
    views = [_of_view(view) for view in store.registry.views_of(source.name) if not view.is_batch]
    services = [
        _of_service(store, service, knowledge_of(next(filter(None, store.baselines(service.id)), None)))
        for service in store.registry.services
        if check_of(service, DRIFT)
        and _is_plain(store, service)
        and asking_source(store.compiled, store.lake, service) == source
    ]
    return [each for each in (*views, *services) if each.names]


def _is_plain(store: FeatureStore, service: FeatureService) -> bool:
    return all(isinstance(item, FeatureRef | Ratio) for item in store.registry.resolve(service))


def _of_view(view: FeatureView) -> Asked:
    features = [each for each in view.declared if not _is_idle(each) or _is_named(view, each.name)]
    return Asked(
        name=f"view_{view.id}",
        meaning=(view_fingerprint(view), [each.name for each in features]),
        features=[f"{view.id}:{feature.name}" for feature in features],
        names=[feature.name for feature in features],
        columns=view.entity.join_keys,
        whole=view.entity.join_keys,
    )


def _of_service(store: FeatureStore, service: FeatureService, knowledge: Knowledge) -> Asked:
    version, resolved = service_version(service, store.registry), store.registry.resolve(service)
    watched = [each for each in resolved if not _is_idle_item(store, each) or _is_named(service, each.name)]
    asked = replace(service, features=watched)
    return Asked(
        name=f"service_{service.id}",
        meaning=(version, [each.name for each in watched], sorted(service.defaults.items()), service.on_stale,
                 service.on_ahead, knowledge),
        features=asked,
        names=list(feature_columns(store.compiled, asked).values()),
        columns=asked_columns(store.registry, service),
        knowledge=knowledge,
    )  # fmt: skip


def _is_idle(feature: Feature) -> bool:
    """Whether no check looks at a feature by itself: it is never missing, and moves by design for as long as there are events."""
    return feature.window_us is None and feature.aggregate in NEVER_MISSING


def _is_idle_item(store: FeatureStore, item: Resolved) -> bool:
    return isinstance(item, FeatureRef) and _is_idle(store.registry.view(item.view_id).feature(item.feature))


def _is_named(declared: FeatureView | FeatureService, name: str) -> bool:
    """Whether a check has something to say of a feature."""
    checks = (check_of(declared, each) for each in (MISSING_RATE, RANGE, CATEGORIES, DRIFT))
    return any(check is not None and name in check.by for check in checks)
