"""The publisher of a run: events late, early, twice and contradictory, by way of an outbox.

What it makes is written down before it is sent, and sent until it is acknowledged. So it may die at any moment, and
what the log has lost with its server can be sent again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError

from chaos.declared import SOURCE, Row, payment
from feature_store.clock import ManualClock
from feature_store.errors import FeatureStoreError
from feature_store.log.publish import publish_events
from feature_store.store import FeatureStore
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, SECOND_US, moment_us

if TYPE_CHECKING:
    from chaos.place import Place

BATCH = 4
PAUSE_S = 0.1
LATE_US = (0, 0, 0, 0, 0, 0, SECOND_US, 5 * SECOND_US, MINUTE_US, 10 * MINUTE_US, HOUR_US, DAY_US, 2 * DAY_US)
EARLY_US = 5 * SECOND_US
"""Ahead of the arrival, within the tolerance: a deployment is at rest once such events have begun to count."""
NEVER_US = -1


class Batch(msgspec.Struct):
    """A line of the outbox."""

    rows: list[Row]


def publish(place: Place) -> None:
    """Publish until this process is ended."""
    box = Outbox(place)
    with FeatureStore(settings=place.settings) as store:
        while True:
            box.obey_rewind()
            if box.unsent == 0 and not place.quiet.exists():
                box.add(store.clock.now_us())
            sent = box.unsent > 0 and _send(store, box)
            if not sent or box.unsent == 0:
                time.sleep(PAUSE_S)


def _send(store: FeatureStore, box: Outbox) -> bool:
    """Send the next batch; whether the log has taken it.

    What may have been sent before waits for the clock to be right: by one that is set back it would come from the future.
    What had been accepted before the log lost it would become a dead letter, and of what the log has taken without saying
    so the run would believe that it was refused.
    """
    arrived_us = store.clock.now_us()
    source = store.registry.source(SOURCE)
    if box.may_be_known and newest_us([box.next]) > arrived_us + source.future_tolerance_us:
        return False
    box.tried()
    try:
        publish_events(source, store.log(SOURCE), box.next.rows, clock=ManualClock(arrived_us))
    except (FeatureStoreError, RedisError, OSError):
        return False
    box.acknowledge(arrived_us)
    return True


class Outbox:
    """The batches that were made, and up to which they have been sent."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.batches = read_outbox(place)
        self._sent = sent_up_to(place)
        self._furthest = max((number + 1 for number, _ in read_sent(place)), default=0)
        self._tried = self._sent  # by the publisher that died, perhaps
        with place.outbox.open("ab+") as file:  # without the line that a crash has cut off
            file.truncate(file.tell() - len(_last_line(place)))

    @property
    def unsent(self) -> int:
        """How many batches wait."""
        return len(self.batches) - self._sent

    @property
    def may_be_known(self) -> bool:
        """Whether the log may have, or have had, the next batch already: acknowledged or not."""
        return self._sent < self._furthest or self._sent <= self._tried

    def tried(self) -> None:
        """The next batch is about to be sent: from now on the log may have it."""
        self._tried = max(self._tried, self._sent)

    @property
    def next(self) -> Batch:
        """The first that waits."""
        return self.batches[self._sent]

    def add(self, now_us: int) -> None:
        """Make a batch, and write it down."""
        batch = make_batch(self._place.seed, self.batches, now_us=now_us)
        with self._place.outbox.open("ab") as file:
            file.write(msgspec.json.encode(batch) + b"\n")
        self.batches.append(batch)

    def acknowledge(self, arrived_us: int) -> None:
        """The next batch is in the log."""
        with self._place.sent.open("a") as file:
            file.write(f"{self._sent} {arrived_us}\n")
        self._sent += 1
        self._furthest = max(self._furthest, self._sent)

    def obey_rewind(self) -> None:
        """Begin again where the run says."""
        if self._place.rewind.exists():
            self._sent = min(self._sent, int(self._place.rewind.read_text()))
            with self._place.sent.open("a") as file:
                file.write(f"{self._sent - 1} {NEVER_US}\n")
            self._place.rewind.unlink()


def read_outbox(place: Place) -> list[Batch]:
    """All batches; a line that was not finished is none."""
    data = place.outbox.read_bytes() if place.outbox.exists() else b""
    return [msgspec.json.decode(line, type=Batch) for line in data.split(b"\n")[:-1]]


def _last_line(place: Place) -> bytes:
    return place.outbox.read_bytes().rpartition(b"\n")[2]


def read_sent(place: Place) -> list[tuple[int, int]]:
    """Every batch that the log has acknowledged with its time of arrival; NEVER_US: sending begins again behind it."""
    lines = place.sent.read_text().split("\n")[:-1] if place.sent.exists() else []
    return [(int(number), int(arrived)) for number, arrived in map(str.split, lines)]


def newest_us(batches: Sequence[Batch]) -> int:
    """The latest time of any event."""
    return max((moment_us(row["paid_at"], "paid_at") for batch in batches for row in batch.rows), default=0)


def sent_up_to(place: Place) -> int:
    """The first batch that waits."""
    sent = read_sent(place)
    return sent[-1][0] + 1 if sent else 0


def make_batch(seed: int, before: list[Batch], *, now_us: int) -> Batch:
    """The next batch: what is in it follows from the seed and its number, its times from the clock."""
    draw = random.Random(f"{seed}/{len(before)}")
    rows = []
    for number in range(BATCH):
        at_us = now_us - draw.choice(LATE_US) + (EARLY_US if draw.random() < 0.02 else 0)
        step = draw.choice([1, 1, SECOND_US, 10 * SECOND_US])  # often where windows have their edges
        rows.append(payment(draw, name=f"p{len(before)}-{number}", at_us=at_us // step * step))
    if before and draw.random() < 0.3:
        old = draw.choice(before[-50:] if draw.random() < 0.7 else before).rows[0]
        rows.append(old if draw.random() < 0.8 else {**old, "amount": 13.0})
    draw.shuffle(rows)
    return Batch(rows=rows)
