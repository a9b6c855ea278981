"""The page on the wire format is true: its vectors are those of today's code, and its example reads them."""

import json
import zlib
from datetime import date, datetime
from pathlib import Path

import pytest
import reference
from vectors import generate
from vectors.building import shown_stores

from feature_store.clock import ManualClock
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError, ValueRefused
from feature_store.online.packed import ERROR, decode_row, is_valid_at, own_row, seconds_since
from feature_store.reader.core import ReaderCore
from feature_store.time_rule import to_us

VECTORS = Path(__file__).parent / "vectors"
KEYS = json.loads((VECTORS / "entity_keys.json").read_text())
OWN = json.loads((VECTORS / "own_values.json").read_text())
CASES = json.loads((VECTORS / "packed_values.json").read_text())
STORES = json.loads((VECTORS / "reads.json").read_text())
READS = [(each, read) for each in STORES for read in each["reads"]]
FAILURES = {"unknown": UnknownNameError, "invalid": InputError, "refused": ValueRefused, "store": OnlineStoreError}


def test_the_vectors_are_what_the_generator_writes():
    assert json.loads(json.dumps(generate.cases())) == CASES
    assert json.loads(json.dumps(generate.keys())) == KEYS
    assert shown_stores(generate.stores()) == (VECTORS / "reads.json").read_text()
    assert json.loads(json.dumps(generate.own_cases())) == OWN


class Store:
    """What a vector says stands in Redis, and how often it was asked."""

    def __init__(self, keys):
        self.keys, self.trips = keys, 0

    def exchange(self, commands):
        self.trips += 1
        return [self.reply(*command) for command in commands]

    def reply(self, command, key, *fields):
        found = self.keys.get(key)
        if command == "GET":
            return as_bytes(found)
        held = {field: as_bytes(value) for field, value in (found or {}).items()}
        if command == "HGETALL":
            return [part for field, value in held.items() for part in (field.encode(), value)]
        values = [held.get(field) for field in fields]
        return values if command == "HMGET" else values[0]


def as_bytes(value):
    if value is None:
        return None
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if "hex" in value else json.dumps(value).encode()
    return value.encode()


def plain_number(value):
    """A number that JSON has not, from how the vectors write it."""
    if isinstance(value, list):
        return [plain_number(each) for each in value]
    if isinstance(value, dict) and "error" not in value:
        return int(value["int"]) if "int" in value else float(value["float"])
    return value


def as_it_travels(value):
    """A value of the reader as the vectors have it, told apart from its likes: 1, 1.0, True, 0.0, -0.0."""
    if isinstance(value, list):
        return [as_it_travels(each) for each in value]
    if isinstance(value, datetime):
        return as_it_travels(to_us(value))
    if isinstance(value, date):
        return as_it_travels((value - date(1970, 1, 1)).days)
    return type(value).__name__, repr(value)


def read_once(core, store, asked):
    keys = {name: plain_number(value) for name, value in asked["keys"].items()}
    step = core.read(asked["service"], [keys], [asked["as_of_us"]])
    try:
        commands = next(step)
        while True:
            commands = step.send(store.exchange(commands))
    except StopIteration as done:
        return done.value[0]


@pytest.mark.parametrize(("made", "asked"), READS, ids=lambda each: each.get("name", ""))
def test_the_reader_says_what_the_vectors_say(made, asked):
    core, store = ReaderCore("prod", ManualClock(asked["now_us"])), Store(made["store"])

    if "error" in asked:
        with pytest.raises(tuple(FAILURES[each] for each in asked["error"].split(" or "))):
            read_once(core, store, asked)
        return
    vector = read_once(core, store, asked)
    told = [(as_it_travels(value), status.name) for value, status in zip(vector.values, vector.statuses, strict=True)]

    expected = [as_it_travels(plain_number(value)) for value in asked["values"]]
    assert told == list(zip(expected, asked["statuses"], strict=True))
    assert vector.service == asked.get("served", vector.service)
    read_once(core, store, asked)  # takes the layouts that the records name
    trips, again = store.trips, read_once(core, store, asked)
    assert again.statuses == vector.statuses
    assert store.trips - trips <= 1


def test_the_vectors_cover_every_status_kind_policy_and_failure():
    statuses = {status for _, read in READS for status in read.get("statuses", [])}
    assert statuses == {"PRESENT", "EMPTY", "UNKNOWN", "STALE", "AHEAD", "ERROR"}
    assert {each for _, read in READS for each in read.get("error", "").split(" or ")} == {"", *FAILURES}
    layouts = [layout for made in STORES for layout in made["store"]["layouts:prod"].values()]
    kinds = {(feature["dtype"], feature["is_list"]) for layout in layouts for feature in layout["features"]}
    assert kinds == {
        (dtype, is_list) for dtype in ("int", "float", "bool", "str", "timestamp", "date") for is_list in (True, False)
    }
    services = [each for made in STORES for each in made["store"]["services:prod"].values() if isinstance(each, dict)]
    policies = {(name, each[name]) for each in services for name in ("on_stale", "on_ahead") if name in each}
    assert policies == {(name, policy) for name in ("on_stale", "on_ahead") for policy in ("serve", "default", "fail")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_vector_reads_as_it_says(case):
    row = decode_row(bytes.fromhex(case["hex"]))

    assert {name: value for name, value in row._asdict().items() if name in case["row"]} == case["row"]
    for at in case["at"]:
        values = row.values_at(seconds_since(row.from_us, at["time_us"]))
        assert [{"error": True} if value is ERROR else value for value in values] == list(
            map(plain_number, at["values"])
        )
        assert is_valid_at(row.from_us, row.until_s, at["time_us"]) == at["valid"]


@pytest.mark.parametrize("case", OWN, ids=lambda case: case["name"])
def test_what_a_value_was_before_its_newest_event_reads_as_it_says(case):
    row = decode_row(bytes.fromhex(case["hex"]))

    own = own_row(row, case["time_us"])

    assert (own and own.values_at(0)) == case["own"]
    assert own_row(row, case["time_us"] + 1) is None
    assert own_row(row, row.from_us) is None


@pytest.mark.parametrize("case", KEYS, ids=lambda case: str(case["values"]))
def test_every_key_is_what_the_page_says(case):
    key = reference.entity_key([plain_number(value) for value in case["values"]])

    assert case["key"] == key
    if key is not None:
        assert case["hash"] == f"features:prod:{{{case['entity']}:{key}}}"
        assert case["shard_of_8"] == zlib.crc32(f"{case['entity']}:{key}".encode()) % 8
