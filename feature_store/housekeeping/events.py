"""Events older than their source's retention: a day goes when all that was made of it stands, and nothing reads it again.

Days go from the oldest on, up to the first that something holds. What holds a day:

- a view whose tiles or rows of a day that reads it are not built, or are still to be built again because events came;
- rows of a batch view that readers are served: `verify` computes them again;
- records of the log that were not read: any that arrived within the retention may belong to the day;
- a view that is applied and not declared here, since nobody can say what it reads.

Training sets, values of streams and labels need no hold: their windows are shorter than the retention, which the registry
checks, and a snapshot that a training set has pinned still has the events that were removed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from feature_store.catalog.names import history_path
from feature_store.changing.applied import read_applied, view_of
from feature_store.history.kept import first_needed
from feature_store.housekeeping.task import Kept, Options, Tidied, counted
from feature_store.lake.view_tables import built_table
from feature_store.time_rule import DAY_US, from_us

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView
    from feature_store.deployment import Deployment
    from feature_store.lake import Lake
    from feature_store.lake.retention import OldEvents

BATCH_DAYS = 31
"""Days that go in one transaction."""
SLACK_US = DAY_US
"""How much longer than its retention an event stays: clocks of publishers differ."""


class Hold(NamedTuple):
    """Events from a day on that must stay."""

    first: date
    why: str


def remove_old_events(deployment: Deployment, options: Options) -> Tidied:
    """Remove the events of every source that are older than its retention and that nothing needs."""
    gone: dict[str, list[OldEvents]] = {}
    events: dict[str, int] = {}
    kept: list[Kept] = []
    for name, source in deployment.compiled.registry.sources.items():
        if source.retention_us is None or not deployment.lake.has_source(name):
            continue
        old, holds = _old(deployment, source)
        first = min((hold.first for hold in holds), default=date.max)
        gone[name] = [each for each in old if each.day < first]
        kept += [Kept(f"events of {name} from {hold.first} on", hold.why) for hold in holds]
        if options.dry_run:
            events[name] = sum(each.events for each in gone[name])
        else:
            events[name] = _remove(deployment.lake, name, [each.day for each in gone[name]])
    return Tidied(
        task="events",
        figures={
            "days": sum(len(days) for days in gone.values()),
            "events": sum(events.values()),
            "bytes": sum(each.size_bytes for days in gone.values() for each in days),
        },
        details={
            name: f"{counted(len(days), 'day')} up to {days[-1].day}; {counted(events[name], 'event')}"
            for name, days in gone.items()
            if days
        },
        kept=kept,
    )


def _remove(lake: Lake, source: str, days: Sequence[date]) -> int:
    """How many events went."""
    return sum(
        lake.retention.remove(source, days[first : first + BATCH_DAYS]) for first in range(0, len(days), BATCH_DAYS)
    )


def _old(deployment: Deployment, source: EventSource) -> tuple[list[OldEvents], list[Hold]]:
    """Days past the retention that have events, and what holds some of them."""
    assert source.retention_us is not None
    before = _day(deployment.clock.now_us() - source.retention_us - SLACK_US)
    old = deployment.lake.retention.old_events(source.name, before=before)
    if not old:
        return [], []
    first, last = old[0].day, old[-1].day
    kept = deployment.lake.retention.kept_from(source.name) or date.min
    known = [day for day in deployment.lake.days(source.name).known if first <= day]
    holds = [*_of_strangers(deployment, first), *_of_log(deployment, source)]
    for view in deployment.compiled.registry.views_of(source.name):
        asked = [day for day in known if kept <= first_needed(view, day) <= last]
        holds += _of_builds(deployment.lake, view, asked, first)
        holds += _of_publication(deployment.lake, view)
    return old, sorted(hold for hold in holds if hold.first <= last)


def _of_strangers(deployment: Deployment, first: date) -> Iterator[Hold]:
    declared = {view.id for view in deployment.compiled.registry.views}
    applied = {view_of(name) for name in read_applied(deployment.lake).meanings.features}
    for view in sorted(applied - declared):
        yield Hold(first, f"view '{view}' is applied but not declared here, so what it reads is not known: retire it")


def _of_log(deployment: Deployment, source: EventSource) -> Iterator[Hold]:
    """What a consumer has not read, or the archiver has not brought to the lake, may have happened a retention before it arrived."""
    assert source.retention_us is not None
    if source.log is None:
        return
    log = deployment.log(source.name)
    readers = {"lake": deployment.lake.positions(source.name), **log.consumers()}
    for consumer, positions in readers.items():
        for partition in range(log.partitions):
            begin = log.begin(partition)
            unread = log.read(partition, max(positions.get(partition, begin), begin), max_records=1)
            if unread:
                first = _day(unread[0].arrived_us - source.retention_us - SLACK_US)
                yield Hold(
                    first,
                    f"consumer '{consumer}' of the log has not read what arrived since {_when(unread[0].arrived_us)}",
                )


def _of_builds(lake: Lake, view: FeatureView, days: Sequence[date], first: date) -> Iterator[Hold]:
    """Of days that read old events, which begin with the day `first`, those that are still to be built."""
    table = built_table(view)
    sealed = _sealed(lake, view, table)
    missing = [day for day in days if day not in sealed]
    if missing:
        span = f"{missing[0]}" if len(missing) == 1 else f"{len(missing)} days from {missing[0]} to {missing[-1]}"
        command = f"feature-store backfill {'/'.join(history_path(view))} --start {missing[0]}"
        yield Hold(max(first_needed(view, missing[0]), first), f"{table} is not built for {span}: `{command} ...`")


def _sealed(lake: Lake, view: FeatureView, table: str) -> set[date]:
    """Days of a view that nobody builds again: those that are built from what there is now, and of rows that late events
    leave as they were all that were built once the day was over.
    """
    if not lake.exists(table):
        return set()
    sealed = set(lake.builds.fresh_days(table, source=view.source.name))
    return (
        sealed | set(lake.builds.completed_days(table)) if view.is_batch and view.late_events != "recompute" else sealed
    )


def _of_publication(lake: Lake, view: FeatureView) -> Iterator[Hold]:
    """The rows that readers are served now."""
    published = lake.publications.of(built_table(view)) if view.is_batch else []
    if published and view.longest_window_us is not None:
        row_us = max(each.row_us for each in published)
        yield Hold(
            _day(row_us - view.longest_window_us), f"readers are served rows of {_when(row_us)} of view '{view.id}'"
        )


def _when(time_us: int) -> str:
    return f"{from_us(time_us):%Y-%m-%d %H:%M} UTC"


def _day(time_us: int) -> date:
    return from_us(time_us).date()
