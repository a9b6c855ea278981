"""Who computes the buckets of a batch: this process, processes of its own, or any `concurrent.futures` executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from feature_store.errors import FeatureStoreError, InputError, WorkerError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Workers, and what they share. What is small enough for one bucket is computed where it is asked for."""

    executor: Executor | None = None
    """Computes the buckets; its workers must see the lake's directory. By default processes, as long as they are needed."""
    count: int = 1
    """Workers: how many processes are started where there is no executor (1: none), and how many share the memory."""
    bucket_events: int = 8_000_000
    """Events held in memory at once, by all workers together; an entity's events are never divided."""
    memory_mb: int | None = None
    """What the DuckDBs of all workers may use before they spill to disk; DuckDB's own limit by default."""

    def __post_init__(self) -> None:
        if self.executor is not None and not isinstance(self.executor, Executor):
            raise InputError(
                f"`executor` must be a `concurrent.futures.Executor`, got a {type(self.executor).__name__}; "
                "a Dask client gives one by `client.get_executor()`"
            )

    def buckets(self, events: int) -> int:
        """How many buckets so many events make."""
        return 1 if events <= self.bucket_events else -(-events * self.count // self.bucket_events)

    @property
    def share_mb(self) -> int | None:
        """The memory of one worker."""
        return None if self.memory_mb is None else max(self.memory_mb // self.count, 64)

    def compute(self, function: Callable[[Task], Result], tasks: Sequence[Task], *, events: int) -> list[Result]:
        """`function` of every task, in their order.

        Args:
            function: of a module, so that any process finds it.
            tasks: values that can be pickled.
            events: how many the tasks hold together.

        Raises:
            WorkerError: a worker was lost, or an executor failed; what it says is in the error.
            FeatureStoreError: of `function`.
        """
        if self.executor is not None and events > self.bucket_events:
            return _gathered(self.executor, function, tasks)
        # A daemon, such as a worker of somebody's pool, may have no processes of its own.
        if events <= self.bucket_events or self.count == 1 or multiprocessing.current_process().daemon:
            return [function(task) for task in tasks]
        # Spawned, because a fork would copy the locks of DuckDB's threads.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self.count, len(tasks)), mp_context=context, initializer=_prepare) as pool:
            return _gathered(pool, function, tasks)


ALONE = Workers()
"""This process, bucket by bucket."""


def _gathered(executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    futures: list[Future[Result]] = []
    try:
        futures.extend(executor.submit(function, task) for task in tasks)
        return [future.result() for future in futures]
    except FeatureStoreError:
        raise
    except FileNotFoundError as error:
        raise WorkerError(
            f"a worker does not see {error.filename}, nothing was written; an executor's workers must see the lake's directory, "
            "under the same path"
        ) from error
    except BrokenExecutor as error:
        raise WorkerError(
            "a worker process ended before its work was done (killed, out of memory, or the script that asked for it "
            "starts processes while it is imported: keep its statements under `if __name__ == '__main__':`); "
            "nothing was written. Smaller buckets (`training_bucket_events`) or fewer workers (`batch_workers`) need less memory"
        ) from error
    except Exception as error:  # an executor of another kind has errors of its own
        raise WorkerError(
            f"the {type(executor).__name__} did not do its work, nothing was written: {type(error).__name__}: {error}"
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _prepare() -> None:
    """In each process of our own: end at once with Ctrl-C, and with whoever asked, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
