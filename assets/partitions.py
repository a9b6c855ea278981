"""Daily partitions: one definition for every asset, so that a backfill can run events and features together."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import dagster as dg

from feature_store.declare import EventSource, FeatureView
from feature_store.registry import Registry
from feature_store.time_rule import floor_us, from_us

HISTORY_POOL = "history"
"""Of runs that load and build days; how many work at a time is a setting of Dagster's instance."""
DEFAULT_START = date(2020, 1, 1)
"""Where the partitions begin if no source says since when it has a history."""


def daily_partitions(registry: Registry) -> dg.DailyPartitionsDefinition:
    """UTC days from the earliest history of any source to today, whose partition is incomplete until midnight."""
    return dg.DailyPartitionsDefinition(
        start_date=first_day(registry.sources.values()).isoformat(), timezone="UTC", end_offset=1
    )


def first_day(sources: Iterable[EventSource]) -> date:
    """The earliest day on which a source has events."""
    return min((source.history_start for source in sources if source.history_start), default=DEFAULT_START)


def lookback(view: FeatureView) -> dg.PartitionMapping:
    """The days of events that a day of a batch view's rows reads: back over its longest window."""
    days = view.lookback_days
    if days is None:
        return dg.AllPartitionMapping()
    return dg.TimeWindowPartitionMapping(start_offset=-days, end_offset=0, allow_nonexistent_upstream_partitions=True)


def newest_partition(now_us: int, *, every_us: int) -> str:
    """The day to which the newest complete step belongs; the step at midnight ends the day before."""
    return (from_us(floor_us(now_us, every_us)) - timedelta(microseconds=1)).date().isoformat()


def window_of(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """The UTC days of this run's partitions: from midnight to midnight, the end excluded."""
    window = context.partition_time_window
    return window.start, window.end
