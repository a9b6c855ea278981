"""What an evaluation of a check changes: pure over what is failing."""

import dagster as dg
from feature_store_deploy.checks.alerts.message import FAILED, RECOVERED
from feature_store_deploy.checks.alerts.spans import without
from feature_store_deploy.checks.alerts.state import Held
from feature_store_deploy.checks.declared import DAYS

Failing = dict[str, dict[str, Held]]


def check_change(failing: Failing, evaluation: dg.AssetCheckEvaluation, days: str) -> str | None:
    """What an evaluation changes: `FAILED`, `RECOVERED` or None; `failing` is as it stands afterwards.

    A check that failed for some days has recovered when it has passed for all of them since, in one piece or in parts.
    A warning that becomes an error is a change of state, too.

    Args:
        failing: what was failing before.
        evaluation: what a check said.
        days: the days it is about; '' if it is about how things are now, whatever days it looked at.
    """
    name = check_name(evaluation)
    held = failing.get(name, {})
    if not evaluation.passed:
        severity, before = evaluation.severity.value, held.get(days)
        failing[name] = held | {days: Held(severity=severity, left=[days])}
        worse = before is not None and (before.severity, severity) == ("WARN", "ERROR")
        return FAILED if before is None or worse else None
    if not held:
        return None
    for told in list(held):
        left = without(held[told].left, days)
        if left:
            held[told].left = left
        else:
            del held[told]
    if held:
        return None
    del failing[name]
    return RECOVERED


def check_name(evaluation: dg.AssetCheckEvaluation) -> str:
    """`asset:check`."""
    return f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"


def told_days(evaluation: dg.AssetCheckEvaluation) -> str:
    """The days that an evaluation has looked at; '' for none."""
    if DAYS in evaluation.metadata:
        return str(evaluation.metadata[DAYS].value)
    return evaluation.partition or ""
