"""The windowing kernel against plain loops."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.transforms import kernel
from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.ordering import INT64_MAX, INT64_MIN
from feature_store.transforms.rowset import RowSet

small = st.integers(0, 5)
far = st.sampled_from([INT64_MIN, -(2**61), 2**61, INT64_MAX])
times = st.one_of(st.integers(0, 12), far)


def row_set(rows):
    """Rows of (entity, time, value), value None where there is none."""
    rows = sorted(rows, key=lambda row: row[:2])
    value = np.empty(len(rows), dtype=object)
    value[:] = [row[2] for row in rows]
    filled = np.array([0 if row[2] is None else row[2] for row in rows], dtype=np.int64)
    columns = {"value": value, "filled": filled, "float": filled / 2, "valid": np.not_equal(value, None)}
    columns["at__t"] = np.where(columns["valid"], 7, INT64_MIN)
    entity, time = (np.array([row[at] for row in rows], dtype=np.int64) for at in (0, 1))
    return RowSet(entity=entity, time=time, columns=columns)


def windows(rows, queries):
    """The row set's index, and lo and hi of queries (entity, tail, head)."""
    index = RangeIndex(rows)
    entity, tail, head = (np.array([query[at] for query in queries], dtype=np.int64) for at in range(3))
    return index, index.locate(entity, tail), index.locate(entity, head)


def members(rows, query):
    """The positions of the rows of a window."""
    entity, tail, head = query
    pairs = zip(rows.entity.tolist(), rows.time.tolist(), strict=True)
    return [at for at, (e, t) in enumerate(pairs) if e == entity and tail <= t < head]


events = st.lists(st.tuples(small, times, st.one_of(st.none(), st.integers(-3, 3))), max_size=40)
asked = st.lists(st.tuples(st.integers(-1, 6), times, times), max_size=12)


def hot_rows(seed):
    """Four hundred rows of one entity: windows of many blocks."""
    draw = random.Random(seed)
    return [(2, draw.randrange(200), draw.randrange(-100, 100)) for _ in range(400)]


hot = st.integers(0, 1000).map(hot_rows)


@pytest.fixture(params=["even", "hot"])
def cases(request):
    """A strategy of (rows, queries): few rows of several entities, or many of one."""
    if request.param == "even":
        return st.tuples(events, asked)
    query = st.tuples(st.just(2), st.integers(-1, 201), st.integers(-1, 201))
    return st.tuples(hot, st.lists(query, max_size=12))


def check_against(cases, reduce, slowly):
    """Compare a reduction of (index, lo, hi) to the same in plain Python, for each query's rows."""

    @settings(max_examples=50, deadline=None)
    @given(cases)
    def check(case):
        rows, queries = row_set(case[0]), case[1]
        index, lo, hi = windows(rows, queries)
        found = np.asarray(reduce(index, lo, hi)).tolist()
        assert found == [slowly(rows, members(rows, query)) for query in queries]

    check()


@settings(max_examples=100, deadline=None)
@given(events, asked)
def test_locate_counts_the_rows_that_sort_before(rows, queries):
    rows = row_set(rows)
    _, lo, _ = windows(rows, queries)
    keys = list(zip(rows.entity.tolist(), rows.time.tolist(), strict=True))
    assert lo.tolist() == [sum(key < (entity, tail) for key in keys) for entity, tail, _ in queries]


def test_count_is_the_number_of_rows(cases):
    check_against(cases, lambda index, lo, hi: index.count_range(lo, hi), lambda _, at: len(at))


def test_sum_adds_the_values_up(cases):
    check_against(
        cases,
        lambda index, lo, hi: index.sum_range("filled", lo, hi),
        lambda rows, at: sum(rows.columns["filled"][at].tolist()),
    )


@pytest.mark.parametrize("column", ["filled", "float"])
def test_min_is_the_smallest_value_or_the_identity(cases, column):
    check_against(
        cases,
        lambda index, lo, hi: index.min_range(column, lo, hi, identity=99),
        lambda rows, at: min(rows.columns[column][at].tolist(), default=99),
    )


@pytest.mark.parametrize("column", ["filled", "float"])
def test_max_is_the_largest_value_or_the_identity(cases, column):
    check_against(
        cases,
        lambda index, lo, hi: index.max_range(column, lo, hi, identity=-99),
        lambda rows, at: max(rows.columns[column][at].tolist(), default=-99),
    )


def has_value(rows, at):
    return [row for row in at if rows.columns["value"][row] is not None]


@pytest.mark.parametrize("column", ["valid", "at__t", "value"])
def test_first_last_and_last_n_find_rows_with_a_value(cases, column):
    check_against(
        cases,
        lambda index, lo, hi: index.first_valid(column, lo, hi),
        lambda rows, at: next(iter(has_value(rows, at)), -1),
    )
    check_against(
        cases,
        lambda index, lo, hi: index.last_valid(column, lo, hi),
        lambda rows, at: next(reversed(has_value(rows, at)), -1),
    )
    check_against(
        cases,
        lambda index, lo, hi: index.last_n_range(column, lo, hi, n=3),
        lambda rows, at: (has_value(rows, at)[-3:] + [-1] * 3)[:3],
    )


def test_only_what_is_marked_as_missing_is_missing():
    limits = np.array([INT64_MAX, INT64_MIN, 0])
    rows = RowSet(entity=np.zeros(3, np.int64), time=np.arange(3), columns={"x": limits, "x__t": limits})
    index, lo, hi = RangeIndex(rows), np.array([0]), np.array([3])
    assert index.last_n_range("x", lo, hi, n=3).tolist() == [[0, 1, 2]]
    assert index.last_n_range("x__t", lo, hi, n=3).tolist() == [[2, -1, -1]]


@pytest.mark.parametrize("column", ["filled", "float", "value"])
def test_distinct_counts_different_values(cases, column):
    check_against(
        cases,
        lambda index, lo, hi: index.distinct_range(column, lo, hi),
        lambda rows, at: len(set(rows.columns[column][at].tolist())),
    )


def test_span_is_all_rows_of_an_entity():
    index = RangeIndex(row_set([(1, 5, 0), (1, 6, 0), (3, 5, 0)]))
    lo, hi = index.span(np.array([0, 1, 2, 3, 4]))
    assert list(zip(lo.tolist(), hi.tolist(), strict=True)) == [(0, 0), (0, 2), (2, 2), (2, 3), (3, 3)]


def test_a_sum_that_overflows_wraps():
    rows = RowSet(entity=np.zeros(3, np.int64), time=np.arange(3), columns={"x": np.array([INT64_MAX, INT64_MAX, 5])})
    index = RangeIndex(rows)
    assert index.sum_range("x", np.array([2, 1]), np.array([3, 3])).tolist() == [5, INT64_MIN + 4]


def test_what_a_column_needs_is_computed_once(monkeypatch):
    built = []

    class Counted(kernel.Prefix):
        def __init__(self, column):
            built.append(len(column))
            super().__init__(column)

    monkeypatch.setattr(kernel, "Prefix", Counted)
    index = RangeIndex(row_set([(1, 5, 2), (1, 6, 3)]))
    for _ in range(3):
        assert index.sum_range("filled", np.array([0]), np.array([2])).tolist() == [5]
    assert built == [2]
