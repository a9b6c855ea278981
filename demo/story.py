"""The demo from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
from feature_store_deploy.checks.evaluate import Verdict

from demo.checks import drift_aside, say_checks, watch
from demo.day import replay_day
from demo.december import Archive, step_days
from demo.history import Trained, feature_columns, train_models, training_set
from demo.lake import describe_features, fill_lake
from demo.replay import DAY, SERVICE, Scorer, start_of_day, start_of_hour, start_of_month
from demo.stage import Stage, open_stage
from feature_store.clock import ManualClock
from feature_store.proof import Proof, prove
from feature_store.proof.served_log import ServedLog
from feature_store.reader import FeatureReader
from feature_store.status import Status
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us
from features.flights import LIVE_FROM, REQUEST_TIME, requests
from features.model import auc

LIVE_DAY = datetime(2013, 12, 31, tzinfo=UTC)
PRESENT_IN = ("airport", "carrier")
"""Entities whose views have values at nearly every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What December brought."""

    vectors: pa.Table
    live_vectors: int
    results: pd.DataFrame


def tell() -> None:
    """Run the demo; its last line is for machines."""
    with open_stage() as stage:
        stage.console.print(
            "[bold]A real-time feature store on the flights of 2013[/bold]: every number twice, the same."
        )
        stage.say(f"It takes a few minutes; what it makes stays in {stage.home}")
        with ExitStack() as beside:
            stage.title(1, "Lake: January to November by a Dagster backfill")
            with stage.store() as store:
                store.apply()
                fill_lake(stage, store)
                drift = beside.enter_context(drift_aside(LIVE_FROM))
                stage.title(2, "Features: tiles (partial aggregates) for the streaming views, rows for the batch views")
                describe_features(stage, store)
                stage.title(3, "Training set: point-in-time correct, and what features are worth")
                trained = train_models(stage, training_set(stage, store))
            stage.title(4, "Stream: December over the log, in the order in which events arrive")
            served = _december(stage, trained, drift)
        with stage.store(ManualClock(to_us(LIVE_DAY + DAY))) as store:
            auc_served, auc_offline = _compare(stage, store, trained, served)
            stage.title(5, "Proof: every served vector recomputed with what was known at its moment")
            proof = _prove(stage, store, served)
            present = _present_share(store, served.vectors)
        stage.title(6, "Where to look next")
        _next_steps(stage)
        stage.console.print(
            f"demo: auc_static={trained.auc_static:.3f} auc_features={trained.auc_features:.3f} "
            f"auc_served={auc_served:.3f} auc_offline={auc_offline:.3f} vectors={proof.vectors} "
            f"live_vectors={served.live_vectors} present={present:.3f} unequal={proof.unequal} "
            f"oracle_unequal={proof.oracle_unequal} controls={proof.controls}/3 seconds={stage.seconds:.0f}",
            soft_wrap=True,
        )


def _december(stage: Stage, trained: Trained, drift: Callable[[], list[Verdict]]) -> Served:
    clock = ManualClock(to_us(LIVE_FROM))
    days = [LIVE_FROM + DAY * i for i in range((LIVE_DAY - LIVE_FROM).days)]
    with stage.store(clock) as store:
        reader = FeatureReader(stage.server.url, env=store.settings.environment, clock=clock)
        scorer = Scorer(reader, trained.model, ServedLog())
        start_of_month(store, LIVE_FROM, LIVE_DAY + DAY)
        step_days(stage, scorer, store, clock, days=days)
        start_of_day(store, LIVE_DAY)
        start_of_hour(store)
        say_checks(stage, "the four weeks before December", drift())
        say_checks(stage, "what readers get as December 31 begins", watch(LIVE_DAY))
    live, live_scores = replay_day(stage, trained.model, day=LIVE_DAY)
    with stage.store(ManualClock(to_us(LIVE_DAY + DAY))) as store:
        Archive(store, stage.client()).step()
    return Served(
        vectors=pa.concat_tables([scorer.log.table(), live], promote_options="default"),
        live_vectors=live.num_rows,
        results=pd.concat([scorer.results(), live_scores], ignore_index=True),
    )


def _compare(stage: Stage, store: FeatureStore, trained: Trained, served: Served) -> tuple[float, float]:
    """The AUC of what was served, and of the same rows from `get_historical_features`."""
    spine = requests(LIVE_FROM, LIVE_DAY + DAY)
    offline = store.get_historical_features(spine, SERVICE, time_column=REQUEST_TIME, allow_incomplete=True).to_pandas()
    auc_offline = auc(offline, trained.model.predict(offline))
    auc_served = auc(served.results, served.results["score"].to_numpy())
    stage.say(f"AUC {auc_served:.3f}  of the predictions that were served, {served.vectors.num_rows:,} flights")
    stage.say(
        f"AUC {auc_offline:.3f}  of the same flights from get_historical_features, {len(feature_columns(offline))} features"
    )
    return auc_served, auc_offline


def _prove(stage: Stage, store: FeatureStore, served: Served) -> Proof:
    proof = prove(store.compiled, store.lake, served.vectors)
    stage.say(f"{proof.values:,} values of {proof.vectors:,} vectors recomputed by the kernel: {proof.unequal} unequal")
    stage.say(
        f"{proof.report.unknown:,} more were served as UNKNOWN, so there is nothing to compare; "
        f"{proof.report.stale_unequal:,} as STALE, which promises nothing, and have changed since"
    )
    stage.say(
        f"{proof.oracle_vectors:,} of the vectors by SQL that shares no code with it: {proof.oracle_unequal} unequal"
    )
    stage.say(f"{proof.controls} of 3 faults found that were planted to see that a difference would be")
    return proof


def _present_share(store: FeatureStore, vectors: pa.Table) -> float:
    """The share of values that are PRESENT, in the views of airports and carriers."""
    views = [view for view in store.registry.views if view.entity.name in PRESENT_IN]
    columns = [f"{view.name}__{feature.name}__status" for view in views for feature in view.declared]
    statuses = pd.concat([vectors.column(name).to_pandas() for name in columns])
    return float((statuses == int(Status.PRESENT)).mean())


def _next_steps(stage: Stage) -> None:
    stage.say("make up                       the long-lived stack: UI, stream, a live replay of the flights as of now")
    stage.say("feature-store get arrival_delay origin=JFK dest=LAX carrier=AA tailnum=N338AA     while it runs")
    stage.say("feature-store --help          everything else")
