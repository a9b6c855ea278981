"""On-demand features: what is computed in training is what is served, to the last bit and the last status."""

from datetime import UTC, date, datetime

from demanded import REQUESTED, bits, by_hand, served, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.status import Status

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e308, -90.5, 50.0, 360.0, 720.0, -360.0]),
)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001
WHOLE = st.one_of(st.integers(-(2**40), 2**40), st.sampled_from([0, 13, -1, 2**53 + 1]))
VALUES = {
    "count_1h": WHOLE,
    "count_24h": WHOLE,
    "amount_mean_24h": NUMBERS,
    "merchant_last": st.sampled_from(["", "m1", "zürich", "a\0", "🦊"]),
    "home_last": st.booleans(),
    "paid_at_last": TIMES,
    "last_day": st.dates(date(1950, 1, 1), date(2050, 1, 1)),
    "amount_last_3_24h": st.lists(st.floats(-1e6, 1e6), max_size=3),
}
ASKED = {
    "amount": NUMBERS,
    "tip": NUMBERS,
    "born": st.dates(date(1950, 1, 1), date(2050, 1, 1)),
    "code": st.one_of(st.just(13), st.integers(-100, 100)),
    "channel": st.sampled_from(["web", "app", "", "Web"]),
    "due": TIMES,
    "angle": NUMBERS,
}


def stored(values):
    """A stored feature: mostly PRESENT with a value, else in any of the ways in which it may not be."""
    return st.one_of(
        st.tuples(values, st.just(Status.PRESENT)),
        st.tuples(values, st.just(Status.PRESENT)),
        st.tuples(st.none(), st.sampled_from([Status.EMPTY, Status.UNKNOWN, Status.ERROR, Status.STALE])),
        st.tuples(st.one_of(st.none(), values), st.sampled_from([Status.EMPTY, Status.STALE, Status.AHEAD])),
    )


ROWS = st.lists(
    st.tuples(
        st.fixed_dictionaries({name: stored(values) for name, values in VALUES.items()}),
        st.fixed_dictionaries(
            {name: values if name == "tip" else st.one_of(values, values, st.none()) for name, values in ASKED.items()}
        ),
        st.integers(-(10**15), 4 * 10**15),
    ),
    min_size=1,
    max_size=5,
)


def test_the_examples_below_ask_for_every_column():
    assert REQUESTED.keys() == ASKED.keys()


@settings(max_examples=100)
@given(rows=ROWS)
def test_a_training_row_is_the_served_row_is_the_naive_one(rows):
    expected = by_hand(rows)

    assert bits(served(rows)) == bits(expected)
    assert bits(trained(rows)) == bits(expected)
    assert bits([served([row])[0] for row in rows]) == bits(expected)
