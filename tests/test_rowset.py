"""Merging row sets, and the accumulator that keeps them, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.transforms import ordering
from feature_store.transforms.accumulator import Accumulator
from feature_store.transforms.ordering import INT64_MAX, INT64_MIN
from feature_store.transforms.rowset import Merge, RowSet, concat, merge_distinct, merge_last_n, merge_tiles

OPS = {"n": Merge.ADD, "low": Merge.MIN, "high": Merge.MAX, "head": Merge.FIRST, "tail": Merge.LAST}
COLUMNS = ("n", "low", "high", "head", "head__t", "head__id", "tail", "tail__t", "tail__id")

few = st.integers(0, 4)
tile = st.tuples(few, few, st.integers(-5, 5), st.booleans(), few, st.sampled_from(["", "a", "b", "é", "z\U0001f600"]))


def partial(row):
    """One row's columns: the pick partials are missing where the flag says so."""
    entity, time, value, picks, moment, event_id = row
    head_t = moment if picks else INT64_MAX
    tail_t = moment if picks else INT64_MIN
    return (
        entity,
        time,
        value,
        float(value),
        float(value),
        f"v{value}",
        head_t,
        event_id,
        f"v{value}",
        tail_t,
        event_id,
    )


def tiles(rows):
    """A row set of partials, in the order given."""
    listed = [partial(row) for row in rows]
    kinds = (np.int64, np.float64, np.float64, object, np.int64, object, object, np.int64, object)
    entity, time = (np.array([row[at] for row in listed], dtype=np.int64) for at in (0, 1))
    columns = {name: array([row[at + 2] for row in listed], kinds[at]) for at, name in enumerate(COLUMNS)}
    return RowSet(entity=entity, time=time, columns=columns)


def array(values, dtype):
    result = np.empty(len(values), dtype=dtype)
    result[:] = values
    return result


def listed(rows, names=COLUMNS):
    return list(zip(rows.entity.tolist(), rows.time.tolist(), *(rows.columns[n].tolist() for n in names), strict=True))


def merge_slowly(rows):
    """Merge the partials one by one. Without a value, a pick's value and id mean nothing: None."""
    merged = {}
    for row in map(partial, rows):
        merged.setdefault(row[:2], []).append(row)
    return [(*key, *combine(group)) for key, group in sorted(merged.items())]


def combine(group):
    heads = [(row[6], row[7], row[5]) for row in group if row[6] != INT64_MAX]
    tails = [(row[9], row[10], row[8]) for row in group if row[9] != INT64_MIN]
    head = min(heads, default=(INT64_MAX, None, None))
    tail = max(tails, default=(INT64_MIN, None, None))
    return (sum(row[2] for row in group), min(row[3] for row in group), max(row[4] for row in group), head, tail)


def readable(rows):
    """The merged rows in the form of `merge_slowly`."""
    result = []
    for entity, time, n, low, high, head, head_t, head_id, tail, tail_t, tail_id in listed(rows):
        first = (head_t, None, None) if head_t == INT64_MAX else (head_t, head_id, head)
        last = (tail_t, None, None) if tail_t == INT64_MIN else (tail_t, tail_id, tail)
        result.append((entity, time, n, low, high, first, last))
    return result


def unique_ties(rows):
    """Drop rows that repeat (moment, id): an event id is one event, so it has one value."""
    seen = set()
    return [row for row in rows if (key := (row[0], row[4], row[5])) not in seen and not seen.add(key)]


@settings(max_examples=60, deadline=None)
@given(st.lists(tile, max_size=30).map(unique_ties))
def test_tiles_of_one_entity_and_time_merge_into_one(rows):
    assert readable(merge_tiles(tiles(rows), OPS)) == merge_slowly(rows)


@settings(max_examples=40, deadline=None)
@given(st.lists(tile, max_size=30).map(unique_ties), st.integers(0, 30))
def test_merging_in_parts_gives_what_merging_at_once_gives(rows, cut):
    parts = [merge_tiles(tiles(rows[:cut]), OPS), merge_tiles(tiles(rows[cut:]), OPS)]
    assert readable(merge_tiles(concat(parts[::-1]), OPS)) == merge_slowly(rows)


def test_sums_wrap_silently():
    rows = RowSet(
        entity=np.zeros(2, np.int64), time=np.zeros(2, np.int64), columns={"n": np.array([INT64_MAX, 1], np.int64)}
    )
    assert merge_tiles(rows, {"n": Merge.ADD}).columns["n"].tolist() == [INT64_MIN]


def test_an_operation_that_does_not_merge_tiles_is_refused():
    rows = RowSet(entity=np.zeros(2, np.int64), time=np.zeros(2, np.int64), columns={"c": np.zeros(2, np.int64)})
    with pytest.raises(ValueError, match=r"`ops\['c'\]` must merge within a tile, got 'distinct'"):
        merge_tiles(rows, {"c": Merge.DISTINCT})


