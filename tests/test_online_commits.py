"""A run that ends between its values and their commit record: the values stay, and they are explained."""

import pytest
from proof_world import SERVICE, World

from feature_store.online.commits import CommitRecord, announcement, read_commits, record_what_others_left
from feature_store.online.keys import under_way_key
from feature_store.online.writer import OnlineWriter
from feature_store.proof import append_served, prove
from feature_store.time_rule import MINUTE_US, SECOND_US


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    yield made
    made.close()


def die_after(monkeypatch, blocks):
    """Let the process end when so many blocks of a batch have been sent; each holds two values."""
    start, sent = OnlineWriter._start, []

    def call(self, connection, block):
        if len(sent) == blocks:
            raise KeyboardInterrupt
        sent.append(block)
        return start(self, connection, block)

    monkeypatch.setattr(OnlineWriter, "_start", call)


def of_last_batch(world):
    """How many of the vectors on record hold a value of the batch that was under way."""
    [left] = [commit for _, commit in read_commits(world.store.redis, world.environment) if not commit.visible_at_us]
    rows = world.served.table().to_pylist()
    views = {name.removesuffix("__run") for name in rows[0] if name.endswith("__run")}
    return sum(any((row[f"{v}__run"], row[f"{v}__n"]) == (left.run, left.n) for v in views) for row in rows)


@pytest.mark.parametrize("blocks", [1, 3])
def test_values_of_a_batch_that_was_not_committed_are_proved_once_the_next_run_has_taken_over(
    world, monkeypatch, blocks
):
    monkeypatch.setitem(OnlineWriter.__init__.__kwdefaults__, "chunk", 2)
    world.restart()
    for _ in range(3):
        world.happen(12, over_us=MINUTE_US)
        world.step(by_us=MINUTE_US)
    world.happen(30, over_us=MINUTE_US)
    with monkeypatch.context() as dying:
        die_after(dying, blocks)
        with pytest.raises(KeyboardInterrupt):
            world.step(by_us=MINUTE_US)
    for _ in range(20):
        world.read()
    world.archive()
    append_served(world.store.compiled, world.store.lake, world.served.table())

    [early] = world.store.verify(SERVICE)
    world.clock.move_to(world.clock.now_us() + 10 * SECOND_US)
    world.restart()
    world.archive()
    [late] = world.store.verify(SERVICE)
    proof = prove(world.store.compiled, world.store.lake, world.served.table())

    assert of_last_batch(world) > 0
    assert (early.defects, early.pending > 0) == (0, True)
    assert (late.defects, late.excused, late.pending) == (0, 0, 0)
    assert (proof.unequal, proof.oracle_unequal) == (0, 0)
    assert world.store.redis.hlen(under_way_key(world.environment)) == 0


def test_what_a_run_is_writing_itself_and_what_waits_for_another_shard_stays_under_way(world):
    client, env = world.store.redis, world.environment
    for shard, run in ((0, 1), (1, 1), (2, 2), (3, 3), (4, 1)):
        client.execute_command(*announcement(env, CommitRecord(shard=shard, run=run, n=7, positions={})))

    left = [record_what_others_left(client, env, run=2, shard=shard, shards=4) for shard in (0, 2)]

    assert [[commit.shard for commit in some] for some in left] == [[0, 4], []]
    assert [commit.shard for _, commit in read_commits(client, env)] == [0, 4]
    assert sorted(client.hkeys(under_way_key(env))) == [b"1", b"2", b"3"]
