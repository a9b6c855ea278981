"""The archiver: what the log holds comes to the lake once, with the positions it came from."""

from dataclasses import replace

import pytest
from stream_world import NOW_US, SOURCE, World, compiled, kinds, readings, rows, sites

from feature_store import Registry
from feature_store.errors import LogGap, PositionConflict
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.lake.books.stream import STREAM_COMMITS
from feature_store.log.protocol import Record
from feature_store.time_rule import HOUR_US, to_us
from feature_store.transforms.compiled import compile_registry


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def held(world):
    """The ids of the lake's events, sorted."""
    with world.lake.cursor() as cursor:
        found = cursor.execute(f"SELECT uid FROM ({world.lake.events_sql(SOURCE)}) ORDER BY uid").fetchall()
    return [uid for (uid,) in found]


def rejected(world):
    with world.lake.cursor() as cursor:
        sql = f"SELECT kind, count(*) FROM {world.lake.table_sql('rejected_events')} GROUP BY kind ORDER BY kind"
        return cursor.execute(sql).fetchall()


def ends(world):
    return {partition: world.log.end(partition) for partition in range(world.log.partitions)}


def test_events_positions_and_dead_letters_land_together(world):
    some = rows(100)
    world.publish([*some, some[3], some[4] | {"level": 99}, some[5] | {"level": -101}])
    world.log.publish([Record("bad", b"{", NOW_US)])

    moved = world.archiver.step()

    assert moved == 104
    assert held(world) == sorted(row["uid"] for row in some)
    assert rejected(world) == [("conflict", 1), ("duplicate", 1), ("rejected", 2)]
    assert world.lake.positions(SOURCE) == world.archiver.positions == ends(world)
    assert world.archiver.step() == 0


def test_a_big_log_comes_in_portions(world):
    world.publish(rows(100))

    portions = []
    while moved := world.archiver.step(max_records=10):
        portions.append(moved)

    assert sum(portions) == 100
    assert max(portions) <= 10 * world.log.partitions
    assert len(held(world)) == 100


def test_a_new_archiver_goes_on_exactly_where_the_last_one_ended(world):
    some = rows(90)
    world.publish(some[:50])
    world.archiver.step(max_records=10)
    world.publish([*some[50:], some[0]])

    other = world.new_archiver()
    while other.step():
        pass

    assert held(world) == sorted(row["uid"] for row in some)
    assert rejected(world) == [("duplicate", 1)]
    assert world.lake.positions(SOURCE) == ends(world)


def test_of_two_archivers_the_second_is_refused_and_then_goes_on(world):
    some = rows(60)
    other = world.new_archiver()
    world.publish(some[:20])
    world.archiver.step()
    other.step()
    world.publish(some[20:])
    world.archiver.step()

    with pytest.raises(PositionConflict):
        other.step()

    assert held(world) == sorted(row["uid"] for row in some)
    assert other.step() == 0
    assert other.positions == ends(world)


def test_a_refused_commit_leaves_no_trace_in_what_is_known(world):
    """What the failed step had seen must not turn the next one's events into duplicates."""
    world.publish(rows(10))
    other = world.new_archiver()
    other._start()
    world.archiver.step()
    world.publish(rows(10, seed=1))

    with pytest.raises(PositionConflict):
        other.step()
    other.step()

    assert len(held(world)) == 20
    assert rejected(world) == []


def test_nothing_is_trimmed_that_the_lake_does_not_hold(world):
    world.archiver.step()
    world.publish(rows(50))

    assert world.log.trim() == 0
    world.archiver.step()
    assert world.log.trim() == 50


def test_a_log_that_lost_what_the_lake_lacks_is_an_error_that_says_so(world):
    world.publish(rows(50))
    world.archiver.step()
    world.publish(rows(50, seed=1))
    for partition in range(2):
        world.client.xtrim(f"log:{world.env}:{{{readings.log.topic}}}:{partition}", maxlen=5, approximate=False)

    with pytest.raises(LogGap, match="readings"):
        world.archiver.step()
    assert len(held(world)) == 50


@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_is_missed_of_a_log_that_was_wiped_and_filled_beyond_what_was_archived(restarted, world):
    world.publish(rows(20))
    world.archive()
    world.client.delete(*world.client.scan_iter(f"log*:{world.env}:*"))

    world.publish(rows(200, seed=1))  # more than before in each partition, on the same day
    if restarted:
        world.archiver = world.new_archiver()
    world.archive()

    assert held(world) == sorted(row["uid"] for row in [*rows(20), *rows(200, seed=1)])


def test_commit_records_land_once_one_row_per_partition(world):
    stream = world.stream()
    for number in range(3):
        world.publish(rows(10, seed=number))
        stream.step()
    archiver = CommitArchiver(world.lake, world.client, world.env)

    assert (archiver.step(), archiver.step()) == (3, 0)
    assert CommitArchiver(world.lake, world.client, world.env).step() == 0
    stream.step()
    assert CommitArchiver(world.lake, world.client, world.env).step() == 1
    with world.lake.cursor() as cursor:
        sql = f'SELECT n, "partition", now_us, visible_at_us FROM {world.lake.table_sql(STREAM_COMMITS)} ORDER BY 1, 2'
        found = cursor.execute(sql).fetchall()
    assert found == [(n, partition, NOW_US, NOW_US) for n in range(2, 6) for partition in range(4)]
    assert compiled.registry.source(SOURCE).log is not None


def test_what_some_view_ignores_because_it_came_late_is_kept_and_marked(world):
    strict = replace(kinds, late_events="ignore", lateness="1h")
    some = rows(60)
    world.publish(some)
    archiver = Archiver(compile_registry(Registry(views=[sites, strict])), world.lake, world.log, source=SOURCE)
    while archiver.step():
        pass

    with world.lake.cursor() as cursor:
        sql = f"SELECT uid, _late FROM ({world.lake.events_sql(SOURCE)})"
        marks = dict(cursor.execute(sql).fetchall())
    late = {row["uid"]: NOW_US - to_us(row["at"]) > HOUR_US for row in some}
    assert marks == late
    assert set(late.values()) == {True, False}
