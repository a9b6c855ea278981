"""Where the values of a service come from that are compared: what a model could have asked for, or has.

Events of a source that has all its join keys; where there is none, the vectors that readers have logged; where these are too
few, the entities of the baseline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from feature_store_deploy.checks.drift import FEWEST_ROWS
from feature_store_deploy.checks.moments import sample_service, sample_spine
from feature_store_deploy.checks.samples import (
    MOMENT,
    MOMENTS,
    MOST_MOMENTS,
    Sample,
    known_days,
    newest_whole_days,
    spread,
)
from feature_store_deploy.checks.window import Days

from feature_store.declare import EventSource, FeatureService
from feature_store.history.asked import asked_columns, asking_source
from feature_store.history.baseline import Baseline, feature_columns
from feature_store.history.manifest import Knowledge
from feature_store.lake.days import DAY
from feature_store.proof.layout import served_layout
from feature_store.proof.served_log import SERVED
from feature_store.proof.served_table import read_served
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One of the ways."""

    said: str
    """What is sampled, in words."""
    current: Callable[[Days], Sample]
    """Features on the days in question, by the names that readers know, and `_day`; as the lake is now."""
    back: Callable[[Days], Sample]
    """The same of the days of a reference, which may have been drawn earlier."""


def sampling_of(
    store: FeatureStore, service: FeatureService, days: Days, baseline: Baseline | None, *, knowledge: Knowledge
) -> Sampling | None:
    """How the days can be sampled; None: in no way.

    Args:
        store: the deployment.
        service: whose values.
        days: those in question.
        baseline: whose entities may be asked for, if anything.
        knowledge: what values could know.
    """
    source = asking_source(store.compiled, store.lake, service)
    if source is not None:
        drawn = partial(_of_events, store, service, source, knowledge=knowledge)
        return Sampling(
            said=f"features just before events of '{source.name}'",
            current=partial(drawn, anew=True),
            back=partial(drawn, anew=False),
        )
    served = partial(_served, store, service)
    if len(served(days)) >= FEWEST_ROWS:
        return Sampling(said="vectors that readers have logged", current=served, back=served)
    if baseline is not None and {*asked_columns(store.registry, service)} <= {*baseline.rows.column_names}:
        asked = partial(_of_entities, store, service, baseline, knowledge=knowledge)
        said = "the join keys of the baseline's rows, each at its time of day"
        return Sampling(said=said, current=asked, back=asked)
    return None


def newest_days(store: FeatureStore, service: FeatureService, count: int) -> Days | None:
    """The newest days that are over: of the source that asks, else of those that its features are made of."""
    source = asking_source(store.compiled, store.lake, service)
    reads = store.registry.reads(store.registry.resolve(service))
    names = {read.view.source.name for read in reads} if source is None else {source.name}
    found = [days for name in names if (days := newest_whole_days(store, name, count)) is not None]
    return max(found, key=lambda days: days.last, default=None)


def _of_events(
    store: FeatureStore, service: FeatureService, source: EventSource, days: Days, *, knowledge: Knowledge, anew: bool
) -> Sample:
    """Features just before a sample of events of those days that have some."""
    known = known_days(store, source.name)
    chosen = sorted({*days.each} & {*known}) if anew else spread(days, known)
    return sample_service(store, service, source, chosen, anew=anew, knowledge=knowledge)


def _served(store: FeatureStore, service: FeatureService, days: Days) -> Sample:
    """What readers of a service were served, as far as it was logged."""
    where = f"{SERVED} >= {to_us(days.start)} AND {SERVED} < {to_us(days.end)}"
    vectors = read_served(store.compiled, store.lake, service.id, where=where)
    chosen = vectors.take(_evenly(vectors.num_rows, MOST_MOMENTS))
    features = {
        each.item.name: chosen.column(each.column) for each in served_layout(store.compiled, service.id).features
    }
    day = chosen.column(SERVED).cast(pa.timestamp("us")).cast(pa.date32())
    return Sample(pa.table({**features, DAY: day}))


def _of_entities(
    store: FeatureStore, service: FeatureService, baseline: Baseline, days: Days, *, knowledge: Knowledge
) -> Sample:
    """Features of the entities of a baseline, each on one of the days, at the time of day at which its row asks for them."""
    rows = baseline.rows.take(_evenly(baseline.rows.num_rows, min(MOMENTS * days.count, MOST_MOMENTS)))
    time = rows.column(baseline.manifest.time_column).cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    begun = to_us(days.start) + np.arange(len(time)) % days.count * DAY_US
    moments = pa.array(begun + time % DAY_US).cast(pa.timestamp("us", "UTC"))
    left_out = [*feature_columns(store.compiled, service), baseline.manifest.time_column]
    spine = rows.drop_columns(left_out).append_column(MOMENT, moments)
    return sample_spine(store, service, spine, knowledge=knowledge)


def _evenly(rows: int, most: int) -> pa.Array:
    """Places of at most so many rows, spread over all."""
    return pa.array(np.linspace(0, max(rows - 1, 0), min(rows, most)).astype(np.int64))
