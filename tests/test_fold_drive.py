"""A shard takes the online store over, is superseded, and mends what the store has lost."""

import msgspec
import pytest
from online_world import HOUR_MS
from stream_world import NOW_US, SOURCE, World, equal_where_both_hold, registry, rows

from feature_store import FeatureReader
from feature_store.errors import FlowSuperseded, StoreLost
from feature_store.fold import drive
from feature_store.fold.consumer import retire_consumers, stream_consumer
from feature_store.lake.books.stream import STREAM_RUNS
from feature_store.online.commits import CommitRecord, announcement, read_commits
from feature_store.online.fence import Fence
from feature_store.online.keys import features_key
from feature_store.online.layout import publish_layouts, view_layout
from feature_store.online.owner import read_owner, take_over
from feature_store.online.ready import encode_ready, read_ready
from feature_store.online.writer import OnlineWriter, Write
from feature_store.reader import Status
from feature_store.transforms.compiled import compile_registry


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def held(world):
    """Everything that the server holds for an environment."""
    return {key: world.client.dump(key) for key in world.client.scan_iter(f"*:{world.env}*")}


def put_back(world, kept):
    """The server as it was: what came since is lost."""
    world.client.delete(*held(world))
    for key, value in kept.items():
        world.client.restore(key, 0, value)


def ready(world):
    return read_ready(world.client, world.env)["0"]


# --- the fence


def fenced(world, run, *, chunk=8):
    owner = take_over(world.client, world.env, run, shards=1)
    return OnlineWriter(world.client, world.env, clock=world.clock, chunk=chunk, fence=Fence(world.env, owner, 0))


def writes(world, count):
    return [Write(features_key(world.env, "site", str(i)), "view@1", b"v", HOUR_MS) for i in range(count)]


COMMIT = CommitRecord(shard=0, run=1, n=1, positions={})


@pytest.mark.parametrize("count", [0, 8, 9, 25])
def test_a_writer_whose_run_owns_the_store_writes_everything(world, count):
    writer = fenced(world, 1)

    for _ in range(2):
        writer.write(writes(world, count), COMMIT)

    assert len(list(world.client.scan_iter(f"features:{world.env}:*"))) == count
    assert len(read_commits(world.client, world.env)) == 2


def test_the_check_costs_no_round_trip(world):
    writer = fenced(world, 1, chunk=500)
    writer.write([])
    [connection] = [writer._connection]
    sent, send = [], connection.send_packed_command
    connection.send_packed_command = lambda command: sent.append(command) or send(command)

    writer.write(writes(world, 400), COMMIT)

    assert len(sent) == 2


def test_a_writer_whose_run_was_superseded_between_two_batches_writes_nothing(world):
    old = fenced(world, 1)
    old.write(writes(world, 3), COMMIT)
    fenced(world, 2)
    before = held(world)

    for _ in range(2):
        with pytest.raises(FlowSuperseded, match=r"^run 1 has been superseded by run 2; this flow ends$"):
            old.write(writes(world, 20), COMMIT)

    assert held(world) == before


def test_an_owner_that_is_written_again_as_it_was_holds_nobody_up(world):
    writer = fenced(world, 1)
    writer.write(writes(world, 3))
    world.client.set(f"owner:{world.env}", read_owner(world.client, world.env).encode())

    writer.write(writes(world, 9), COMMIT)

    assert len(read_commits(world.client, world.env)) == 1


def test_an_older_run_can_not_take_over(world):
    fenced(world, 2)

    with pytest.raises(FlowSuperseded):
        fenced(world, 1)

    assert read_owner(world.client, world.env).run == 2


@pytest.mark.parametrize("lost", ["everything", "the last write"])
def test_a_store_that_lost_what_was_written_is_noticed_before_the_next_write(world, lost):
    writer = fenced(world, 1)
    writer.write(writes(world, 3), COMMIT)
    kept = held(world)
    writer.write(writes(world, 4), COMMIT)
    put_back(world, {} if lost == "everything" else kept)
    before = held(world)

    with pytest.raises(StoreLost, match="emptied" if lost == "everything" else "older state"):
        writer.write(writes(world, 9), COMMIT)

    assert held(world) == before


