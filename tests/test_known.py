"""Windows of known rows against plain loops."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.transforms.kernel import RangeIndex
from feature_store.transforms.known import Visibility
from feature_store.transforms.rowset import RowSet

# Delays after which rows become visible: at once, sometimes late, half of them late, all together at the end.
DELAYS = {
    "at once": lambda _draw, time: time,
    "some late": lambda draw, time: time + (draw.randrange(200) if draw.random() < 0.05 else 0),
    "half late": lambda draw, time: time + draw.choice([0, 100]),
    "by bulk": lambda _draw, time: 300 if time < 150 else time,
}


def drawn_rows(seed, size):
    """Rows of three entities, most of one, some without a value."""
    draw = random.Random(seed)
    rows = sorted((draw.choice([1, 2, 2, 2, 2, 3]), draw.randrange(200), draw.randrange(6)) for _ in range(size))
    entity, time, value = (np.array([row[at] for row in rows], dtype=np.int64) for at in range(3))
    columns = {"value": value, "valid": value != 0, "float": value / 4}
    return RowSet(entity=entity, time=time, columns=columns)


def first_or_none(rows):
    return next(iter(rows), -1)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("gap_rows", "classes"), [(1, (0, 60)), (1000, (2**24,))])
def test_known_windows_hold_the_rows_visible_by_the_cutoff(delay, gap_rows, classes, monkeypatch):
    monkeypatch.setattr("feature_store.transforms.known._GAP_ROWS", gap_rows)
    monkeypatch.setattr("feature_store.transforms.exceeding._DELAYS_US", classes)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.integers(0, 300), st.integers(0, 20))
    def check(seed, size, asked):
        draw, rows = random.Random(seed), drawn_rows(seed, size)
        visible = [DELAYS[delay](draw, time) for time in rows.time.tolist()]
        queries = [(draw.randrange(5), draw.randrange(-1, 220), draw.randrange(400)) for _ in range(asked)]
        entity, head, cutoff = (np.array([query[at] for query in queries], dtype=np.int64) for at in range(3))
        index = RangeIndex(rows)
        lo, hi = index.locate(entity, head - 60), index.locate(entity, head)
        windows = [
            [at for at in range(low, high) if visible[at] <= limit]
            for low, high, limit in zip(lo.tolist(), hi.tolist(), cutoff.tolist(), strict=True)
        ]
        seen = np.array(visible, dtype=np.int64)
        compare(Visibility(index, seen).known(lo, hi, cutoff=cutoff), rows, windows)

    check()


def compare(known, rows, windows):
    """Ask everything of windows whose rows are given as lists of positions."""
    value, halves, valid = (rows.columns[name].tolist() for name in ("value", "float", "valid"))
    valued = [[at for at in window if valid[at]] for window in windows]
    lo, hi = known.lo, known.hi
    assert known.rows is rows
    assert known.count_range(lo, hi).tolist() == [len(window) for window in windows]
    assert known.sum_range("value", lo, hi).tolist() == [sum(value[at] for at in window) for window in windows]
    assert known.min_range("value", lo, hi, identity=9).tolist() == [
        min((value[at] for at in window), default=9) for window in windows
    ]
    assert known.max_range("float", lo, hi, identity=-9).tolist() == [
        max((halves[at] for at in window), default=-9) for window in windows
    ]
    assert known.first_valid("valid", lo, hi).tolist() == [first_or_none(window) for window in valued]
    assert known.last_valid("valid", lo, hi).tolist() == [first_or_none(window[::-1]) for window in valued]
    assert known.last_n_range("valid", lo, hi, n=2).tolist() == [[*window[-2:], -1, -1][:2] for window in valued]
    assert known.distinct_range("value", lo, hi).tolist() == [len({value[at] for at in window}) for window in windows]
