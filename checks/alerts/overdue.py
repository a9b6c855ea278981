"""What should be over by now: schedules without a tick, sensors that are switched off or whose ticks all fail, runs that wait or work for too long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.repository_definition import RepositoryDefinition
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, TickStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._utils.schedules import reverse_cron_string_iterator
from feature_store_deploy.checks.alerts.runs import Entity, entities, run_days, run_name
from feature_store_deploy.checks.alerts.state import State

EVERY_S = 60.0
"""How often somebody looks."""
PAUSE_S = 300.0
"""Whoever has not looked for so long was away, and Dagster's schedules too."""
LEAST_GRACE_S = 300.0
SENSOR_INTERVALS = 3
"""For so many of its intervals a sensor may fail."""
MOST_RUNS = 500

_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_WORKING = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """One thing that should be over."""

    id: str
    """Tells it from everything else."""
    name: str
    days: str
    of: Sequence[Entity]
    """What it was to build."""
    said: str
    late_s: float
    """Since when it waits, works or is missing, in seconds."""
    limit_s: float
    run_id: str | None = None


def find_overdue(
    instance: dg.DagsterInstance, repository: RepositoryDefinition, state: State, *, now_s: float, limit_s: float
) -> list[Overdue]:
    """Everything that is overdue now.

    Args:
        instance: whose books are read.
        repository: the definitions.
        state: remembers which schedules there were, and since when somebody looks.
        now_s: the time, seconds since the epoch.
        limit_s: how long a run may wait or work, and how long after its time a schedule may come at most.
    """
    if now_s - state.looked_s > PAUSE_S:
        state.awake_s = now_s
    state.looked_s = now_s
    return [
        *_schedules(instance, repository, state, now_s=now_s, limit_s=limit_s),
        *_sensors(instance, repository, now_s=now_s),
        *_runs(instance, now_s=now_s, limit_s=limit_s),
    ]


def _schedules(
    instance: dg.DagsterInstance, repository: RepositoryDefinition, state: State, *, now_s: float, limit_s: float
) -> Iterator[Overdue]:
    if instance.schedule_storage is None:
        return  # where no schedule can tick, none is late
    declared = [each for each in repository.schedule_defs if each.default_status is dg.DefaultScheduleStatus.RUNNING]
    seen = state.schedules
    state.schedules = {each.name: seen.get(each.name, now_s) for each in declared}
    known = {
        each.instigator_name: each for each in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    }
    for schedule in declared:
        due_s, grace_s = _due(schedule, now_s=now_s, limit_s=limit_s)
        if due_s < state.schedules[schedule.name] or now_s < max(due_s, state.awake_s) + grace_s:
            continue
        books = known.get(schedule.name)
        if books is None or not _ticks(instance, books, due_s, (TickStatus.SUCCESS, TickStatus.SKIPPED)):
            job = repository.get_job(schedule.job_name) if repository.has_job(schedule.job_name) else None
            yield Overdue(
                id=f"schedule:{schedule.name}",
                name=schedule.name,
                days="",
                of=sorted(job.asset_layer.selected_asset_keys) if job is not None else (),
                said=f"no run was asked for at {_clock(due_s)}: {_reason(instance, books, due_s)}",
                late_s=now_s - due_s,
                limit_s=grace_s,
            )


def _sensors(instance: dg.DagsterInstance, repository: RepositoryDefinition, *, now_s: float) -> Iterator[Overdue]:
    """Sensors that somebody has switched off though they should run, and those that have failed of late and done nothing else."""
    if instance.schedule_storage is None:
        return
    known = {
        each.instigator_name: each for each in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    }
    for sensor in repository.sensor_defs:
        books = known.get(sensor.name)
        if books is None:
            continue
        if not books.is_running:
            if sensor.default_status is dg.DefaultSensorStatus.RUNNING:
                yield _sensor(sensor, "the sensor is switched off")
            continue
        grace_s = max(LEAST_GRACE_S, SENSOR_INTERVALS * float(sensor.minimum_interval_seconds or 0))
        ended = (TickStatus.SUCCESS, TickStatus.SKIPPED)
        failed = _ticks(instance, books, now_s - grace_s, (TickStatus.FAILURE,))
        if failed and not _ticks(instance, books, now_s - grace_s, ended):
            yield _sensor(sensor, "each tick of the sensor fails", late_s=grace_s)


def _sensor(sensor: dg.SensorDefinition, said: str, *, late_s: float = 0.0) -> Overdue:
    return Overdue(
        id=f"sensor:{sensor.name}", name=sensor.name, days="", of=(), said=said, late_s=late_s, limit_s=late_s
    )


def _due(schedule: dg.ScheduleDefinition, *, now_s: float, limit_s: float) -> tuple[float, float]:
    """The newest time that should have been served by now, and how long after it that is said: an interval, within limits."""
    newest, before = _times(schedule, now_s)
    grace_s = min(max(newest - before, LEAST_GRACE_S), max(limit_s, LEAST_GRACE_S))
    return _times(schedule, now_s - grace_s)[0], grace_s


def _times(schedule: dg.ScheduleDefinition, before_s: float) -> list[float]:
    """The last two times of a schedule that are not after a time, the newest first."""
    crons = [schedule.cron_schedule] if isinstance(schedule.cron_schedule, str) else schedule.cron_schedule
    found: list[float] = []
    for cron in crons:
        times = reverse_cron_string_iterator(before_s, cron, schedule.execution_timezone)
        found += [next(times).timestamp(), next(times).timestamp()]
    return sorted(found, reverse=True)[:2]


def _ticks(instance: dg.DagsterInstance, of: InstigatorState, since_s: float, statuses: Sequence[TickStatus]) -> bool:
    found = instance.get_ticks(
        of.instigator_origin_id, of.selector_id, after=since_s - 1, limit=1, statuses=list(statuses)
    )
    return bool(found)


def _reason(instance: dg.DagsterInstance, books: InstigatorState | None, due_s: float) -> str:
    if books is not None and not books.is_running:
        return "the schedule is switched off"
    if books is not None and _ticks(instance, books, due_s, (TickStatus.FAILURE,)):
        return "its tick failed"
    return "it has not ticked"


def _runs(instance: dg.DagsterInstance, *, now_s: float, limit_s: float) -> Iterator[Overdue]:
    wanted = dg.RunsFilter(statuses=[*_WAITING, *_WORKING])
    for record in instance.get_run_records(wanted, limit=MOST_RUNS, ascending=True):
        run = record.dagster_run
        works = run.status in _WORKING
        late_s = now_s - (record.start_time if works and record.start_time else _created_s(record))
        # Most runs of a backfill wait for the others of it.
        if late_s < limit_s or (not works and BACKFILL_ID_TAG in run.tags):
            continue
        of = entities(instance, run.run_id)
        yield Overdue(
            id=f"run:{run.run_id}",
            name=run_name(run, of),
            days=run_days(run),
            of=of,
            said=f"the run {'works' if works else 'waits'} for {late_s / 60:,.0f} minutes",
            late_s=late_s,
            limit_s=limit_s,
            run_id=run.run_id,
        )


def _created_s(record: RunRecord) -> float:
    created = record.create_timestamp
    return (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()


def _clock(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
