"""The fault harness: a bounded run finds nothing, and without a guard of the product something is found."""

import random
from contextlib import nullcontext

import pytest
from stream_world import NOW_US, SOURCE, World, rows

from chaos.backfill import backfill_once
from chaos.disorder import Disorder, all_believed, rest, take_met, wait, wait_for_commits
from chaos.faults import FAULTS
from chaos.findings import Findings
from chaos.judge import judge
from chaos.launcher import remove_guard
from chaos.partitions import PartitionWatch
from chaos.stack import ROLES, Stack
from chaos.watch import Watch
from feature_store.errors import FlowSuperseded, LogGap
from feature_store.fold.archive import Archiver
from feature_store.fold.known_ids import KnownIds
from feature_store.lake import Lake
from feature_store.log import scripts
from feature_store.log.redis_streams import RedisStreamLog
from feature_store.online.fence import Fence
from feature_store.time_rule import MINUTE_US

PATIENCE_S = 240.0
TELLING = [
    "fail point archive-after-commit",
    "publisher killed",
    "worker stopped",
    "clock set back",
    "server killed",
    "fail point flow-before-commit-record",
    "catalog locked",
    "backfill killed",
    "flow woken after its successor took over",
    "archiver killed",
    "disk full",
]
GUARDED = [
    (KnownIds, "check"),
    (Fence, "check"),
    (RedisStreamLog, "read"),
    (RedisStreamLog, "rejoin"),
    (Archiver, "step"),
    (scripts, "START_EPOCH"),
]


@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_served_wrong_when_everything_fails_once(tmp_path):
    findings = Findings()
    with Stack(tmp_path, seed=7, workers=1, patience_s=PATIENCE_S) as stack:
        backfill_once(stack.store)
        stack.start(*ROLES)
        disorder, watch = Disorder(stack, random.Random(7), findings, TELLING), Watch(stack)
        partitions = PartitionWatch(stack)
        partitions.start()
        watch.start()
        wait(stack, findings, "a reader believes all values", all_believed)
        disorder.happen_each(pause_s=0.3)
        disorder.end_all()
        rest(stack, findings)
        watch.stop()
        partitions.stop()
        wait_for_commits(stack, findings)
        judge(stack, watch, findings)

        assert findings.is_clean, "\n".join(findings.told)
        assert partitions.looks
        assert partitions.partial == []
        assert findings.values > len(stack.entities()), "nothing was read and compared"
        assert take_met(stack) == {name: 1 for name in TELLING if FAULTS[name].point}
        assert findings.faults.total() >= len(TELLING) - 4, "a fault may find what it breaks broken already"


@pytest.fixture
def unguarded(monkeypatch):
    """Removes a guard until the test ends."""
    for owner, name in GUARDED:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    return remove_guard


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def live_events(world):
    with world.lake.cursor() as cursor:
        table = world.lake.table_sql(f"events_{SOURCE}_live")
        return [row[0] for row in cursor.execute(f"SELECT _event_id FROM {table}").fetchall()]


@pytest.mark.parametrize(("removed", "copies"), [(False, 1), (True, 2)])
def test_without_deduplication_events_are_doubled(removed, copies, unguarded, world):
    if removed:
        unguarded("dedup")
    some = rows(30)

    world.publish([*some, *some])
    world.archive()

    assert len(live_events(world)) == copies * len(some)


@pytest.mark.parametrize("removed", [False, True])
def test_without_the_fence_a_flow_that_wakes_up_late_overwrites_its_successor(removed, unguarded, world):
    some = rows(60)
    world.publish(some[:30])
    former = world.stream()
    former.step()
    successor = world.stream()
    successor.step()
    if removed:
        unguarded("fence")
    world.publish(some[30:])
    successor.step()
    newest = world.values()

    world.clock.move_to(NOW_US + MINUTE_US)
    with nullcontext() if removed else pytest.raises(FlowSuperseded):
        former.step()

    assert (world.values() != newest) == removed


@pytest.mark.parametrize("removed", [False, True])
def test_without_epochs_events_of_a_log_that_lost_its_tail_are_lost(removed, unguarded, world):
    if removed:
        unguarded("tail")
    some = rows(60)
    world.publish(some[:50])
    world.archive()
    for key in world.client.scan_iter(f"log*:{world.env}:*"):
        world.client.delete(key)

    world.publish(some[50:])
    world.archiver = world.new_archiver()
    world.archive()

    assert (set(live_events(world)) == {row["uid"] for row in some}) == (not removed)


@pytest.mark.parametrize("removed", [False, True])
def test_acknowledged_before_the_commit_events_are_lost_in_a_crash(removed, unguarded, world, monkeypatch):
    some = rows(60)
    world.publish(some[:30])
    world.archive()
    world.publish(some[30:])

    def crash(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(Lake, "append_live", crash)
        if removed:
            unguarded("ack")
        with pytest.raises(KeyboardInterrupt):
            world.archiver.step()
    world.log.trim()
    world.archiver = world.new_archiver()
    with pytest.raises(LogGap) if removed else nullcontext():
        world.archive()

    assert (set(live_events(world)) == {row["uid"] for row in some}) == (not removed)
