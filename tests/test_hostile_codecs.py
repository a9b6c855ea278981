"""Any bytes, for everything that reads what others have written: a value, or the one error that is said."""

import itertools

import msgspec
import pytest
from fuzzing import BOMBS, damaged, edited, json_values, packed_values, texts, tried
from hypothesis import example, given
from hypothesis import strategies as st
from typed_world import ASKED, ITEMS, KINDS, Pinned, ledger

from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, decode_keyring, encode_keyring
from feature_store.access.keys import make_key
from feature_store.declare.feature import FeatureRef
from feature_store.declare.key import entity_key
from feature_store.errors import InputError
from feature_store.online.layout import layouts_in_use, parse_layout, parse_service, service_layout
from feature_store.online.packed import decode_row, own_row
from feature_store.online.packing import encode_own, encode_rows
from feature_store.online.ready import MOST_SHARDS, ReadyRecord, decode_ready, encode_ready, parse_ready, shards_of
from feature_store.online.rollout import Rollout, is_in_share, parse_rollout
from feature_store.time_rule import from_us

NOW_US = 1_700_000_000_500_000
LEDGER = ledger()
[PLAIN] = encode_rows(LEDGER.layout_id, 1, 7, [NOW_US], [1_000_000], [60], [[item] for _, item in ITEMS.values()])
[OWN] = encode_rows(7, 1, 7, [NOW_US], [1_000_000], [0], [[[5, 60, 4]]], [encode_own([4])])
KEY, _ = make_key("a test", Grants(services=("*",)), now_us=NOW_US, by="a test")


def row(value):
    found = decode_row(value)
    if found.age_us is not None:
        from_us(found.from_us - found.age_us)
        own_row(found, found.from_us - found.age_us)
    return found


CODECS = {
    "a packed row": (row, PLAIN, ValueError),
    "a packed row with what it was": (row, OWN, ValueError),
    "a layout": (parse_layout, msgspec.json.encode(LEDGER), msgspec.DecodeError),
    "a service": (parse_service, msgspec.json.encode(service_layout(ASKED, Pinned)), msgspec.DecodeError),
    "a rollout": (parse_rollout, msgspec.json.encode(Rollout(serve=1, mode="split", to=2)), msgspec.DecodeError),
    "keys": (decode_keyring, encode_keyring(Keyring(version=1, keys={KEY.id: KEY})), msgspec.DecodeError),
    "a ready record": (
        decode_ready,
        encode_ready(ReadyRecord(field="0", generation="g", beat_us=NOW_US)),
        msgspec.DecodeError,
    ),
}


def refusal(decode, value, error):
    """What is said of a value; nothing if it is one."""
    try:
        decode(value)
    except error as raised:
        return str(raised)
    return ""


@pytest.mark.parametrize("codec", CODECS)
def test_any_bytes_are_a_value_or_the_error_that_is_said(codec):
    decode, good, error = CODECS[codec]
    decode(good)

    @tried(40)
    @given(st.one_of(st.sampled_from(BOMBS), damaged(good), st.binary(max_size=60)))
    def check(value):
        assert len(refusal(decode, value, error)) < 1_000

    check()


@pytest.mark.parametrize("codec", CODECS)
def test_other_things_in_their_places_are_a_value_or_the_error_that_is_said(codec):
    decode, good, error = CODECS[codec]
    is_json = good.startswith(b"{")
    found = (msgspec.json if is_json else msgspec.msgpack).decode(good)

    @tried(40)
    @given(edited(found, json_values if is_json else packed_values))
    def check(value):
        try:
            encoded = (msgspec.json if is_json else msgspec.msgpack).encode(value)
        except (OverflowError, TypeError, UnicodeEncodeError):
            return
        assert len(refusal(decode, encoded, error)) < 1_000

    check()


names = st.one_of(
    st.binary(max_size=8), texts.map(str.encode), st.sampled_from([b"shards", b"0", b"ledger@1", b"ledger@1#7"])
)


@tried(40)
@given(st.dictionaries(names, st.one_of(st.sampled_from(BOMBS), st.binary(max_size=12)), max_size=4))
@example({b"shards": b"9" * 5_000})
@example({b"shards": b"999999999"})
@example({b"shards": "٣".encode()})
def test_hashes_with_any_fields_are_read(fields):
    assert parse_ready(fields) == {}
    assert 1 <= shards_of(fields) <= MOST_SHARDS
    assert layouts_in_use(fields) == {}


PARTS = ["", "a", "|", "%", "%7C", "%257C", "a|", "|a", "{", "}", "%7B", "{}", "7C"]


def test_texts_that_look_like_each_other_are_entities_of_their_own():
    pairs = list(itertools.product(PARTS, PARTS))

    assert len({entity_key(pair, ["str", "str"], columns=["a", "b"]) for pair in pairs}) == len(pairs)


OUTSIDE = [(2**62, 0), (-(2**62), 0), (NOW_US, 2**62), (NOW_US, -(2**62)), (2**64 - 1, None)]


@pytest.mark.parametrize(("from_us", "age_us"), OUTSIDE)
def test_a_row_of_a_time_that_there_is_not_is_damaged(from_us, age_us):
    value = msgspec.msgpack.encode([7, 1, 7, from_us, age_us, 0, 0, None, None, 5])

    with pytest.raises(ValueError, match="times of the years 1 to 9999 are needed"):
        decode_row(value)


ANY = {
    "str": texts,
    "int": st.integers(-(2**70), 2**70),
    "bool": st.booleans(),
    "date": st.dates(),
    "bytes": st.binary(max_size=8),
}
NEAR = {"str": st.text("a|%7C{", max_size=3), "bytes": st.binary(max_size=1)}
"""Of which one can be made of another by moving where it ends."""


def pairs(values, kinds):
    one = st.tuples(*(values[kind] for kind in kinds))
    return st.tuples(st.just(kinds), one, one)


@tried(200)
@given(st.one_of(pairs(ANY, KINDS), pairs(NEAR, ["str", "str"]), pairs(NEAR, ["str", "bytes", "str"])))
def test_entities_of_any_values_have_texts_of_their_own_without_braces(drawn):
    kinds, one, other = drawn
    key, another = (entity_key(each, kinds, columns=kinds) for each in (one, other))

    assert (key == another) == (one == other)
    assert key.count("|") == len(kinds) - 1
    assert not {"{", "}"} & set(key)
    assert is_in_share("service", key, 100.0)


@tried(60)
@given(st.one_of(texts, st.text(max_size=30), st.from_regex(r"\w+@\d+:\w+"), st.none(), st.integers()))
def test_any_name_of_a_feature_is_one_or_said_to_be_none(name):
    said = refusal(FeatureRef.parse, name, InputError)

    assert len(said) < 500
    assert said or name.startswith(FeatureRef.parse(name).view)
