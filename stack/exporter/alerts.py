"""What Dagster's books say of the alerts that nobody has received, and of who sends them: the webhook cannot tell this itself."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from feature_store_deploy.checks.alerts.state import load
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric


def alert_families(instance: dg.DagsterInstance, *, env: str, posted: bool) -> Iterator[Metric]:
    """How many messages of an environment wait, and were given up; nothing before its sensor has looked once.

    Args:
        instance: whose books are read.
        env: the environment.
        posted: whether there is a webhook. If so, somebody relies on the sensor, and it is told when it was last
            evaluated: 0 for never, because a sensor that never began is no less silent than one that has ended.
    """
    evaluated = GaugeMetricFamily(
        "feature_alerts_evaluated_timestamp_seconds", "When the sensor of alerts was last evaluated to its end"
    )
    waiting = GaugeMetricFamily("feature_alerts_waiting", "Alerts that the webhook has not taken yet")
    given_up = GaugeMetricFamily("feature_alerts_given_up", "Alerts that it refused for a day, ever")
    state = load(instance, env)
    if state is not None:
        waiting.add_metric([], len(state.waiting))
        given_up.add_metric([], state.given_up)
    if posted:
        evaluated.add_metric([], 0.0 if state is None else state.evaluated_s)
    yield from (evaluated, waiting, given_up)
