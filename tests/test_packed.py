"""A packed value reads back as it was written, and as a function of time it is what its steps say."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.online.packed import ERROR, decode_row, is_valid_at, item_at, row_decoder, seconds_since
from feature_store.online.packing import encode_rows
from feature_store.time_rule import EARLIEST_US, LATEST_US, SECOND_US

INT64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(INT64, st.floats(allow_nan=False), st.booleans(), st.text(), st.none(), st.just(ERROR))
LISTS = st.lists(st.one_of(INT64, st.floats(allow_nan=False), st.text()), max_size=5)


@st.composite
def steps(draw):
    """A list of steps: values and, between them, rising whole seconds."""
    seconds = sorted(draw(st.sets(st.integers(1, 10_000_000), max_size=8)))
    values = draw(st.lists(st.one_of(SCALARS, LISTS), min_size=len(seconds) + 1, max_size=len(seconds) + 1))
    item = [values[0]]
    for second, value in zip(seconds, values[1:], strict=True):
        item += [second, value]
    return item


ITEMS = st.one_of(SCALARS, steps())


@given(
    items=st.lists(ITEMS, max_size=10),
    from_us=st.integers(-(2**52), 2**52),
    age_us=st.one_of(st.none(), st.integers(0, 2**52)),
    until_s=st.integers(0, 2**31),
)
def test_what_was_packed_unpacks_to_the_same(items, from_us, age_us, until_s):
    [value] = encode_rows(7, 3, 4, [from_us], [age_us], [until_s], [[item] for item in items])

    row = decode_row(value)
    plain = [item[0] if item_is_constant(item) else item for item in items]

    assert row[:6] == (7, 3, 4, from_us, age_us, until_s)
    assert row.items == plain
    assert [type(item) for item in row.items] == [type(item) for item in plain]


def item_is_constant(item):
    """Whether an item is a single step that is packed as the value alone."""
    return type(item) is list and len(item) == 1 and type(item[0]) is not list


@given(item=steps(), from_us=st.integers(-(2**52), 2**52), later=st.integers(0, 20_000_000 * SECOND_US))
def test_a_step_function_has_the_value_of_the_last_step_that_has_begun(item, from_us, later):
    # from_us      floor(from)+s1        floor(from)+s2
    # |----- v0 ---|-------- v1 ---------|---- v2 ...
    time_us = from_us + later
    start_us = from_us // SECOND_US * SECOND_US
    changes = [(-(2**62), item[0])] + [
        (start_us + s * SECOND_US, v) for s, v in zip(item[1::2], item[2::2], strict=True)
    ]
    plain = [value for since_us, value in changes if since_us <= time_us][-1]

    [value] = encode_rows(7, 3, 4, [from_us], [None], [0], [[7], [item], [[1, 5, None]]])
    seconds = seconds_since(from_us, time_us)

    assert item_at(item, seconds) == plain
    assert decode_row(value).values_at(seconds) == [7, plain, 1 if seconds < 5 else None]


@pytest.mark.parametrize("constant", [0, 1.5, True, "x", None, ERROR])
def test_a_constant_is_itself_at_every_time(constant):
    assert item_at(constant, 0) is constant
    assert item_at(constant, 10**9) is constant


def test_validity_begins_at_from_and_ends_at_a_whole_second():
    # from = 10.4 s, until = floor(from) + 5 = 15 s
    from_us = 10_400_000

    assert [is_valid_at(from_us, 5, t) for t in (10_399_999, 10_400_000, 14_999_999, 15_000_000)] == [
        False,
        True,
        True,
        False,
    ]
    assert is_valid_at(from_us, 0, 2**60)


def test_many_rows_are_packed_at_once_in_their_order():
    values = encode_rows(1, 2, 3, [10, 20], [0, None], [0, 60], [[5, None], [[1, 30, 2], ERROR]])

    assert [(*row[:7], row.items) for row in map(decode_row, values)] == [
        (1, 2, 3, 10, 0, 0, 30, [5, [1, 30, 2]]),
        (1, 2, 3, 20, None, 60, 0, [None, ERROR]),
    ]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"all columns must have the same length, got \[1, 1, 1, 2\]"):
        encode_rows(1, 2, 3, [10], [0], [0], [[1, 2]])


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\x01", b"\x91\x01", b"\x99\x01\x02\x03\xa1x\x00\x00\x00\xc0\xc0", b"not packed"]
)
def test_bytes_that_are_no_packed_value_are_refused_as_such(value):
    with pytest.raises(ValueError, match="packed value"):
        decode_row(value)


def written(layout_id=7, from_us=10, age_us=5, item=1.5):
    [value] = encode_rows(layout_id, 3, 4, [from_us], [age_us], [60], [[item]])
    return value


def test_a_decoder_of_one_layout_gives_the_elements_of_its_rows():
    decode = row_decoder(7, [float])

    assert decode(written()) == (7, 3, 4, 10, 5, 60, 0, None, None, 1.5)
    assert decode(written(from_us=0, age_us=None, item=None)) == (7, 3, 4, 0, None, 60, 0, None, None, None)


@pytest.mark.parametrize(
    "value",
    [
        written(layout_id=6),
        written(layout_id=8),
        written(from_us=-1),
        written(from_us=LATEST_US + 1),
        written(age_us=0),
        written(age_us=1 - EARLIEST_US),
        written(item="x"),
        written(item=ERROR),
        written(item=[[1.5]]),
        written() + b"\x00",
        b"",
    ],
)
def test_it_refuses_what_needs_a_second_look(value):
    with pytest.raises(msgspec.DecodeError):
        row_decoder(7, [float])(value)
