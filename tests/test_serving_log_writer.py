"""A log that takes its time keeps nobody waiting without end, and gets nothing that nobody waits for any more."""

import asyncio
import threading

import pytest

from feature_store.errors import LogUnavailable
from feature_store.serving.log_writer import LogWriter


async def test_what_waited_too_long_behind_a_slow_log_is_never_published():
    begun, goes_on, log = threading.Event(), threading.Event(), []

    def slow(log):
        begun.set()
        goes_on.wait(30)
        log.append("slow")

    writer = LogWriter("payments", lambda: log)
    first = asyncio.ensure_future(writer.run(slow, within_s=30))
    await asyncio.to_thread(begun.wait, 30)
    with pytest.raises(LogUnavailable, match="'payments' did not answer within"):
        await writer.run(lambda log: log.append("late"), within_s=0.01)
    goes_on.set()
    await first
    await writer.run(lambda log: log.append("next"), within_s=30)
    writer.close()

    assert log == ["slow", "next"]


async def test_a_log_that_cannot_be_opened_is_opened_again_the_next_time():
    answers = [LogUnavailable("away"), []]

    def opened():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    writer = LogWriter("payments", opened)
    with pytest.raises(LogUnavailable, match="away"):
        await writer.run(len, within_s=30)

    assert await writer.run(len, within_s=30) == 0
    writer.close()
