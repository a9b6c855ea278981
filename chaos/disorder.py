"""One seed of a run: rounds of faults at random instants, each followed by rest and judgement."""

from __future__ import annotations

import heapq
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from chaos.backfill import backfill_once
from chaos.declared import SOURCE
from chaos.faults import FAULTS, Lasting
from chaos.judge import judge, read_all
from chaos.partitions import PartitionWatch
from chaos.publisher import newest_us, read_outbox, sent_up_to
from chaos.stack import ROLES, Stack
from chaos.watch import BELIEVED, Watch
from feature_store.errors import FeatureStoreError, LogTailLost
from feature_store.online.ready import read_ready

if TYPE_CHECKING:
    from chaos.findings import Findings
    from feature_store.log.protocol import EventLog

GAP_S = 0.5
"""Between two faults, on average."""
ROUND_S = 60.0
LOSING_S = 8.0
"""At the end of a round, when the server may lose something: what was served before has reached the lake by then."""
SLOWEST_S = 5.0
"""Faults that one which takes long has held up come close behind it, if it was no slower than this."""
LOOK_S = 0.1


@dataclass(slots=True)
class Disorder:
    """Draws faults, lets them happen, ends them."""

    stack: Stack
    draw: random.Random
    findings: Findings
    names: Sequence[str]
    """The faults to draw from."""
    _deck: list[str] = field(default_factory=list)
    _lasting: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _count: int = 0

    def happen(self, name: str) -> None:
        """Let one fault happen now."""
        self._count += 1
        try:
            lasting = FAULTS[name].act(self.stack, self.draw)
        except (RedisError, FeatureStoreError, OSError, sqlite3.Error):
            return  # what it would have broken is broken already
        if FAULTS[name].point is None:  # or who meets it notes it
            self.findings.faults[name] += 1
        if isinstance(lasting, Lasting):
            heapq.heappush(self._lasting, (time.monotonic() + lasting.seconds, self._count, lasting.end))

    def go_on(self, seconds: float) -> None:
        """Faults at random instants; one that makes the server lose something, if any is to be drawn, begins the last few
        seconds.
        """
        began = following = time.monotonic()
        losing_s = began + max(0.0, seconds - LOSING_S)
        losing = [name for name in self.names if FAULTS[name].loses]
        while (now := time.monotonic()) < began + seconds:
            self._end(before=now)
            if losing and now >= losing_s:
                self.happen(self.draw.choice(losing))
                losing = []
            elif now >= following:
                self.happen(self._next())
                following = max(following, now - SLOWEST_S) + self.draw.expovariate(1 / GAP_S)
            time.sleep(0.02)
        self.findings.disorder_s += time.monotonic() - began

    def happen_each(self, *, pause_s: float) -> None:
        """Every fault once, in order, with a pause behind each, which for a fail point ends when it is met."""
        for name in self.names:
            self.happen(name)
            point = FAULTS[name].point
            until_s = time.monotonic() + (pause_s if point is None else self.stack.patience_s)
            while (now := time.monotonic()) < until_s and (point is None or self.stack.place.armed(point).exists()):
                self._end(before=now)
                time.sleep(0.02)

    def narrow(self, *, without: Sequence[str]) -> None:
        """Draw these no more."""
        self.names = [name for name in self.names if name not in without]
        self._deck = [name for name in self._deck if name not in without]

    def _next(self) -> str:
        """The next fault of a shuffled deck, so that none is left out for long."""
        if not self._deck:
            names = [name for name in self.names if not FAULTS[name].loses] or self.names
            self._deck = [name for name in names for _ in range(FAULTS[name].weight)]
            self.draw.shuffle(self._deck)
        return self._deck.pop()

    def end_all(self) -> None:
        """End every fault that lasts, and disarm what nobody has met."""
        self._end(before=float("inf"))
        for point in self.stack.place.folder.joinpath("armed").iterdir():
            point.unlink(missing_ok=True)
        self.stack.bury_retired()

    def _end(self, *, before: float) -> None:
        while self._lasting and self._lasting[0][0] <= before:
            with suppress(RedisError, FeatureStoreError, OSError):
                heapq.heappop(self._lasting)[2]()


def run_seed(
    stack: Stack, findings: Findings, *, seconds: float, names: Sequence[str], seed: int, hits: int = 0
) -> None:
    """Run a deployment for so many seconds of disorder, in rounds, and for up to as many again until all seeds so far have
    met each fail point `hits` times.
    """
    backfill_once(stack.store)
    stack.start(*ROLES)
    disorder = Disorder(stack, random.Random(seed), findings, names)
    partitions = PartitionWatch(stack)
    partitions.start()
    rest(stack, findings)
    left_s = seconds
    try:
        while not findings.unsettled and (left_s > 0 or (left_s > -seconds and not has_met(findings, names, hits))):
            if left_s <= 0:  # points that were met often enough would hide the others
                disorder.narrow(
                    without=[name for name in names if FAULTS[name].point and findings.faults[name] >= hits]
                )
            run_round(disorder, min(left_s, ROUND_S) if left_s > 0 else ROUND_S)
            left_s -= ROUND_S
            sys.stdout.write(f"seed {seed}, so far: {findings}\n")
            sys.stdout.flush()
    finally:
        partitions.stop()
        findings.lost += len(partitions.partial)
        for line in partitions.partial[:5]:
            findings.tell(line)


