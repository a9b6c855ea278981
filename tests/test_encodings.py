"""The catalogue of encodings: what each gives, the same everywhere, and what is refused."""

import math
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import asked_time, encode, request
from feature_store.computed.encodings import parse
from feature_store.computed.run import run
from feature_store.errors import InputError
from feature_store.time_rule import to_us

TEXTS = np.array(["web", "app", "tv", "web"], dtype=object)
CATALOGUE = [
    encode.one_hot("channel", request(str), values=["web", "app"], other=True),
    encode.hashing("channel", request(str), buckets=1000),
    encode.bucketing("age", request(float), edges=[18, 65]),
    encode.cyclical("hour", asked_time, period="24h"),
    encode.cyclical("angle", request(float), period=360),
    encode.target_rate("rate", positives=request(int, "won"), count=request(int, "seen"), prior=0.25, weight=4),
]


def columns(encoding, *given):
    outcome = run(encoding.function, given, rows=len(given[0]))
    return {f.name: column.tolist() for f, column in zip(encoding.features, outcome.columns, strict=True)}


@pytest.mark.parametrize("encoding", CATALOGUE, ids=lambda each: f"{each.function.encoding[14:24]}{each.name}")
def test_an_encoding_is_its_name_and_options(encoding):
    again = parse(encoding.name, encoding.function.encoding)

    assert again == encoding.function
    assert len({each.function.digest for each in CATALOGUE}) == len(CATALOGUE)


def test_one_hot_marks_the_value_and_the_others():
    found = columns(CATALOGUE[0], TEXTS)

    assert found == {"channel_web": [1, 0, 0, 1], "channel_app": [0, 1, 0, 0], "channel_other": [0, 0, 1, 0]}


def test_one_hot_takes_names_for_values_that_are_none():
    encoding = encode.one_hot("kind", request(int), values={"none": 0, "some": 1})

    assert columns(encoding, np.array([0, 1, 2])) == {"kind_none": [1, 0, 0], "kind_some": [0, 1, 0]}


def test_hashes_are_the_same_on_every_machine_and_for_ever():
    assert columns(CATALOGUE[1], np.array(["web", "", "zürich", "a\0"], dtype=object))["channel"] == [652, 876, 12, 537]
    numbers = encode.hashing("id", request(int), buckets=2**31, seed=7)
    assert columns(numbers, np.array([0, -1, 2**63 - 1]))["id"] == [358648860, 132284469, 982884977]


def test_buckets_begin_at_their_edges():
    assert columns(CATALOGUE[2], np.array([-5.0, 17.99, 18.0, 64.0, 65.0]))["age"] == [0, 0, 1, 1, 2]


def test_a_rate_is_drawn_to_the_prior_where_little_was_seen():
    assert columns(CATALOGUE[5], np.array([0, 1, 500]), np.array([0, 1, 1000]))["rate"] == [0.25, 0.4, 501 / 1004]


@settings(max_examples=200)
@given(moment=st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001
def test_sine_and_cosine_of_a_time_are_right_to_the_last_bits(moment):
    found = columns(CATALOGUE[3], np.array([moment], dtype="datetime64[us]"))

    turn = Fraction(to_us(moment.replace(tzinfo=UTC)) % 86_400_000_000, 86_400_000_000)
    angle = 2 * math.pi * float(turn)
    assert found["hour_sin"][0] == pytest.approx(math.sin(angle), abs=1e-15)
    assert found["hour_cos"][0] == pytest.approx(math.cos(angle), abs=1e-15)


def test_quarters_of_a_period_are_exact_and_so_is_every_bit():
    found = columns(CATALOGUE[4], np.array([0.0, 90.0, 180.0, 270.0, 360.0, -90.0, 45.0, 1.0]))

    assert found["angle_sin"][:6] == [0.0, 1.0, 0.0, -1.0, 0.0, -1.0]
    assert found["angle_cos"][:6] == [1.0, 0.0, -1.0, 0.0, 1.0, 0.0]
    assert [value.hex() for value in found["angle_sin"][6:]] == ["0x1.6a09e667f3bccp-1", "0x1.1df0b2b89dd1ep-6"]


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: encode.one_hot("c", request(str), values=[]), "`values` must be several values"),
        (lambda: encode.one_hot("c", request(str), values=["a", "a"]), "`values` must be several values"),
        (lambda: encode.one_hot("c", request(str), values=["a b", "a-b"]), "`values` must be several values"),
        (lambda: encode.one_hot("c", request(str), values=["a", "other"], other=True), "`values` must be several values"),
        (lambda: encode.one_hot("c", request(str), values=["!"]), "an output's name must be letters"),
        (lambda: encode.one_hot("c", request(str), values=["a", 1]), "must be of one type, got int, str"),
        (lambda: encode.one_hot("c", request(float), values=[1.5]), "must be whole numbers, texts or booleans, got 1.5"),
        (lambda: encode.one_hot("c", request(int), values=["a"]), "encoding 'c' takes str, got int"),
        (lambda: encode.hashing("c", request(float), buckets=9), "encoding 'c' takes int or str or bool, got float"),
        (lambda: encode.hashing("c", request(str), buckets=1), "`buckets` must be a whole number from 2"),
        (lambda: encode.hashing("c", request(str), buckets=2, seed=-1), "`seed` must be a whole number from 0"),
        (lambda: encode.bucketing("c", request(float), edges=[]), "`edges` must be numbers"),
        (lambda: encode.bucketing("c", request(float), edges=[1, math.nan]), "`edges` must be numbers"),
        (lambda: encode.bucketing("c", request(float), edges=[2, 2]), "`edges` must ascend"),
        (lambda: encode.cyclical("c", asked_time, period="0h"), "`period` must be a positive duration"),
        (lambda: encode.cyclical("c", asked_time, period=24), "encoding 'c' takes int or float, got timestamp; the `period` of a time is a duration such as '24h'"),
        (lambda: encode.cyclical("c", request(float), period=0), "`period` must be a positive number"),
        (lambda: encode.target_rate("c", positives="a:b", count="a:c", prior=math.inf), "`prior` must be a number"),
        (lambda: encode.target_rate("c", positives="a:b", count="a:c", prior=0, weight=-1), "`weight` must be a number"),
        (lambda: encode.hashing("c", "no feature", buckets=2), "encoding 'c': a feature must be named as"),
        (lambda: encode.hashing("c", CATALOGUE[0], buckets=2), "choose one of its outputs, such as channel"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(declare, said):
    with pytest.raises(InputError) as error:
        declare()

    assert said in str(error.value)


def test_an_encoding_of_a_newer_library_is_refused():
    for text in ('{"encoding": "ordinal"}', "nonsense", "[]", '{"encoding": "hashing"}'):
        with pytest.raises(InputError, match="encoding 'c' is of another version"):
            parse("c", text)
