"""Each event id counts once, whether its first event came in this batch, an earlier one, or years ago."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.fold.id_hashes import IdHashes
from feature_store.fold.known_ids import KnownIds, Seen
from feature_store.log.protocol import pack_offset
from feature_store.time_rule import DAY_US

NEW, DUPLICATE, CONFLICT = Seen.NEW, Seen.DUPLICATE, Seen.CONFLICT


def hashes_of(ids):
    return np.array([sum(event_id.encode()) for event_id in ids], dtype=np.uint64)


def check(known, ids, digests, *, days=None, start=0):
    times = [day * DAY_US for day in days or [1] * len(ids)]
    return known.check(ids, times, digests, hashes=hashes_of(ids), span=(start, start + len(ids)))


class Lake:
    """Rows (id -> day, digest, offset) as a look-up finds them, and the questions that were asked."""

    def __init__(self, **rows):
        self.rows, self.asked = rows, []

    def look_up(self, ids, days, before):
        self.asked.append((sorted(ids), days))
        first, last = days or (-(10**6), 10**6)
        return {
            event_id: digest
            for event_id, (day, digest, offset) in self.rows.items()
            if event_id in ids and first <= day <= last and offset < before
        }

    def known(self, **options):
        held = IdHashes(np.sort(hashes_of(self.rows)))
        return KnownIds(held=held, look_up=self.look_up, **options)


def test_within_a_batch_the_second_is_a_duplicate_or_a_conflict():
    assert check(KnownIds(), ["a", "b", "a", "b"], [7, 8, 7, 9]) == [NEW, NEW, DUPLICATE, CONFLICT]


def test_across_batches_too_and_a_conflict_does_not_replace_the_first():
    known = KnownIds()
    check(known, ["a"], [7])

    assert check(known, ["a", "a"], [9, 7]) == [CONFLICT, DUPLICATE]


def test_an_id_is_found_at_any_age_whatever_day_the_second_event_names():
    lake = Lake(old=(5, 1, 0), older=(-400, 2, 1))
    known = lake.known()

    found = check(known, ["old", "older", "fresh"], [1, 2, 3], days=[5, 10, 5], start=9)

    assert found == [DUPLICATE, DUPLICATE, NEW]
    assert lake.asked == [(["old", "older"], (5, 10)), (["older"], None)]


def test_ids_that_nobody_has_seen_cost_no_question():
    lake = Lake(old=(5, 1, 0))
    known = lake.known()

    assert check(known, ["x", "y"], [1, 1], days=[5, -900]) == [NEW, NEW]
    assert lake.asked == []


def test_a_likeness_of_hashes_alone_does_not_make_a_duplicate():
    lake = Lake(ab=(5, 1, 0))

    assert check(lake.known(), ["ba"], [1], days=[5], start=9) == [NEW]


def test_what_the_lake_has_of_records_that_are_yet_to_be_read_is_new():
    #  the archiver is ahead: the event itself stands in the lake, at the offset at which it is about to be read
    lake = Lake(a=(5, 1, 3))

    assert check(lake.known(), ["a"], [1], days=[5], start=3) == [NEW]


def test_ids_leave_memory_once_the_lake_has_their_events_and_stay_known():
    lake, archived = Lake(), 0
    known = KnownIds(look_up=lake.look_up, archived=lambda: archived, recent=10)
    names = [f"e{n:03}" for n in range(100)]
    for n in range(0, 50, 5):
        check(known, names[n : n + 5], [1] * 5, start=n)
    assert len(known) == 50

    lake.rows, archived = {name: (1, 1, n) for n, name in enumerate(names[:40])}, 40
    for n in range(50, 60, 5):
        check(known, names[n : n + 5], [1] * 5, start=n)

    assert len(known) == 20
    again = check(known, [names[0], names[39], names[45], names[59], names[60]], [1, 2, 1, 1, 1], start=60)
    assert again == [DUPLICATE, CONFLICT, DUPLICATE, DUPLICATE, NEW]


def test_ids_that_the_log_lost_before_the_lake_had_them_stay_in_memory():
    #  offsets   1-0 ... 1-9 read, the lake has 1-0 ... 1-5, the log loses the rest and goes on in epoch 2
    lake, archived = Lake(), -1
    known = KnownIds(look_up=lake.look_up, archived=lambda: archived, recent=10)
    names = [f"e{n:03}" for n in range(20)]
    check(known, names[:9], [1] * 9, start=pack_offset(1, 0))

    lake.rows = {name: (1, 1, pack_offset(1, n)) for n, name in enumerate(names[:6])}
    lake.rows |= {name: (1, 1, pack_offset(2, n)) for n, name in enumerate(names[9:20])}
    archived = pack_offset(2, 11)
    check(known, names[9:20], [1] * 11, start=pack_offset(2, 0))

    assert len(known) == 3
    again = check(known, [names[0], names[7], names[12]], [1, 1, 2], start=pack_offset(2, 11))
    assert again == [DUPLICATE, DUPLICATE, CONFLICT]


def test_the_times_of_an_event_may_lie_before_the_epoch():
    lake = Lake(a=(-3, 1, 0))

    assert check(lake.known(), ["a", "b"], [1, 1], days=[-3, -4], start=5) == [DUPLICATE, NEW]


@settings(max_examples=200)
@given(parts=st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), max_size=12), data=st.data())
def test_a_set_of_hashes_has_what_was_put_in_and_nothing_else(parts, data):
    arrays = [np.array(part, dtype=np.uint64) for part in parts]
    held = IdHashes(np.sort(arrays[0]) if arrays else None)
    for part in arrays[1:]:
        held.add(part)
    there = {value for part in parts for value in part}
    asked = data.draw(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, *there])), min_size=1))

    assert held.contains(np.array(asked, dtype=np.uint64)).tolist() == [value in there for value in asked]
    assert len(held) == sum(map(len, parts))


@pytest.mark.parametrize("held", [None, np.array([], dtype=np.uint64)])
def test_an_empty_set_contains_nothing(held):
    assert not IdHashes(held).contains(np.array([0, 1], dtype=np.uint64)).any()
