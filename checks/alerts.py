"""Alerts: a failed check, and its recovery, posted to a webhook once each.

A failed check does not fail its run, so the sensor reads the evaluations themselves, in their order. What is failing,
and how far it has read, is the sensor's cursor; an evaluation whose alert could not be delivered is read again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.storage.event_log import SqlEventLogStorage
from feature_store_deploy.checks.declared import DAYS, OWNER
from feature_store_deploy.checks.window import Days

INTERVAL_S = 10
READ_AT_ONCE = 200
TIMEOUT_S = 5.0

Failing = dict[str, dict[str, str]]
"""Check -> its failing days ('' where it is not about days) -> severity."""
Post = Callable[[Mapping[str, object]], None]
"""Delivers one alert, or raises DeliveryError."""


class DeliveryError(Exception):
    """An alert could not be delivered."""


@dataclass(slots=True)
class Cursor:
    """What the sensor remembers."""

    read: int = 0
    """The last evaluation read, by its number in Dagster's books."""
    failing: Failing = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `str` wrote; nothing is a fresh start."""
        return cls(**json.loads(text)) if text else cls()

    def __str__(self) -> str:
        return json.dumps({"read": self.read, "failing": self.failing}, sort_keys=True)


def transition(evaluation: AssetCheckEvaluation, failing: Failing) -> tuple[str | None, Failing]:
    """What an evaluation changes: 'failed', 'recovered' or None, and what is failing afterwards.

    A check that failed for some days recovers when it passes for days that hold them all.
    """
    name, days = check_name(evaluation), told_days(evaluation)
    before = failing.get(name, {})
    if not evaluation.passed:
        after = before | {days: evaluation.severity.value}
        return ("failed" if days not in before else None), failing | {name: after}
    after = {held: severity for held, severity in before.items() if not _covers(days, held)}
    rest = {other: value for other, value in failing.items() if other != name}
    return ("recovered" if before and not after else None), rest | ({name: after} if after else {})


def check_name(evaluation: AssetCheckEvaluation) -> str:
    """`asset:check`."""
    return f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"


def told_days(evaluation: AssetCheckEvaluation) -> str:
    """The days that an evaluation is about; '' for none."""
    if DAYS in evaluation.metadata:
        return str(evaluation.metadata[DAYS].value)
    return evaluation.partition or ""


def _covers(days: str, held: str) -> bool:
    if not days or not held:
        return True
    outer, inner = Days.parse(days), Days.parse(held)
    return outer.first <= inner.first and inner.last <= outer.last


def alert(evaluation: AssetCheckEvaluation, change: str, *, ui_url: str) -> dict[str, object]:
    """The JSON that is posted; `text` is what Slack and its kin show."""
    asset, days = evaluation.asset_key.to_user_string(), told_days(evaluation)
    owner = str(evaluation.metadata[OWNER].value) if OWNER in evaluation.metadata else "nobody"
    link = f"{ui_url}/assets/{'/'.join(evaluation.asset_key.path)}?view=checks&checkDetail={evaluation.check_name}"
    severity, about = evaluation.severity.value, f" ({days})" if days else ""
    said = evaluation.description or ""
    return {
        "text": f"{change.upper()}: {evaluation.check_name} of {asset}{about}: {said} [{severity}, {owner}] {link}",
        "state": change,
        "check": evaluation.check_name,
        "asset": asset,
        "partition": days,
        "severity": severity,
        "owner": owner,
        "description": said,
        "link": link,
    }


def webhook(url: str) -> Post:
    """Posts JSON to an address; anything but a success is a DeliveryError."""

    def post(message: Mapping[str, object]) -> None:
        import httpx  # takes a tenth of a second

        try:
            httpx.post(url, json=message, timeout=TIMEOUT_S).raise_for_status()
        except httpx.HTTPError as error:
            raise DeliveryError(f"the alert was not delivered to the webhook: {error}") from error

    return post


def build_alert_sensor(*, env: str, webhook_url: str | None, ui_url: str) -> dg.SensorDefinition:
    """The sensor of an environment. Without a webhook alerts stand in its log alone."""

    @dg.sensor(
        name=f"{env}__check_alerts",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Says when a check fails and when it recovers: log, and the webhook of the settings",
    )
    def check_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        cursor = Cursor.parse(context.cursor)
        post = webhook(webhook_url) if webhook_url else None
        told, problem = tell_changes(context, cursor, post=post, env=env, ui_url=ui_url)
        context.update_cursor(str(cursor))
        return dg.SkipReason(problem or f"{told} alerts")

    return check_alerts


def tell_changes(
    context: dg.SensorEvaluationContext, cursor: Cursor, *, post: Post | None, env: str, ui_url: str
) -> tuple[int, str | None]:
    """Read on from the cursor and move it; returns how many alerts there were, and what went wrong."""
    told = 0
    for number, evaluation in _evaluations(context.instance, cursor.read):
        change, failing = transition(evaluation, cursor.failing)
        if change is not None and evaluation.asset_key.path[0] == env:
            message = alert(evaluation, change, ui_url=ui_url)
            context.log.warning(str(message["text"]))
            try:
                if post is not None:
                    post(message)
            except DeliveryError as error:
                return told, str(error)
            told += 1
        cursor.read, cursor.failing = number, failing
    return told, None


def _evaluations(instance: dg.DagsterInstance, after: int) -> list[tuple[int, AssetCheckEvaluation]]:
    """The evaluations that follow a number, in order, with their numbers."""
    wanted = dg.EventRecordsFilter(event_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=after)
    # In SQLite the instance itself would ask each run's own file, where numbers begin anew; evaluations also stand in
    # the common index, which is where every SQL storage looks for them.
    storage = cast("SqlEventLogStorage", instance.event_log_storage)
    records = SqlEventLogStorage.get_event_records(storage, wanted, limit=READ_AT_ONCE, ascending=True)
    found = []
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and isinstance(event.event_specific_data, AssetCheckEvaluation):
            found.append((record.storage_id, event.event_specific_data))
    return found
