"""What has happened, from Dagster's books: evaluations and the ends of runs, in one order."""

from typing import NamedTuple, cast

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.storage.event_log import SqlEventLogStorage

READ_AT_ONCE = 200
_KINDS = (
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
)


class Happened(NamedTuple):
    """One event."""

    number: int
    """In Dagster's books."""
    at_s: float
    run_id: str
    event: dg.DagsterEvent

    @property
    def evaluation(self) -> AssetCheckEvaluation | None:
        """What a check said, if it is that."""
        data = self.event.event_specific_data
        return data if isinstance(data, AssetCheckEvaluation) else None


def read_on(instance: dg.DagsterInstance, after: int) -> list[Happened]:
    """The events that follow a number, in order; at most `READ_AT_ONCE`."""
    found = [each for kind in _KINDS for each in _read(instance, kind, after)]
    return sorted(found, key=lambda each: each.number)[:READ_AT_ONCE]


def _read(instance: dg.DagsterInstance, kind: dg.DagsterEventType, after: int) -> list[Happened]:
    wanted = dg.EventRecordsFilter(event_type=kind, after_cursor=after)
    # In SQLite the instance itself would ask each run's own file, where numbers begin anew; these events also stand in
    # the common index, which is where every SQL storage looks for them.
    storage = cast("SqlEventLogStorage", instance.event_log_storage)
    records = SqlEventLogStorage.get_event_records(storage, wanted, limit=READ_AT_ONCE, ascending=True)
    return [
        Happened(record.storage_id, record.event_log_entry.timestamp, record.event_log_entry.run_id, event)
        for record in records
        if (event := record.event_log_entry.dagster_event) is not None
    ]
