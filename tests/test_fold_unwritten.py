"""What a shard took in while it wrote nothing: all that somebody else cannot have written, and little more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.fold import unwritten
from feature_store.fold.unwritten import Unwritten
from feature_store.online.commits import CommitRecord

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 5), st.frozensets(st.integers(0, 20))), max_size=40
)


@pytest.mark.parametrize("kept", [unwritten.FOLDS_KEPT, 4])
@given(steps=STEPS, cut=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)))
def test_what_is_left_was_touched_by_what_the_other_did_not_know(kept, steps, cut):
    left, naive, at, now_us = Unwritten(), dict[int, bool](), [0, 0], 0
    theirs, their_us = {"s": {0: cut[0], 1: cut[1]}}, cut[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unwritten, "FOLDS_KEPT", kept)
        gone_on = latest_us = 0
        for n, (a, b, later, entities) in enumerate(steps, 1):
            at, now_us = [at[0] + a, at[1] + b], now_us + later
            latest_us = max(latest_us, now_us)
            left.add({"v": np.array(sorted(entities), dtype=np.int64)} if entities else {}, fold(n, at, now_us))
            gone_on = gone_on or at[0] > cut[0] or at[1] > cut[1] or latest_us > their_us
            naive |= dict.fromkeys(entities, bool(gone_on))

    left.drop_known(theirs, their_us, sources=["s"])

    found, expected = left.take("v").tolist(), sorted(entity for entity, unknown in naive.items() if unknown)
    assert found == expected if kept > len(steps) else set(found) >= set(expected)
    assert left.take("v").tolist() == []


def fold(n, at, now_us):
    return CommitRecord(shard=0, run=1, n=n, positions={"s": dict(enumerate(at)), "new": {0: 10**9}}, now_us=now_us)


def test_of_folds_that_never_end_the_older_ones_are_told_apart_less(monkeypatch):
    monkeypatch.setattr(unwritten, "FOLDS_KEPT", 16)
    left = Unwritten()
    for n in range(1000):
        left.add({"v": np.array([n])}, fold(n, [n + 1, 0], n))

    left.drop_known({"s": {0: 990, 1: 0}}, 10**6, sources=["s"])

    assert len(left._folds) <= 16
    assert left.take("v").tolist() == list(range(990, 1000))