# --- a lost store


@pytest.mark.parametrize("lost", ["everything", "the last steps"])
def test_what_the_store_has_lost_is_written_again(world, lost):
    stream = world.stream()
    world.publish(rows(60))
    stream.step()
    kept = held(world)
    world.publish(rows(60, seed=1))
    stream.step()
    values, commits = world.values(), {commit.n for _, commit in read_commits(world.client, world.env)}
    put_back(world, {} if lost == "everything" else kept)

    stream.step()

    assert equal_where_both_hold(world.values(), values, NOW_US)
    assert commits <= {commit.n for _, commit in read_commits(world.client, world.env)}, "they say what values knew"
    assert (ready(world).run, ready(world).generation) == read_owner(world.client, world.env)


def test_while_a_lost_store_is_written_again_a_missing_value_is_unknown(world, monkeypatch):
    compiled = compile_registry(registry)
    world.publish(rows(60))
    stream = world.stream()
    stream.step()
    world.client.delete(*held(world))
    publish_layouts(world.client, world.env, map(view_layout, compiled.plans.values()))
    seen = []

    def look(self, batches, **portion):
        with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
            seen.extend(reader.get_online_features(["sites:count_1h"], {"site": s}).statuses[0] for s in ("north", "x"))
        return fold(self, batches, **portion)

    fold = drive.ShardDriver._fold
    monkeypatch.setattr(drive.ShardDriver, "_fold", look)
    monkeypatch.setattr(drive, "PORTION", 2)
    stream.step()
    monkeypatch.undo()

    assert set(seen) <= {Status.UNKNOWN, Status.STALE}
    assert len(seen) > 4
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        assert reader.get_online_features(["sites:count_1h"], {"site": "x"}).statuses == [Status.EMPTY]


# --- the handover


def test_after_a_handover_the_values_of_the_run_before_are_believed_until_they_are_rewritten(world, monkeypatch):
    monkeypatch.setattr(drive, "BESIDE", 1)
    monkeypatch.setattr(drive, "SLICE_S", 0.0)
    monkeypatch.setattr(drive, "QUIET_SLICE_S", 0.0)
    old = world.stream()
    world.publish(rows(60))
    old.step()
    world.archive()
    new = world.stream()
    world.publish([rows(1)[0] | {"uid": "since", "site": "north"}])
    old.step()
    before = ready(world)

    new.step()

    taken = ready(world)
    assert (taken.run, taken.n, taken.views) == (1, before.n, before.views)
    runs = {place: row.run for place, row in world.values().items()}
    assert set(runs.values()) == {1, 2}
    for _ in range(20):
        new.step()
    assert ready(world).run == 2
    # What has left every window is not known any more, and says so for ever.
    assert {row.run for row in world.values().values() if any(item is not None for item in row.items)} == {2}


def test_what_came_between_the_last_run_and_the_lake_is_written_first(world, monkeypatch):
    monkeypatch.setattr(drive, "BESIDE", 1)
    monkeypatch.setattr(drive, "SLICE_S", 0.0)
    monkeypatch.setattr(drive, "QUIET_SLICE_S", 0.0)
    old = world.stream()
    world.publish(rows(60))
    old.step()
    world.publish([rows(1)[0] | {"uid": "since", "site": "west", "kind": 2, "level": 1}])
    world.archive()

    world.stream().step()

    runs = {place: row.run for place, row in world.values().items()}
    assert runs[("features::{site:west}", "sites@1")] == 2
    assert runs[("features::{meter:west|2}", "kinds@1")] == 2
    assert 1 in runs.values()


