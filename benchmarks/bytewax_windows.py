"""The six features of `benchmarks.stream` by Bytewax's own operators: event-time clock, sliding windows, a fold each.

Prints events a second until the last event is folded. Nothing is written to Redis and no window is emitted by then:
what is measured is a part of the work, so the comparison errs in favour of the operators.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.testing import TestingSink, run_main

from feature_store.time_rule import default_hop_us, parse_duration

BATCH = 500
OVER = ("1h", "24h")
ALIGN = datetime(2024, 1, 1, tzinfo=UTC)

State = tuple[int, float, float]
"""Count, sum, max."""


class Event(msgspec.Struct):
    uid: str
    user: str
    at: datetime
    amount: float


class Payloads(DynamicSource[bytes]):
    """Events as the log holds them; notes when the first one was handed out."""

    def __init__(self, count: int) -> None:
        draw, now = random.Random(3), datetime.now(UTC)
        encode = msgspec.json.Encoder().encode
        self.payloads = [encode(Event(f"e{n}", f"u{n}", now, round(draw.uniform(0, 100), 2))) for n in range(count)]
        self.began = 0.0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSourcePartition[bytes]:
        del step_id, worker_index, worker_count
        return _Partition(self)


class _Partition(StatelessSourcePartition[bytes]):
    def __init__(self, source: Payloads) -> None:
        self._source, self._at = source, 0

    def next_batch(self) -> list[bytes]:
        source = self._source
        if self._at == 0:
            source.began = time.perf_counter()
        if self._at >= len(source.payloads):
            raise StopIteration
        self._at += BATCH
        return source.payloads[self._at - BATCH : self._at]


def flow(source: Payloads) -> Dataflow:
    """Two sliding windows a feature pair shares, moved by the hops that the feature store uses."""
    made = Dataflow("windows")
    decoded = op.map("decode", op.input("read", made, source), msgspec.json.Decoder(Event).decode)
    keyed = op.key_on("by_user", decoded, lambda event: event.user)
    clock = win.EventClock(lambda event: event.at, wait_for_system_duration=timedelta(minutes=1))
    closed = []
    for over in OVER:
        length = parse_duration(over)
        windower = win.SlidingWindower(
            length=timedelta(microseconds=length),
            offset=timedelta(microseconds=default_hop_us(length)),
            align_to=ALIGN,
        )
        folded = win.fold_window(f"fold_{over}", keyed, clock, windower, lambda: (0, 0.0, 0.0), add, merge)
        closed.append(op.map(f"finish_{over}", folded.down, finish))
    op.output("drop", op.merge("merge", *closed), TestingSink([]))
    return made


class Folded:
    """How many events have been folded into windows, and when the last one was."""

    count, at = 0, 0.0


def add(state: State, event: Event) -> State:
    Folded.count, Folded.at = Folded.count + 1, time.perf_counter()
    count, total, largest = state
    return count + 1, total + event.amount, max(largest, event.amount)


def merge(one: State, other: State) -> State:
    return one[0] + other[0], one[1] + other[1], max(one[2], other[2])


def finish(closed: tuple[str, tuple[int, State]]) -> tuple[str, int, int, float, float]:
    user, (window, (count, total, largest)) = closed
    return user, window, count, total / count, largest


if __name__ == "__main__":
    payloads = Payloads(int(sys.argv[1]))
    run_main(flow(payloads))
    wanted = sum(parse_duration(over) // default_hop_us(parse_duration(over)) for over in OVER)
    if Folded.count != wanted * len(payloads.payloads):
        raise SystemExit(f"each event must be in {wanted} windows, but {Folded.count} were folded")
    print(len(payloads.payloads) / (Folded.at - payloads.began))
