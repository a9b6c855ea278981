"""A run of the stream in one process: what it serves, what it says about itself, and how it begins again."""

import pytest
from stream_world import NOW_US, SOURCE, World, compiled, equal_where_both_hold, payloads, registry, rows, served_at

from feature_store import FeatureReader, FeatureService, Registry
from feature_store.errors import FlowSuperseded, LogGap, OnlineStoreError
from feature_store.fold import run
from feature_store.fold.run import PartitionReader, begin_run, live_sources, next_run
from feature_store.log.protocol import Record, partition_of, unpack_offset
from feature_store.online.layout import publish_layouts, service_layout, view_layout
from feature_store.online.packed import item_at, seconds_since
from feature_store.online.ready import read_ready
from feature_store.reader import Status
from feature_store.time_rule import DAY_US, HOUR_US, SECOND_US, from_us


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def one(**changes):
    return {**rows(1)[0], "site": "north", "kind": 1, "level": 5, "at": from_us(NOW_US - SECOND_US)} | changes


def test_what_is_published_is_served_after_the_next_step(world):
    stream = world.stream()
    world.publish([one(uid=f"u{n}", level=n, at=from_us(NOW_US - (9 - n) * SECOND_US)) for n in range(5)])

    assert stream.step() == 5

    seen = served_at(world.values(), NOW_US, ahead=(0, 2 * HOUR_US))
    sites = {time - NOW_US: items for (_, view, time), items in seen.items() if view == "sites@1"}
    assert sites[0][:3] == [5, 5, 2.0]
    assert sites[0][8] == [2, 3, 4]
    assert sites[2 * HOUR_US][:3] == [None, 5, None]
    assert stream.step() == 0


def test_bad_records_never_stop_the_stream(world):
    stream = world.stream()
    world.log.publish([Record(f"b{n}", b"{", NOW_US) for n in range(20)])
    world.publish([one()])

    assert stream.step() == 21
    assert len(world.values()) == 2


def test_a_copy_in_another_partition_counts_nowhere(world):
    elsewhere = next(f"{n}" for n in range(9) if partition_of(f"{n}", 4) != partition_of("a", 4))
    copy, conflict = one(uid="a"), one(uid="a", level=50, site="south")
    stream = world.stream()
    world.publish([one(uid="a")])
    world.log.publish([Record(elsewhere, payload, NOW_US) for payload in payloads([copy, conflict])])

    assert stream.step() == 3
    world.archive()

    assert {key for key, view in world.values() if view == "kinds@1"} == {"features::{meter:north|1}"}
    served = world.values()
    world.stream().step()
    assert equal_where_both_hold(world.values(), served, NOW_US)
    assert world.lake_ids() == {"a"}


def test_a_ready_record_is_given_when_everything_is_there_and_stays_while_the_next_run_builds(world):
    world.publish(rows(20))
    before = world.stream()
    assert read_ready(world.client, world.env) == {}

    before.step()

    given = read_ready(world.client, world.env)
    record = given["0"]
    assert (record.run, record.beat_us, record.oldest_unread_us) == (1, NOW_US, None)
    assert record.positions == {SOURCE: {p: world.log.end(p) for p in range(4)}}
    after = world.stream()
    assert read_ready(world.client, world.env) == given
    after.step()
    assert read_ready(world.client, world.env)["0"].run == 2


def test_a_run_that_was_superseded_changes_nothing_any_more(world):
    old = world.stream()
    old.step()
    new = world.stream()
    world.publish(rows(30))
    old.step()
    new.step()
    world.publish(rows(30, seed=2))
    held = {key: world.client.dump(key) for key in world.client.scan_iter(f"*:{world.env}*")}

    with pytest.raises(FlowSuperseded, match=r"^run 1 has been superseded by run 2; this flow ends$"):
        old.step()

    assert {key: world.client.dump(key) for key in world.client.scan_iter(f"*:{world.env}*")} == held


