"""What a process of a run does to itself before it runs the product: fail points, a wrong clock, a guard removed.

None of it is in the product: the functions that it would call are wrapped here, where the process starts.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from feature_store import clock
from feature_store.fold import archive
from feature_store.fold.known_ids import KnownIds, Seen
from feature_store.lake import Lake
from feature_store.log import redis_streams
from feature_store.log.redis_streams import RedisStreamLog
from feature_store.online.writer import OnlineWriter

if TYPE_CHECKING:
    from chaos.place import Place

BEFORE, AFTER = "before", "after"

POINTS: Mapping[str, tuple[type, str, str]] = {
    # the archiver: lake commit, acknowledgement
    "archive-before-commit": (Lake, "append_live", BEFORE),
    "archive-after-commit": (Lake, "append_live", AFTER),
    "archive-after-acknowledgement": (archive.Archiver, "step", AFTER),
    # the flow: values, their commit record, acknowledgement
    "flow-before-write": (OnlineWriter, "_send", BEFORE),
    "flow-before-commit-record": (OnlineWriter, "_records", BEFORE),
    "flow-after-write": (OnlineWriter, "_send", AFTER),
    "flow-after-acknowledgement": (RedisStreamLog, "acknowledge", AFTER),
}
"""Fail point -> whose function, and whether the process dies before or after a call of it."""

GUARDS = ("dedup", "fence", "tail", "ack")


def prepare(place: Place, role: str) -> None:
    """Put everything in place for a process of this role."""
    shift_clock(place)
    for point, (owner, name, when) in POINTS.items():
        if point.partition("-")[0] == ("archive" if role == "archive" else "flow"):
            _place_fail_point(place, point, owner=owner, name=name, when=when)
    if place.guard is not None:
        remove_guard(place.guard)


def shift_clock(place: Place) -> None:
    """Let the clock of this process be wrong by what the run says, from now on."""

    def time_ns() -> int:
        try:
            return time.time_ns() + int(place.clock_shift.read_text() or "0") * 1000
        except FileNotFoundError:
            return time.time_ns()

    clock.time = SimpleNamespace(time_ns=time_ns)  # type: ignore[assignment]


def _place_fail_point(place: Place, point: str, *, owner: type, name: str, when: str) -> None:
    original: Callable[..., object] = getattr(owner, name)
    armed = place.armed(point)

    @wraps(original)
    def call(*args: object, **options: object) -> object:
        if when == BEFORE:
            _die_if(place, point, armed)
        found = original(*args, **options)
        if when == AFTER:
            _die_if(place, point, armed)
        return found

    setattr(owner, name, call)


def _die_if(place: Place, point: str, armed: os.PathLike[str]) -> None:
    """End this process as a crash does, if the point is armed and nobody else has met it."""
    try:
        os.unlink(armed)  # noqa: PTH108 - in the way of every batch
    except FileNotFoundError:
        return
    with place.hits.open("a") as hits:
        hits.write(f"{point}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def remove_guard(name: str) -> None:
    """Take one guard out of the product, as a defect would."""
    {"dedup": _no_deduplication, "fence": _no_fence, "tail": _no_epochs, "ack": _acknowledge_first}[name]()


def _no_deduplication() -> None:
    """Every event is new."""
    KnownIds.check = lambda self, event_ids, *given, **options: [Seen.NEW] * len(event_ids)  # type: ignore[method-assign]  # noqa: ARG005


def _no_fence() -> None:
    """Whoever writes is taken for the owner."""
    from feature_store_deploy.streams import sources

    from feature_store.online.fence import Fence

    sources.read_owner = lambda client, env: None  # type: ignore[assignment]  # noqa: ARG005
    Fence.check = lambda self, reply: None  # type: ignore[method-assign]  # noqa: ARG005


def _no_epochs() -> None:
    """A log that has lost its tail goes on as if nothing had been lost: nobody looks for the end of an epoch, or asks
    whether the log knows who reads.
    """
    # The number of the day's epoch again, after whatever: offsets are given out twice.
    redis_streams.scripts.START_EPOCH = redis_streams.scripts.START_EPOCH.replace(
        "math.max(current + 1, above + 1, math.floor(redis.call('TIME')[1] / 86400))",
        "math.max(current, math.floor(redis.call('TIME')[1] / 86400))",
    )

    def read(self: RedisStreamLog, partition: int, position: int, *, max_records: int = 10_000) -> object:
        return redis_streams._records(self._entries(partition, position, max_records))

    RedisStreamLog.read = read  # type: ignore[method-assign, assignment]
    RedisStreamLog.rejoin = RedisStreamLog.register  # type: ignore[method-assign]


def _acknowledge_first() -> None:
    """The archiver says that it needs nothing any more, and lets the log go, before the lake has it."""
    step, append, at_work = archive.Archiver.step, Lake.append_live, list[archive.Archiver]()

    def noted_step(self: archive.Archiver, **options: int) -> int:
        at_work[:] = [self]
        return step(self, **options)

    def late_append(self: Lake, *args: Any, end: Mapping[int, int], **options: Any) -> object:
        for archiver in at_work:
            archiver._log.acknowledge(archive.CONSUMER, end)
            archiver._log.trim()
        return append(self, *args, end=end, **options)

    archive.Archiver.step = noted_step  # type: ignore[method-assign]
    Lake.append_live = late_append  # type: ignore[method-assign, assignment]
