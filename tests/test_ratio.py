"""Ratios: one definition for serving and training."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.computed.ratio import quotient, ratio
from feature_store.status import Status

NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


@given(top=NUMBERS, bottom=NUMBERS.filter(bool))
def test_a_quotient_is_that_of_the_doubles(top, bottom):
    assert quotient(top, bottom) == float(top) / float(bottom)


@pytest.mark.parametrize(
    ("top", "bottom"), [(1, 0), (1, 0.0), (1, -0.0), (1, False), (None, 1), (1, None), ("1", 1), ([1], 1)]
)
def test_without_two_numbers_or_with_a_zero_below_there_is_no_quotient(top, bottom):
    assert quotient(top, bottom) is None
    assert ratio((top, Status.PRESENT), (bottom, Status.PRESENT), empty=0.25) == (0.25, Status.EMPTY)


def test_an_empty_part_with_a_number_counts():
    assert ratio((0, Status.EMPTY), (4, Status.PRESENT), empty=None) == (0.0, Status.PRESENT)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(Status, Status)))
def test_a_ratio_is_worth_as_little_as_the_lesser_of_its_parts(one, other):
    value, status = ratio((1, one), (2, other), empty=9.0)

    order = [Status.ERROR, Status.UNKNOWN, Status.AHEAD, Status.STALE]
    lesser = next((s for s in order if s in (one, other)), Status.PRESENT)
    assert status is lesser
    assert value == (None if lesser in (Status.ERROR, Status.UNKNOWN) else 0.5)