def test_a_partition_that_is_quiet_in_a_new_epoch_of_the_log_has_caught_up(world):
    world.publish(rows(20))
    world.archive()
    world.log.start_epoch()

    world.stream().step()

    assert "0" in read_ready(world.client, world.env)


def test_a_partition_has_caught_up_when_what_comes_while_it_reads_gets_no_less(world, monkeypatch):
    #   held: 400 |   100 came meanwhile | 20 | 20
    monkeypatch.setattr(run, "MAX_RECORDS", 50)
    start = begin_run(compiled, world.lake, world.client, env=world.env, shards=1, now_us=NOW_US)
    mine = [f"u{n}" for n in range(4000) if partition_of(f"u{n}", 4) == 0]

    def come(count):
        world.publish([one(uid=mine.pop()) for _ in range(count)])

    come(400)
    reader, unread = PartitionReader(compiled, world.lake, world.log, start, source=SOURCE, partition=0), []
    coming = iter([0, 0, 0, 0, 0, 0, 0, 100, 0, 20, *([20] * 9)])
    while not reader.caught_up:
        records = reader.read()
        come(next(coming))
        reader.take(records)
        unread.append(world.log.end(0) - reader.position)

    assert unread == [350, 300, 250, 200, 150, 100, 50, 100, 50, 20, 20, 20]


def test_what_is_archived_and_trimmed_while_the_first_run_begins_is_missed_loudly(world):
    world.publish(rows(20))
    start = begin_run(compiled, world.lake, world.client, env=world.env, shards=1, now_us=NOW_US)
    world.archive()
    assert world.log.trim() == 20

    reader = PartitionReader(compiled, world.lake, world.log, start, source=SOURCE, partition=0)

    with pytest.raises(LogGap):
        reader.read()


def test_an_old_event_that_is_archived_before_it_is_read_is_no_duplicate(world):
    stream = world.stream()
    world.publish([one(uid="old", level=7, at=from_us(NOW_US - 6 * DAY_US)), one(uid="new", level=5)])
    world.archive()

    stream.step()

    [site] = [row for (_, view), row in world.values().items() if view == "sites@1"]
    lifetime = [item_at(item, seconds_since(site.from_us, NOW_US)) for item in site.items][9]
    assert lifetime == 12


def assert_whole(world, some):
    """The lake has exactly these events, and a run that begins anew serves what is served."""
    served = world.values()
    world.stream().step()
    assert equal_where_both_hold(world.values(), served, NOW_US)
    assert world.lake_ids() == {row["uid"] for row in some}


def test_what_only_the_archiver_had_read_when_the_log_was_lost_is_in_the_values(world):
    some = rows(90, seed=9)
    stream = world.stream()
    world.publish(some[:40])
    stream.step()
    world.publish(some[40:70])
    world.archive()
    world.client.delete(*world.client.scan_iter(f"log*:{world.env}:*"))

    world.publish(some[64:])  # who publishes sends again some of what may be lost
    stream.step()
    world.archive()
    stream.step()

    assert_whole(world, some)


def test_what_was_read_before_the_log_was_lost_and_comes_again_by_way_of_the_lake_counts_once(world):
    some = rows(60, seed=10)
    stream = world.stream()
    world.publish(some[:40])
    stream.step()
    world.client.delete(*world.client.scan_iter(f"log*:{world.env}:*"))
    for _ in range(4):  # as long as the day does not change, a log that was wiped has its first epochs again
        world.log.start_epoch()

    world.publish(some)
    world.archive()
    stream.step()

    assert_whole(world, some)


def test_what_a_wiped_log_holds_before_the_place_that_was_reached_is_in_the_values(world):
    some = rows(220, seed=11)
    stream = world.stream()
    world.publish(some[:20])
    stream.step()
    world.archive()
    world.client.delete(*world.client.scan_iter(f"log*:{world.env}:*"))

    world.publish(some[20:])
    stream.step()
    world.archive()
    stream.step()

    assert_whole(world, some)


