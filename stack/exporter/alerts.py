"""What Dagster's books say of the alerts that nobody has received: the webhook cannot tell this itself."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from feature_store_deploy.checks.alerts.state import load
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric


def alert_families(instance: dg.DagsterInstance, *, env: str) -> Iterator[Metric]:
    """How many messages of an environment wait, and were given up; nothing before its sensor has looked once."""
    waiting = GaugeMetricFamily("feature_alerts_waiting", "Alerts that the webhook has not taken yet")
    given_up = GaugeMetricFamily("feature_alerts_given_up", "Alerts that it refused for a day, ever")
    state = load(instance, env)
    if state is not None:
        waiting.add_metric([], len(state.waiting))
        given_up.add_metric([], state.given_up)
    yield from (waiting, given_up)