def run_round(disorder: Disorder, seconds: float) -> None:
    """Disorder, rest, judgement."""
    stack, findings = disorder.stack, disorder.findings
    watch = Watch(stack)
    watch.start()
    stack.place.quiet.unlink(missing_ok=True)
    try:
        disorder.go_on(seconds)
    finally:
        disorder.end_all()
        findings.faults.update(take_met(stack))
    rest(stack, findings)
    watch.stop()
    wait_for_commits(stack, findings)
    judge(stack, watch, findings)


def has_met(findings: Findings, names: Sequence[str], hits: int) -> bool:
    """Whether each fail point was met so often, by all seeds so far."""
    return all(findings.faults[name] >= hits for name in names if FAULTS[name].point)


def take_met(stack: Stack) -> Counter[str]:
    """How often each fail point was met since the last call; none is armed now."""
    lines = stack.place.hits.read_text().split() if stack.place.hits.exists() else []
    stack.place.hits.unlink(missing_ok=True)
    return Counter(f"fail point {name}" for name in lines)


def rest(stack: Stack, findings: Findings) -> None:
    """Publish nothing new, and wait until everything has come through."""
    stack.place.quiet.touch()
    wait(stack, findings, "the publisher has sent everything", all_sent)
    wait(stack, findings, "the lake has all of the log", all_archived)
    wait(stack, findings, "the flow has read all of the log", all_folded)
    wait(stack, findings, "a reader believes all values", all_believed)


def all_sent(stack: Stack) -> bool:
    """Whether the log has acknowledged the whole outbox."""
    return not stack.place.rewind.exists() and sent_up_to(stack.place) == len(read_outbox(stack.place))


def all_archived(stack: Stack) -> bool:
    """Whether the lake has the log."""
    log, positions = stack.store.log(SOURCE), stack.store.lake.positions(SOURCE)
    return reach_the_end(log, {p: positions.get(p, log.begin(p)) for p in range(log.partitions)})


def all_folded(stack: Stack) -> bool:
    """Whether every shard has read the log, counts what was stamped ahead, and beats."""
    log, now_us = stack.store.log(SOURCE), stack.store.clock.now_us()
    ahead_us = newest_us(read_outbox(stack.place))
    records = [record for name, record in read_ready(stack.store.redis, "chaos").items() if name.isdigit()]
    return len(records) == stack.workers and all(
        abs(now_us - record.beat_us) < 5_000_000
        and record.beat_us > ahead_us
        and reach_the_end(log, record.positions.get(SOURCE, {}))
        for record in records
    )


def reach_the_end(log: EventLog, positions: Mapping[int, int]) -> bool:
    """Whether nothing is left to read. Where the log has lost what lies before a position, its reader has yet to notice."""
    try:
        return all(log.lag(partition, at) == 0 for partition, at in positions.items())
    except LogTailLost:
        return False


def all_believed(stack: Stack) -> bool:
    """Whether a reader believes every value."""
    _, vectors = read_all(stack)
    return all(status in BELIEVED for vector in vectors for status in vector.statuses)


def wait_for_commits(stack: Stack, findings: Findings) -> None:
    """Wait until the lake has the commits that stand in Redis now."""
    entries = stack.store.redis.xrevrange("commits:chaos", count=1)
    newest = tuple(map(int, entries[0][0].decode().split("-"))) if entries else (0, 0)

    def archived(stack: Stack) -> bool:
        lake = stack.store.lake
        if not lake.exists("stream_commits"):
            return False
        with lake.reading() as cursor:
            sql = f"SELECT max((split_part(entry, '-', 1)::BIGINT, split_part(entry, '-', 2)::BIGINT)) FROM {lake.table_sql('stream_commits')}"
            found = cursor.execute(sql).fetchone()[0]
        return found is not None and tuple(found) >= newest

    wait(stack, findings, "the lake has the commit records", archived)


def wait(stack: Stack, findings: Findings, what: str, condition: Callable[[Stack], bool]) -> None:
    """Wait for something; that it does not come is a finding."""
    deadline = time.monotonic() + stack.patience_s
    while True:
        said = ""
        try:
            if condition(stack):
                return
        except (RedisError, FeatureStoreError, OSError) as error:
            said = f": {error}"
        if time.monotonic() > deadline:
            findings.unsettled += 1
            findings.tell(f"it did not come to this: {what}{said}")
            return
        time.sleep(LOOK_S)
