"""On-demand features: what is computed in training is what is served, to the last bit and the last status."""

from datetime import UTC, date, datetime

import msgspec
import pytest
from demanded import REQUESTED, bits, by_hand, compiled, registry, resolved, served, service, spending, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.online.layout import OutputLayout, service_layout, view_layout
from feature_store.reader.plan import plan_read
from feature_store.status import Status
from feature_store.time_rule import to_us

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
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


def row(**changes):
    """A row in which everything has a value, but for the changes."""
    stored = {
        "count_1h": 1, "count_24h": 2, "amount_mean_24h": 20.0, "merchant_last": "m1", "home_last": True,
        "paid_at_last": NOW, "last_day": NOW.date(), "amount_last_3_24h": [1.0],
    }  # fmt: skip
    asked = {"amount": 30.0, "tip": 1.0, "born": NOW.date(), "code": 1, "channel": "web", "due": NOW, "angle": 1.0}
    return {name: (value, Status.PRESENT) for name, value in (stored | changes).items()}, asked, to_us(NOW)


@pytest.mark.parametrize("damaged", ["many", object(), [1.0], 10**400])
def test_a_stored_value_of_another_kind_is_an_error_of_its_own_row(damaged):
    names = [item.name for item in resolved]

    rows = [dict(zip(names, each, strict=True)) for each in served([row(), row(amount_mean_24h=damaged), row()])]

    assert [each["times_usual"] for each in rows] == [
        (3.0, Status.PRESENT),
        (None, Status.ERROR),
        (3.0, Status.PRESENT),
    ]
    assert [each["level"][1] for each in rows] == [Status.PRESENT, Status.ERROR, Status.PRESENT]
    assert {each["hour_sin"][1] for each in rows} == {Status.PRESENT}


def test_a_function_that_is_published_with_other_inputs_or_outputs_is_not_run():
    for changes in ({"inputs": []}, {"outputs": [OutputLayout(dtype="str")]}):
        layout = service_layout(service, registry)
        functions = [msgspec.structs.replace(layout.functions[0], **changes), *layout.functions[1:]]
        plan = plan_read(
            "test",
            msgspec.structs.replace(layout, functions=functions),
            {spending.id: view_layout(compiled.plan(spending))},
        )

        [found] = served([row()], plan=plan)

        assert found[0] == (None, Status.ERROR)
        assert found[1][1] is Status.PRESENT