def seen(rows, dtype):
    entity, time, value = (list(part) for part in zip(*rows, strict=True)) if rows else ([], [], [])
    return RowSet(
        entity=np.array(entity, np.int64), time=np.array(time, np.int64), columns={"value": array(value, dtype)}
    )


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (object, st.sampled_from(["a", "b", "", "é", -1, -2])),  # hash(-1) == hash(-2)
        (np.float64, st.sampled_from([0.0, -0.0, 1.5, -1.5])),
        (np.int64, st.sampled_from([INT64_MIN, 0, 1, INT64_MAX])),
        (np.bool_, st.booleans()),
    ],
)
def test_distinct_keeps_the_latest_row_of_each_value(dtype, value):
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(few, few, value), max_size=25))
    def check(rows):
        latest = {}
        for entity, time, item in rows:
            latest[entity, item] = max(time, latest.get((entity, item), time))
        merged = merge_distinct(seen(rows, dtype))
        found = listed(merged, ["value"])
        assert {(entity, item): time for entity, time, item in found} == latest
        assert len(found) == len(latest)
        assert [row[:2] for row in found] == sorted(row[:2] for row in found)

    check()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(few, few), max_size=25), st.integers(1, 4))
def test_last_n_keeps_the_latest_rows_of_each_entity(pairs, n):
    rows = [(entity, time, str(at * 7 % 25)) for at, (entity, time) in enumerate(pairs)]
    expected = []
    for entity in sorted({row[0] for row in rows}):
        expected += sorted(row for row in rows if row[0] == entity)[-n:]
    ids = array([row[2] for row in rows], object)
    entity, time = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
    merged = merge_last_n(RowSet(entity=entity, time=time, columns={"value": ids, "id": ids}), n)
    assert listed(merged, ["id"]) == expected


def test_rows_of_one_time_are_sorted_by_the_text_of_their_id():
    ids = array(["b", "10", "9", "a"], object)
    rows = RowSet.sorted_from(np.zeros(4, np.int64), np.array([1, 0, 0, 1]), columns={"id": ids}, tie=ids)
    assert rows.columns["id"].tolist() == ["10", "9", "a", "b"]


def test_keys_that_do_not_fit_one_integer_sort_all_the_same():
    entity, time = np.array([INT64_MAX, INT64_MIN, 0, 0]), np.array([0, 5, INT64_MAX, INT64_MIN])
    assert ordering.order_by(entity, time).tolist() == [1, 3, 2, 0]


def test_an_empty_row_set_has_the_columns_it_was_given():
    rows = RowSet.empty({"n": np.int64, "id": object})
    assert len(rows) == 0
    assert rows.nbytes == 0
    assert {name: column.dtype.kind for name, column in rows.columns.items()} == {"n": "i", "id": "O"}


@pytest.fixture
def small_levels(monkeypatch):
    """Levels of a few rows, so that they are merged often."""
    monkeypatch.setattr("feature_store.transforms.accumulator._SMALLEST", 3)


batches = st.lists(st.tuples(st.lists(tile, max_size=6), st.integers(0, 3)), max_size=8)


@pytest.mark.usefixtures("small_levels")
@pytest.mark.parametrize("per_time", [True, False])
def test_the_accumulator_gives_what_merging_everything_gives(per_time):
    @settings(max_examples=60, deadline=None)
    @given(batches, st.sets(st.integers(-1, 5)))
    def check(steps, asked):
        state = Accumulator(lambda rows: merge_tiles(rows, OPS), per_time=per_time)
        state.add(tiles([]))
        everything, cutoff = [], INT64_MIN
        for drawn, drop in steps:
            known = {(row[0], row[4], row[5]) for row in everything}
            batch = [row for row in unique_ties(drawn) if (row[0], row[4], row[5]) not in known and row[1] >= cutoff]
            everything += batch
            state.add(tiles(batch))
            cutoff = max(cutoff, drop)
            state.drop_before(cutoff)
        expected = [row for row in merge_slowly(everything) if row[0] in asked and row[1] >= cutoff]
        assert readable(state.gather(np.array(sorted(asked), dtype=np.int64))) == expected

    check()


@pytest.mark.usefixtures("small_levels")
def test_the_accumulator_merges_across_an_entity():
    state = Accumulator(merge_distinct)
    for batch in ([(1, 0, "a"), (2, 0, "a")], [(1, 5, "a"), (1, 3, "b")], [(1, 4, "b")], [(0, 1, "c"), (2, 9, "d")]):
        state.add(seen(batch, object))
    assert listed(state.gather(np.array([1, 2])), ["value"]) == [(1, 4, "b"), (1, 5, "a"), (2, 0, "a"), (2, 9, "d")]
    assert len(state) >= 5
    assert state.nbytes > 0


def test_an_accumulator_that_never_had_rows_cannot_be_read():
    with pytest.raises(LookupError, match="`gather` needs rows to have been added, got none"):
        Accumulator(merge_distinct).gather(np.array([1]))
