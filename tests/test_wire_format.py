"""The page on the wire format is true: its vectors are those of today's code, and its example reads them."""

import importlib.util
import json
import zlib
from pathlib import Path

import pytest
import reference

from feature_store.online.packed import ERROR, decode_row, is_valid_at, item_at, own_row, seconds_since

VECTORS = Path(__file__).parent / "vectors"
KEYS = json.loads((VECTORS / "entity_keys.json").read_text())
OWN = json.loads((VECTORS / "own_values.json").read_text())
CASES = json.loads((VECTORS / "packed_values.json").read_text())


def test_the_vectors_are_what_the_generator_writes():
    spec = importlib.util.spec_from_file_location("generate_vectors", VECTORS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    assert json.loads(json.dumps(generate.cases())) == CASES
    assert json.loads(json.dumps(generate.keys())) == KEYS
    assert json.loads(json.dumps(generate.own_cases())) == OWN


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_vector_reads_as_it_says(case):
    row = decode_row(bytes.fromhex(case["hex"]))

    assert row._asdict() | {"items": None} == case["row"] | {"items": None}
    for at in case["at"]:
        seconds = seconds_since(row.from_us, at["time_us"])
        values = [item_at(item, seconds) for item in row.items]
        assert [{"error": True} if value is ERROR else value for value in values] == at["values"]
        assert is_valid_at(row.from_us, row.until_s, at["time_us"]) == at["valid"]


@pytest.mark.parametrize("case", OWN, ids=lambda case: case["name"])
def test_what_a_value_was_before_its_newest_event_reads_as_it_says(case):
    row = decode_row(bytes.fromhex(case["hex"]))

    own = own_row(row, case["time_us"])

    assert (own and [item_at(item, 0) for item in own.items]) == case["own"]
    assert own_row(row, case["time_us"] + 1) is None
    assert own_row(row, row.from_us) is None


@pytest.mark.parametrize("case", KEYS, ids=lambda case: str(case["values"]))
def test_every_key_is_what_the_page_says(case):
    key = reference.entity_key(case["values"])

    assert case["key"] == key
    if key is not None:
        assert case["hash"] == f"features:prod:{{{case['entity']}:{key}}}"
        assert case["shard_of_8"] == zlib.crc32(f"{case['entity']}:{key}".encode()) % 8