def test_an_epoch_that_a_wiped_log_had_is_not_begun_again_by_a_reader_who_had_not_come_to_it(world):
    # the log     epoch 0 | epoch 1 | epoch 2: only the archiver has read it | wiped | epoch 0 again, published anew
    # the flow    ....... | stands here ----------------------------------------------> begins epoch ?
    some = rows(260, seed=12)
    stream = world.stream()
    world.log.start_epoch()
    world.publish(some[:20])
    stream.step()
    world.archive()
    ahead = world.log.start_epoch()  # by a server that was started again
    world.publish(some[20:200])
    world.archive()
    world.client.delete(*world.client.scan_iter(f"log*:{world.env}:*"))

    world.publish(some[200:])
    stream.step()
    world.archive()
    stream.step()

    assert max(unpack_offset(at)[0] for at in world.lake.positions(SOURCE).values()) > ahead
    assert_whole(world, some)


def test_of_two_runs_with_one_number_the_second_does_not_begin(world):
    world.stream().step()
    served = world.values()

    with pytest.raises(OnlineStoreError, match=r"^run 1 is another one: the online store was emptied"):
        begin_run(compiled, world.lake, world.client, env=world.env, shards=1, now_us=NOW_US, run=1)

    assert world.values() == served


def test_a_number_of_a_run_is_not_given_again_by_a_store_that_is_emptied_meanwhile(world):
    world.stream()
    emptied = []

    class Emptied:
        """A client whose server is emptied behind its first command."""

        def incr(self, key):
            found = world.client.incr(key)
            world.client.delete(key)
            emptied.append(found)
            return 1

        def incrby(self, key, count):
            return world.client.incrby(key, count)

    world.client.delete(f"runs:{world.env}")

    assert next_run(world.lake, Emptied(), world.env) == 2
    assert emptied


def test_a_new_run_begins_at_the_lake_and_serves_the_same(world):
    some = rows(150, seed=8)
    stream = world.stream()
    world.publish(some[:80])
    stream.step()
    world.archive()
    world.publish(some[80:])
    stream.step()
    uninterrupted = world.values()

    world.client.delete(*world.client.scan_iter(f"features:{world.env}:*"))
    again = world.stream(shards=3)
    assert again.step() == 70

    assert equal_where_both_hold(world.values(), uninterrupted, NOW_US)
    assert {"0", "1", "2"} <= read_ready(world.client, world.env).keys()
    assert again.start.run == 2


def test_a_run_of_fewer_shards_withdraws_the_records_of_all_before(world):
    world.stream(shards=3).step()
    fewer = world.stream(shards=2)
    assert read_ready(world.client, world.env).keys() == {"0", "1", "2"}

    fewer.step()

    assert read_ready(world.client, world.env).keys() == {"0", "1"}


def test_duplicates_count_once_also_across_runs(world):
    world.publish([one(uid="a"), one(uid="a")])
    world.stream().step()
    world.archive()
    world.publish([one(uid="a"), one(uid="b")])

    world.stream().step()

    [items] = [
        items for (_, view, _), items in served_at(world.values(), NOW_US, ahead=(0,)).items() if view == "kinds@1"
    ]
    assert items[0] == 2


def test_a_reader_in_another_place_sees_it(world):
    service = FeatureService("meter", features=[registry.view("kinds"), registry.view("sites")["count_1h"]])
    whole = Registry(views=list(registry.views), services=[service])
    publish_layouts(
        world.client,
        world.env,
        [view_layout(plan) for plan in compiled.plans.values()],
        [service_layout(service, whole)],
    )
    stream = world.stream()
    world.publish([one(level=n, uid=f"u{n}") for n in (1, 2)])
    stream.step()

    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        known = reader.get_online_features("meter", {"site": "north", "kind": 1})
        unknown = reader.get_online_features("meter", {"site": "nowhere", "kind": 1})

    assert list(known.values) == [2, 1.5, 2]
    assert {unknown[name].status for name in unknown.names} == {Status.EMPTY}


def test_only_sources_with_a_log_and_a_stream_view_are_read():
    assert live_sources(registry) == [SOURCE]
