"""`fold(batch, now) -> writes`: state is a function of the events and the time, not of how they came."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import splits
from stream_world import (
    NOW_US,
    accepted,
    all_values,
    batches_of,
    decoded,
    equal_where_both_hold,
    new_shard,
    rows,
    served_at,
)

from feature_store.fold.shard import REFRESH_US
from feature_store.online.packed import PackedRow, decode_row, is_valid_at
from feature_store.online.ready import EXPIRY_SLACK_US
from feature_store.time_rule import DAY_US, HOUR_US, SECOND_US, from_us

EVENTS = accepted(rows(60, seed=5))


def as_served(writes, known=None):
    """What Redis holds after these writes."""
    found = dict(known or {})
    found.update({(write.key, write.field): decode_row(write.value) for write in writes.values})
    return found


def one(**changes):
    return {**rows(1)[0], "site": "north", "kind": 1, "level": 5} | changes


@settings(max_examples=30)
@given(data=st.data())
def test_any_split_into_batches_at_any_times_ends_in_the_same_values(data):
    whole = new_shard()
    at_once = as_served(whole.fold(batches_of(EVENTS), NOW_US))

    shard, at, served = new_shard(), 0, {}
    sizes = data.draw(splits(EVENTS.num_rows))
    times = sorted(data.draw(st.lists(st.integers(0, DAY_US), min_size=len(sizes), max_size=len(sizes))))
    for size, before in zip(sizes, reversed(times), strict=True):
        part = EVENTS.slice(at, size)
        served = as_served(shard.fold(batches_of(part) if size else [], NOW_US - before), served)
        at += size
    served = as_served(shard.fold([], NOW_US), served)

    assert equal_where_both_hold(served, at_once, NOW_US)
    assert all_values(shard) == all_values(whole)


def test_several_shards_write_what_one_writes():
    [batch] = batches_of(EVENTS)
    alone = decoded(new_shard().fold([batch], NOW_US))

    together = {}
    for part in batches_of(EVENTS, shards=3):
        written = decoded(new_shard(part.shard).fold([part], NOW_US))
        assert not together.keys() & written.keys()
        together |= written

    assert together == alone


def test_an_event_stamped_ahead_waits_until_the_clock_has_passed_it():
    shard = new_shard()
    early = accepted([one(at=from_us(NOW_US + 10 * SECOND_US))])

    first = shard.fold(batches_of(early), NOW_US)
    at_its_time = shard.fold([], NOW_US + 10 * SECOND_US)
    past = shard.fold([], NOW_US + 10 * SECOND_US + 1)

    assert (list(first.values), list(at_its_time.values)) == ([], [])
    assert first.commit.positions == {"readings": {0: 1}}
    assert first.commit.now_us == NOW_US
    assert {write.field for write in past.values} == {"sites@1", "kinds@1"}
    assert decode_row(past.values[0].value).from_us == NOW_US + 10 * SECOND_US + 1


def test_a_value_knows_no_event_at_or_after_its_beginning():
    shard = new_shard()
    shard.fold(batches_of(EVENTS), NOW_US)

    for row in as_served(shard.fold([], NOW_US)).values():
        assert row.from_us <= NOW_US
        assert is_valid_at(row.from_us, row.until_s, NOW_US)


def test_ticks_write_a_value_anew_before_it_ends():
    shard = new_shard()
    served = as_served(shard.fold(batches_of(EVENTS), NOW_US))
    now = NOW_US
    for _ in range(200):
        now += REFRESH_US // 2
        served = as_served(shard.fold([], now), served)
        assert all(is_valid_at(row.from_us, row.until_s, now + 1) for row in served.values())

    fresh = all_values(shard, now)
    assert served_at(served, now, ahead=(0,)) == {
        place: items
        for place, items in served_at({k: _row(v) for k, v in fresh.items()}, now, ahead=(0,)).items()
        if place[:2] in served
    }


def _row(tail):
    """A packed row again, of one without its head."""
    return PackedRow(0, 0, 0, *tail)


def test_a_tick_with_nothing_due_writes_nothing():
    shard = new_shard()
    shard.fold(batches_of(accepted([one()])), NOW_US)

    tick = shard.fold([], NOW_US + SECOND_US)

    assert list(tick.values) == []
    assert tick.commit.n == 2


def test_ticks_far_apart_look_further_ahead():
    shard, step = new_shard(), 10 * 60 * SECOND_US
    served = as_served(shard.fold(batches_of(EVENTS), NOW_US))
    for number in range(1, 60):
        served = as_served(shard.fold([], NOW_US + number * step), served)
        if number > 2:
            held = [
                row for row in served.values() if is_valid_at(row.from_us, row.until_s, NOW_US + (number + 1) * step)
            ]
            assert len(held) == len(served)


def test_while_catching_up_nothing_is_written_and_then_each_entity_once():
    shard = new_shard()
    parts = [batches_of(EVENTS.slice(at, 10), positions={0: at + 10}) for at in range(0, 60, 10)]

    quiet = [shard.fold(part, NOW_US, catching_up=True) for part in parts]
    after = shard.fold([], NOW_US)

    assert all(list(writes.values) == [] for writes in quiet)
    places = [(write.key, write.field) for write in after.values]
    assert len(places) == len(set(places))
    assert decoded(after) == all_values(shard)
    assert after.commit.positions == {"readings": {0: 60}}
    assert [writes.commit.n for writes in [*quiet, after]] == list(range(1, 8))


def test_what_somebody_else_has_written_meanwhile_follows_in_portions_behind_what_he_has_not():
    #   read by both: 40            only by this one: 60
    # --------------------|---------------------------------
    shard = new_shard()
    for at in range(0, 60, 10):
        shard.fold(batches_of(EVENTS.slice(at, 10), positions={0: at + 10}), NOW_US, catching_up=True)
    late = decoded(new_shard().fold(batches_of(EVENTS.slice(40)), NOW_US))

    shard.believe({"readings": {0: 40}}, NOW_US, views=["sites@1", "kinds@1"])
    first, rest = shard.fold([], NOW_US, portion=0), []
    assert decoded(first).keys() == late.keys()
    while shard.pending:
        rest.append(decoded(shard.fold([], NOW_US, portion=2)))

    assert all(len(some) <= 4 for some in rest)
    assert decoded(first) | {place: row for some in rest for place, row in some.items()} == all_values(shard)
    assert set().union(*rest) == all_values(shard).keys()


@pytest.mark.parametrize("theirs", [{}, {"readings": {}}, {"readings": {1: 90}}, {"readings": {0: 59}}])
def test_what_somebody_else_had_not_read_is_written_at_once(theirs):
    shard = new_shard()
    shard.fold(batches_of(EVENTS), NOW_US, catching_up=True)

    shard.believe(theirs, NOW_US, views=["sites@1", "kinds@1"])

    assert decoded(shard.fold([], NOW_US, portion=0)) == all_values(shard)


def test_an_event_that_waited_when_somebody_else_wrote_last_is_written_at_once():
    shard, at = new_shard(), NOW_US + 5 * SECOND_US
    shard.fold(batches_of(accepted([one(at=from_us(at))])), NOW_US, catching_up=True)
    shard.fold([], at + 2, catching_up=True)

    shard.believe({"readings": {0: 1}}, at, views=["sites@1", "kinds@1"])
    waited = shard.fold([], at + 2, portion=0)
    shard.fold(batches_of(accepted([one(uid="b", at=from_us(at))]), positions={0: 2}), at + 3, catching_up=True)
    shard.believe({"readings": {0: 2}}, at + 3, views=["sites@1", "kinds@1"])
    known = shard.fold([], at + 3, portion=0)

    assert (len(waited.values), len(known.values)) == (2, 0)


def test_a_commit_names_the_run_and_every_position_known():
    shard = new_shard(number=2, run=9)
    shard.start_at({"readings": {0: 5, 1: 7}})

    commit = shard.fold(batches_of(EVENTS, positions={1: 67}), NOW_US).commit

    assert (commit.shard, commit.run, commit.n) == (2, 9, 1)
    assert commit.positions == {"readings": {0: 5, 1: 67}}


@pytest.mark.parametrize(("view", "longest"), [("kinds@1", 6 * HOUR_US), ("sites@1", None)])
def test_a_value_is_kept_as_long_as_it_can_differ_from_an_empty_one(view, longest):
    at = from_us(NOW_US - HOUR_US)
    writes = new_shard().fold(batches_of(accepted([one(at=at)])), NOW_US)
    [write] = [write for write in writes.values if write.field == view]

    if longest is None:
        assert write.expire_ms > 300 * 86_400_000
    else:
        left_us = write.expire_ms * 1000 - EXPIRY_SLACK_US
        assert longest - HOUR_US <= left_us <= longest - HOUR_US + 15 * 60 * SECOND_US  # the tail moves by hops


def test_a_late_event_changes_only_what_its_time_is_in():
    shard = new_shard()
    before = as_served(shard.fold(batches_of(accepted([one(uid="a", at=from_us(NOW_US - SECOND_US))])), NOW_US))
    late = accepted([one(uid="b", at=from_us(NOW_US - 3 * HOUR_US), tag="late", level=50)])
    after = as_served(shard.fold(batches_of(late), NOW_US), before)

    place = next(key for key in after if key[1] == "sites@1")
    first, second = (row.items for row in (before[place], after[place]))

    assert [item[0] if isinstance(item, list) else item for item in (first[0], second[0])] == [1, 1]  # count_1h
    assert [item[0] if isinstance(item, list) else item for item in (first[1], second[1])] == [1, 2]  # count_24h
