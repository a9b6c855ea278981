"""How much is tried, and strategies for what nobody in his right mind would send: `FUZZ=20` tries twenty times as much, anew each time."""

import os
import random
import struct

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("FUZZ", "1"))


def tried(examples):
    """So many examples, the same in every run of the suite; more, and others each time, in a long run."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if FACTOR > 1 else [])],
    )


texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.one_of(
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1]), st.integers(-(2**63), 2**64 - 1)
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.floats(), texts)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
packed_values = st.recursive(
    st.one_of(
        scalars, st.binary(max_size=12), st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=12))
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=4),
    max_leaves=8,
)

DEEP = 100_000
BOMBS = [
    b"",
    b"\xc1",
    b"\x91" * DEEP,  # arrays in arrays
    b"\x81\xa1a" * DEEP,
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"unknown":' + b"[" * DEEP,
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million elements
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdd\x0f\xff\xff\xff" * 200,
    b"\xd7\xff" + b"\xff" * 8,  # no time
    b"9" * 5_000,
    b"1e999",
    b'"\xff"',
    b'"\\ud800"',
    b"null",
    b"NaN",
]
"""Bodies and values that cost a careless decoder its stack, its memory or its temper."""


@st.composite
def damaged(draw, value):
    """Some bytes with a few of them changed, cut, doubled or added."""
    found = bytearray(value)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                found[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del found[at : at + draw(st.integers(1, 8))]
            case 2:
                found[at:at] = draw(st.binary(max_size=9))
            case 3:
                found[at:at] = found[at : at + draw(st.integers(1, 30))]
            case 4:
                found[at : at + 8] = struct.pack(">Q", draw(st.integers(0, 2**64 - 1)))
    return bytes(found)


def places(value, path=()):
    """Where in nested lists and mappings something stands."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def with_another(value, path, other):
    """A nested value with something else at a place."""
    if not path:
        return other
    key, *rest = path
    changed = value.copy()
    changed[key] = with_another(value[key], rest, other)
    return changed


@st.composite
def edited(draw, value, others):
    """A nested value with something else at one or two of its places."""
    for _ in range(draw(st.integers(1, 2))):
        value = with_another(value, draw(st.sampled_from(list(places(value)))), draw(others))
    return value


def noise(size, seed=0):
    """Bytes that mean nothing."""
    return random.Random(seed).randbytes(size)
