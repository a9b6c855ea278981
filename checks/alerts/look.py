"""One look: what has changed since the last, as messages, in the order in which it happened."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.repository_definition import RepositoryDefinition
from feature_store_deploy.checks.alerts.books import Happened, read_on
from feature_store_deploy.checks.alerts.failing import check_change, told_days
from feature_store_deploy.checks.alerts.message import FAILED, RECOVERED
from feature_store_deploy.checks.alerts.overdue import EVERY_S, find_overdue
from feature_store_deploy.checks.alerts.runs import entities, is_final, is_of, made_up, run_days, run_name, text, why
from feature_store_deploy.checks.alerts.state import FailedRun, Message, State
from feature_store_deploy.checks.alerts.told import Teller


def look(
    instance: dg.DagsterInstance,
    repository: RepositoryDefinition,
    state: State,
    teller: Teller,
    *,
    now_s: float,
    limit_s: float,
) -> list[Message]:
    """The messages of what has happened since the last look; `state` is moved on.

    Args:
        instance: whose books are read.
        repository: the definitions that are in force.
        state: what was known before.
        teller: makes the messages.
        now_s: the time, seconds since the epoch.
        limit_s: when a run is overdue, see `find_overdue`.
    """
    messages: list[Message] = []
    for each in read_on(instance, state.read):
        messages += _of_event(instance, state, teller, each)
        state.read = each.number
    if now_s - state.looked_s >= EVERY_S:
        messages += _of_overdue(instance, repository, state, teller, now_s=now_s, limit_s=limit_s)
    return messages


def _of_event(instance: dg.DagsterInstance, state: State, teller: Teller, happened: Happened) -> Iterator[Message]:
    evaluation = happened.evaluation
    if evaluation is not None:
        if evaluation.asset_key.path[0] == teller.env:
            change = check_change(state.failing, evaluation, _days_meant(instance, happened, evaluation))
            if change is not None:
                yield teller.of_evaluation(evaluation, change, at_s=happened.at_s)
        return
    failure = happened.event.event_type is dg.DagsterEventType.RUN_FAILURE
    if not failure and not state.runs:
        return
    run = instance.get_run_by_id(happened.run_id)
    if run is None:
        return
    if failure:
        yield from _of_failure(instance, state, teller, happened, run)
    else:
        yield from _of_success(instance, state, teller, happened, run)


def _days_meant(instance: dg.DagsterInstance, happened: Happened, evaluation: dg.AssetCheckEvaluation) -> str:
    """The days of a run's partitions are what its checks are about. A run without looks at the newest days: at now."""
    days = told_days(evaluation)
    run = instance.get_run_by_id(happened.run_id) if days else None
    return days if run is None or run_days(run) else ""


def _of_failure(
    instance: dg.DagsterInstance, state: State, teller: Teller, happened: Happened, run: dg.DagsterRun
) -> Iterator[Message]:
    of, days = entities(instance, run.run_id), run_days(run)
    said = why(instance, run.run_id, happened.event)
    if said is None or not is_final(run) or not is_of(of, teller.env):
        return
    owner, groups = teller.concern(of)
    left = {text(key): [days] for key in of} or {run.job_name: [days]}
    failed = FailedRun(name=run_name(run, of), days=days, owner=owner, groups=groups, left=left)
    state.runs[run.run_id] = failed
    yield teller.of_run(run.run_id, failed, FAILED, said=said, at_s=happened.at_s)


def _of_success(
    instance: dg.DagsterInstance, state: State, teller: Teller, happened: Happened, run: dg.DagsterRun
) -> Iterator[Message]:
    built = [text(key) for key in entities(instance, run.run_id)] or [run.job_name]
    for run_id in made_up(state.runs, built, run_days(run)):
        failed = state.runs.pop(run_id)
        yield teller.of_run(run_id, failed, RECOVERED, said="later runs have made up for it", at_s=happened.at_s)


def _of_overdue(
    instance: dg.DagsterInstance,
    repository: RepositoryDefinition,
    state: State,
    teller: Teller,
    *,
    now_s: float,
    limit_s: float,
) -> Iterator[Message]:
    found = {each.id: each for each in find_overdue(instance, repository, state, now_s=now_s, limit_s=limit_s)}
    for key in [key for key in state.overdue if key not in found]:
        yield teller.of_overdue_no_more(state.overdue.pop(key), at_s=now_s)
    for key, each in found.items():
        if key not in state.overdue:
            state.overdue[key] = teller.of_overdue(each, at_s=now_s)
            yield state.overdue[key]