def test_a_new_run_writes_nothing_older_than_the_run_before_has_written(world):
    old = world.stream()
    new = world.stream()
    # The new run has found an empty log and says that it has caught up; the old one reads on.
    world.publish(rows(60))
    old.step()
    values = world.values()

    new._drivers[0].drive([reading for reader in new._readers for reading in reader.take([])])
    assert world.values() == values
    assert ready(world).run == 1
    new.step()

    assert ready(world).run == 2
    assert equal_where_both_hold(world.values(), values, NOW_US)


@pytest.mark.parametrize(("come", "said"), [(0, 2), (1, 1)])
def test_while_no_events_come_the_rest_is_written_for_longer(world, monkeypatch, come, said):
    monkeypatch.setattr(drive, "BESIDE", 1)
    monkeypatch.setattr(drive, "SLICE_S", 0.0)
    monkeypatch.setattr(drive, "QUIET_SLICE_S", 60.0)
    old = world.stream()
    world.publish(rows(60))
    old.step()
    world.archive()
    new = world.stream()
    world.publish(rows(come, seed=1))

    new.step()

    assert ready(world).run == said, "the last run whose values are all there"


def test_a_new_run_writes_first_what_the_run_before_has_not_and_nothing_else(world, monkeypatch):
    monkeypatch.setattr(drive, "BESIDE", 1)
    monkeypatch.setattr(drive, "SLICE_S", 0.0)
    monkeypatch.setattr(drive, "QUIET_SLICE_S", 0.0)
    old = world.stream()
    world.publish([row | {"site": site} for site in ("north", "south", "east") for row in rows(20, seed=len(site))])
    old.step()
    new = world.stream()
    world.publish([rows(1)[0] | {"uid": "both", "site": "east", "kind": 1, "level": 1}])
    old.step()
    new._drivers[0].drive([reading for reader in new._readers for reading in reader.take(reader.read())])
    world.publish([rows(1)[0] | {"uid": "one", "site": "west", "kind": 2, "level": 1}])

    new.step()

    runs = {place: row.run for place, row in world.values().items()}
    assert runs[("features::{site:west}", "sites@1")] == 2
    assert runs[("features::{meter:west|2}", "kinds@1")] == 2
    assert list(runs.values()).count(2) <= 4, "two that only the new run knew, and a portion of each view"


def test_a_new_run_writes_nothing_older_than_what_the_run_before_was_writing_when_it_ended(world):
    old = world.stream()
    new = world.stream()
    world.publish(rows(60))
    old.step()
    values, record = world.values(), ready(world)
    world.client.hset(f"ready:{world.env}", "0", encode_ready(msgspec.structs.replace(record, positions={})))
    world.client.execute_command(
        *announcement(world.env, CommitRecord(shard=0, run=1, n=9, positions=record.positions))
    )

    new._drivers[0].drive([reading for reader in new._readers for reading in reader.take([])])
    assert (ready(world).run, world.values() == values) == (1, True)
    new.step()

    assert ready(world).run == 2
    assert 9 in {commit.n for _, commit in read_commits(world.client, world.env)}
    assert equal_where_both_hold(world.values(), values, NOW_US)


def test_each_run_is_recorded_with_what_the_lake_held(world):
    first, second = world.stream(), world.stream(shards=2)
    world.client.delete(f"runs:{world.env}")  # as an emptied Redis would

    third = world.stream()

    assert third.start.run == 3
    with world.lake.cursor() as cursor:
        found = cursor.execute(f"SELECT * FROM {world.lake.table_sql(STREAM_RUNS)} ORDER BY run").fetchall()
    assert found == [
        (s.start.run, s.start.origin.snapshot, NOW_US, s.start.generation, s.start.shards)
        for s in (first, second, third)
    ]


def test_the_log_keeps_records_for_a_run_that_builds_and_for_none_before_the_owner(world):
    for run in (1, 2, 3):
        world.log.register(stream_consumer(world.env, run))
    world.log.register("lake")

    retire_consumers([world.log], world.env, 2)

    assert set(world.log.consumers()) == {"lake", stream_consumer(world.env, 2), stream_consumer(world.env, 3)}
    assert world.log.source == SOURCE
