"""Each event id counts once, whether its first event came in this batch, an earlier one, or days ago."""

from feature_store.fold.known_ids import KnownIds, Seen
from feature_store.time_rule import DAY_US

NEW, DUPLICATE, CONFLICT = Seen.NEW, Seen.DUPLICATE, Seen.CONFLICT


def test_within_a_batch_the_second_is_a_duplicate_or_a_conflict():
    known = KnownIds(complete_from_day=0)

    assert known.check(["a", "b", "a", "b"], [1, 1, 1, 1], [7, 8, 7, 9]) == [NEW, NEW, DUPLICATE, CONFLICT]


def test_across_batches_too_and_a_conflict_does_not_replace_the_first():
    known = KnownIds(complete_from_day=0)
    known.check(["a"], [1], [7])

    assert known.check(["a"], [1], [9]) == [CONFLICT]
    assert known.check(["a"], [1], [7]) == [DUPLICATE]
    assert len(known) == 1


def test_what_the_lake_held_at_start_is_known():
    known = KnownIds(complete_from_day=0)
    known.remember(["a"], [7])

    assert known.check(["a", "b"], [1, 1], [7, 7]) == [DUPLICATE, NEW]


def test_an_old_id_is_looked_up_once_by_its_day_and_a_recent_one_never():
    asked = []

    def look_up(ids, day):
        asked.append((list(ids), day))
        return {"old": 7} if "old" in ids else {}

    known = KnownIds(complete_from_day=10, look_up=look_up)
    old, recent = 9 * DAY_US, 10 * DAY_US

    assert known.check(["recent"], [recent], [1]) == [NEW]
    assert asked == []
    assert known.check(["old", "older", "late"], [old, 8 * DAY_US, recent], [7, 7, 7]) == [DUPLICATE, NEW, NEW]
    assert sorted(asked) == [(["old"], 9), (["older"], 8)]
    assert known.check(["old", "older"], [old, 8 * DAY_US], [8, 7]) == [CONFLICT, DUPLICATE]
    assert len(asked) == 2


def test_times_before_the_epoch_have_days_too():
    known = KnownIds(complete_from_day=-3)

    assert known.check(["a", "a"], [-1, -1], [7, 7]) == [NEW, DUPLICATE]
