"""Publishing to a log from an event loop: the log is kept open, and nobody waits for it without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from feature_store.errors import LogUnavailable

if TYPE_CHECKING:
    from feature_store.log.protocol import EventLog

Result = TypeVar("Result")


class LogWriter:
    """One source's log, used by a thread of its own: one of Kafka is safe for one thread alone, and while a broker is away
    only those who publish to it wait.
    """

    def __init__(self, source: str, open_it: Callable[[], EventLog]) -> None:
        self._source, self._open = source, open_it
        self._log: EventLog | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"publish-{source}")

    async def run(self, step: Callable[[EventLog], Result], *, within_s: float) -> Result:
        """Do something with the log, after all who came before.

        Raises:
            LogError: the log cannot be opened, or whatever the step raises.
            LogUnavailable: it was not done in time. What had not begun by then is never done.
        """
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, step)
        except TimeoutError:
            raise LogUnavailable(
                f"the log of source '{self._source}' did not answer within {within_s:g} s; events may have been written, "
                "publishing all of them again is safe"
            ) from None

    def _do(self, step: Callable[[EventLog], Result]) -> Result:
        if self._log is None:
            self._log = self._open()
        return step(self._log)

    def close(self) -> None:
        """Take nothing more; what is under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
