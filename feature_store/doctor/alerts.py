"""Whether alerts reach somebody, and how many do not."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from feature_store.clock import SystemClock
from feature_store.configured import shown
from feature_store.doctor.finding import Finding, Findings, State
from feature_store.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feature_store.settings import Settings

PATIENCE_S = 60.0
"""How long the books may take to be opened."""
SILENT_S = 300.0
"""How long ago the sensor of alerts may have been evaluated; Prometheus' `AlertSensorSilent` has the same limit."""


def alert_findings(settings: Settings) -> Findings:
    """Where alerts go, and what waits; that stands in Dagster's books, which a program of the deployment reads."""
    hook = settings.alert_webhook_url
    if hook is None:
        said = "no webhook: they stand in the log of a sensor alone"
        yield Finding("alerts", State.OK, said, f"to be told, name one by {PREFIX}ALERT_WEBHOOK_URL")
        return
    where = f"posted to {shown('alert_webhook_url', hook)}"
    if find_spec("dagster") is None:
        yield Finding("alerts", State.OK, f"{where}; what waits stands in Dagster's books, which cannot be read here")
        return
    command = [sys.executable, "-m", "feature_store_deploy.checks.alerts", str(settings.home), settings.environment]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = (str(error.stderr or "").strip().splitlines() or [str(error)])[-1]
        yield Finding("alerts", State.WARNING, f"{where}; Dagster's books cannot be read: {why}")
        return
    # Dagster's books are kept by the machine's clock.
    yield judged(
        json.loads(done.stdout), where=where, runbooks=settings.runbook_url, now_s=SystemClock().now_us() / 1e6
    )


def judged(waits: Mapping[str, Any], *, where: str, runbooks: str, now_s: float) -> Finding:
    """What is to be said of the alerts.

    Args:
        waits: what `python -m feature_store_deploy.checks.alerts` tells.
        where: where they go, in words.
        runbooks: where the runbooks are.
        now_s: the time, seconds since the epoch.
    """
    lost = f"; {waits['given_up']} were refused for a day and given up" if waits["given_up"] else ""
    waiting = f"{waits['waiting']} wait ({waits['problem'] or 'not tried yet'})" if waits["waiting"] else ""
    silent_s = now_s - waits["evaluated_s"]
    if waits["evaluated_s"] and silent_s > SILENT_S:  # before what waits: nobody tries to deliver it
        last = f"the sensor that sends them was last evaluated {silent_s / 60:,.0f} minutes ago"
        said = f"{last}{waiting and f'; {waiting}'}{lost}; {where}"
        return Finding("alerts", State.WARNING, said, f"{runbooks}/alert_sensor.md")
    if waiting:
        return Finding("alerts", State.WARNING, f"{waiting}{lost}; {where}", f"{runbooks}/delivery.md")
    if not waits["evaluated_s"]:
        return Finding("alerts", State.OK, f"{where}; the sensor that sends them has not begun yet")
    return Finding("alerts", State.OK, f"{where}; none waits{lost}")
