"""The sensor: looks every ten seconds, writes what has changed to its log, and delivers it to the webhook."""

import json
from functools import partial

import dagster as dg
import msgspec
from dagster._core.definitions.repository_definition import RepositoryDefinition
from feature_store_deploy.checks.alerts.concerns import concerns
from feature_store_deploy.checks.alerts.look import look
from feature_store_deploy.checks.alerts.outbox import deliver
from feature_store_deploy.checks.alerts.state import Held, State, Waiting, load, save
from feature_store_deploy.checks.alerts.told import Teller
from feature_store_deploy.checks.alerts.webhook import Post, webhook

from feature_store.clock import Clock, SystemClock
from feature_store.registry import Registry
from feature_store.settings import Settings

INTERVAL_S = 10
MOST_WAITING = 200
"""With so many undelivered messages no more is read: what has happened waits in Dagster's books."""


def build_alert_sensor(registry: Registry, settings: Settings, *, clock: Clock | None = None) -> dg.SensorDefinition:
    """The sensor of an environment. Without a webhook alerts stand in its log alone.

    Args:
        registry: whom things concern.
        settings: webhook, links, limits.
        clock: Dagster's books are kept by the machine's.
    """
    env, now = settings.environment, clock or SystemClock()
    teller = Teller(
        env=env,
        concerns=concerns(registry, env),
        ui_url=settings.dagster_url,
        runbook_url=settings.runbook_url,
        owner=settings.owner,
    )
    post = webhook(settings.alert_webhook_url) if settings.alert_webhook_url else None
    limit_s = settings.alert_overdue_minutes * 60.0

    @dg.sensor(
        name=f"{env}__check_alerts",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Says what fails, is overdue and recovers: log, and the webhook of the settings",
    )
    def check_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        repository = context.repository_def
        assert repository is not None, "Dagster evaluates a sensor beside its definitions"
        return dg.SkipReason(tick(context, repository, teller, post, now_s=now.now_us() / 1e6, limit_s=limit_s))

    return check_alerts


def tick(
    context: dg.SensorEvaluationContext,
    repository: RepositoryDefinition,
    teller: Teller,
    post: Post | None,
    *,
    now_s: float,
    limit_s: float,
) -> str:
    """One look and one delivery; says what came of them."""
    state = load(context.instance, teller.env) or begin(context.cursor)
    keep = partial(save, context.instance, teller.env, state)
    told = 0
    if len(state.waiting) < MOST_WAITING:
        messages = look(context.instance, repository, state, teller, now_s=now_s, limit_s=limit_s)
        for message in messages:
            context.log.warning(message["text"])
        told = len(messages)
        state.waiting += [Waiting(message=message) for message in messages]
    if post is None:
        state.waiting, state.problem = [], ""
    state.evaluated_s = now_s
    keep()
    if post is None or not state.waiting:
        return f"{told} alerts"
    done = deliver(state, post, now_s=now_s, save=keep)
    for each in done.given_up:
        context.log.error("given up, because the webhook refused it for a day: %s", each.message["text"])
    if not state.waiting:
        return f"{done.sent} alerts"
    why = f": {state.problem}" if state.problem else ""
    return f"{done.sent} alerts; {len(state.waiting)} were not delivered yet{why} ({teller.runbook_url}/delivery.md)"


def begin(cursor: str | None) -> State:
    """The first state; from the cursor of the sensor where an earlier version of it has run."""
    if not cursor:
        return State()
    old = json.loads(cursor)
    failing = {
        check: {days: Held(severity=severity, left=[days]) for days, severity in held.items()}
        for check, held in old["failing"].items()
    }
    return msgspec.structs.replace(State(), read=old["read"], failing=failing)
