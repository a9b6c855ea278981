"""History: the lake and its features by a Dagster backfill, a training set, and what the features are worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from demo.replay import SERVICE
from demo.stage import Stage
from feature_store.store import FeatureStore
from features.flights import LIVE_FROM, REQUEST_TIME, requests
from features.model import DelayModel, auc, leaky_features, split, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the offline part found."""

    auc_static: float
    auc_features: float
    auc_leaky: float
    model: DelayModel
    """Trained on January to November, for December."""


def training_set(stage: Stage, store: FeatureStore) -> pd.DataFrame:
    """Every flight requested before December with the features it would have been served, as a frame."""
    began = time.perf_counter()
    spine = requests(end=LIVE_FROM)
    result = store.get_historical_features(spine, SERVICE, time_column=REQUEST_TIME)
    rows = result.to_pandas()
    seconds = time.perf_counter() - began
    features = len(feature_columns(rows))
    stage.say(f"{len(rows):,} rows x {features} features, each as of its own request time, in {seconds:.1f} s")
    return rows


def feature_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of a training set that the service adds to the spine."""
    spine = set(requests(LIVE_FROM, LIVE_FROM).column_names)
    return [name for name in rows.columns if name not in spine]


def train_models(stage: Stage, rows: pd.DataFrame) -> Trained:
    """Train January to August, test September to November: static columns, features, and the join that fools you."""
    features = feature_columns(rows)
    leaky = leaky_features(rows)
    past, test = split(rows)
    scores = {
        "static": _tested(past, test, ()),
        "features": _tested(past, test, features),
        "leaky": _tested(past.join(leaky), test.join(leaky), (*features, *leaky.columns)),
    }
    _report(stage, scores)
    return Trained(
        auc_static=scores["static"],
        auc_features=scores["features"],
        auc_leaky=scores["leaky"],
        model=train(rows, features),
    )


def _tested(past: pd.DataFrame, test: pd.DataFrame, features: Sequence[str]) -> float:
    return auc(test, train(past, features).predict(test))


def _report(stage: Stage, scores: dict[str, float]) -> None:
    meaning = {
        "static": "what the schedule says (carrier, route, hour, ...)",
        "features": "and the features, as they stood when asked",
        "leaky": "and the day's means, joined by date: looks better, cannot be served",
    }
    for name, text in meaning.items():
        stage.say(f"AUC {scores[name]:.3f}  {text}")
