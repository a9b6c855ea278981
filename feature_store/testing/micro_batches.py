"""Events as the stream takes them in: payloads by the source's decoder, in shuffled micro-batches, through the intake."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from feature_store.decoders import json
from feature_store.fold.intake import Accepted, Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.log.protocol import LogRecord
from feature_store.testing.chance import chance
from feature_store.testing.events import Given

_LARGEST = 5
"""Events in a micro-batch at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An event that was not taken."""

    source: str
    event: int
    """Its place in the list given."""
    kind: str
    """'rejected', 'duplicate' or 'conflict'."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What became of a source's events."""

    batches: Sequence[pa.Table]
    """Accepted events with their system columns, batch by batch; at least one batch."""
    rejected: Sequence[Rejection]


def take_in(given: Given, schema: pa.Schema, *, seed: int) -> TakenIn:
    """Send the events of a source through codec and intake, in an order of the seed's own."""
    payloads = (given.source.decode or json()).encode(given.rows.to_pylist())
    order = shuffled(given, chance(seed, given.source.name, "order"))
    intake = Intake(given.source, schema, known=KnownIds())
    batches: list[pa.Table] = []
    rejected: list[Rejection] = []
    start = 0
    for numbers in cut(order, chance(seed, given.source.name, "sizes")):
        records = [LogRecord(start + i, given.arrived_us[n], payloads[n]) for i, n in enumerate(numbers)]
        accepted = intake.accept(0, records, start=start)
        batches.append(accepted.events)
        rejected.extend(_rejections(given, accepted, order))
        start = accepted.end
    return TakenIn(batches=batches, rejected=sorted(rejected, key=lambda rejection: rejection.event))


def shuffled(given: Given, dice: random.Random) -> list[int]:
    """The events' numbers in a random order; those of one id keep the order of their arrival, as in a log."""
    ids = list(zip(*(given.rows.column(name).to_pylist() for name in given.source.id_columns), strict=True))
    waiting: dict[object, deque[int]] = defaultdict(deque)
    for number in given.in_log_order():
        waiting[ids[number]].append(number)
    order = list(range(len(ids)))
    dice.shuffle(order)
    return [waiting[ids[number]].popleft() for number in order]


def cut(order: Sequence[int], dice: random.Random) -> Iterator[Sequence[int]]:
    """Consecutive pieces of random sizes; one empty piece of nothing."""
    at = 0
    while at < len(order) or not at:
        size = dice.randint(1, _LARGEST)
        yield order[at : at + size]
        at += size


def _rejections(given: Given, accepted: Accepted, order: Sequence[int]) -> Iterator[Rejection]:
    for rejected in accepted.rejected:
        yield Rejection(
            source=given.source.name, event=order[rejected.offset], kind=rejected.kind, reason=rejected.reason
        )
