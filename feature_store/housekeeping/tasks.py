"""All tasks, in the order in which they run: what goes from tables and logs first, the files that it leaves last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from feature_store.errors import FeatureStoreError, UnknownNameError
from feature_store.housekeeping.events import remove_old_events
from feature_store.housekeeping.files import compact, forget_snapshots
from feature_store.housekeeping.keys import remove_orphans
from feature_store.housekeeping.logs import trim_logs
from feature_store.housekeeping.retired import remove_retired
from feature_store.housekeeping.task import Options, Task, Tidied
from feature_store.online.refusal import worded

if TYPE_CHECKING:
    from feature_store.deployment import Deployment

TASKS = {
    task.name: task
    for task in (
        Task(name="retired", about="views and services that are declared no more", run=remove_retired),
        Task(name="keys", about="values and records in Redis that belong to nobody", run=remove_orphans),
        Task(name="events", about="events older than the retention of their source", run=remove_old_events),
        Task(name="logs", about="records of the logs that lake and stream have read", run=trim_logs),
        Task(name="compact", about="small files of the lake, merged", run=compact),
        Task(
            name="snapshots", about="old snapshots of the lake, and the files that only they read", run=forget_snapshots
        ),
    )
}


def housekeep(
    deployment: Deployment, options: Options, names: Sequence[str] = ()
) -> Iterator[tuple[str, Tidied | FeatureStoreError]]:
    """Run tasks, all by default; each says what it did, or why it could not: one that fails holds up no other.

    Raises:
        UnknownNameError: there is no such task; none is run.
    """
    for name in names:
        if name not in TASKS:
            raise UnknownNameError("task of housekeeping", name, TASKS)
    return _run(deployment, options, [task for task in TASKS.values() if not names or task.name in names])


def _run(
    deployment: Deployment, options: Options, tasks: Sequence[Task]
) -> Iterator[tuple[str, Tidied | FeatureStoreError]]:
    for task in tasks:
        try:
            yield task.name, task.run(deployment, options)
        except FeatureStoreError as error:
            yield task.name, error
        except RedisError as error:
            yield task.name, FeatureStoreError(worded(error))
