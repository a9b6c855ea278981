"""Writes what a reader in any language must make of packed values, byte for byte (`packed_values.json`, `own_values.json`),
of join keys (`entity_keys.json`), and of requests (`reads.json`).

The cases are chosen by hand. Of packed values the bytes come from `encode_rows` and the answers from the naive function
below, which shares no code with the reader. Of `reads.json` the bytes come from the library, and each answer was written
by hand from `docs/wire-format.md`: a store is everything that a reader may ask for, keys and what they hold, text as text,
JSON as JSON, other bytes as `{"hex": ...}`; its reads name a service, a row, the reader's clock, the time asked, and what
must come of it. Values stand as they travel: timestamps as microseconds, dates as days; `{"int": "..."}` and
`{"float": "..."}` are numbers that JSON does not have, or not everywhere.

Run it in `tests/` as `python -m vectors.generate` after a change of the format, and look at the difference: readers that
exist must still understand what was there before.
"""

from __future__ import annotations

import json
from pathlib import Path

from vectors import rows, scoring, services
from vectors.building import Json, shown_stores

from feature_store.declare.key import KeyKind, entity_key
from feature_store.online.keys import features_key, shard_of
from feature_store.online.packed import ERROR
from feature_store.online.packing import encode_own, encode_rows

FILE = Path(__file__).with_name("packed_values.json")
OWN_FILE = Path(__file__).with_name("own_values.json")
KEYS_FILE = Path(__file__).with_name("entity_keys.json")
READS_FILE = Path(__file__).with_name("reads.json")
FROM_US = 1_357_041_600_250_000
"""2013-01-01T12:00:00.25Z"""


def cases() -> list[dict[str, object]]:
    """Every shape of value, each read before, at and after its edges."""
    return [
        case("constants of every type", [3, -1.5, True, "N14228", 1_357_041_600_000_000], offsets=(0, 10**15)),
        case("an empty window and a value that cannot be expressed", [None, ERROR], offsets=(0, 5_000_000)),
        case(
            "steps change at whole seconds after the second of from_us",
            [[5, 60, 2, 120, None], [2.5, 60, 0.25], 7],
            offsets=(0, 59_749_999, 59_750_000, 119_749_999, 119_750_000, 10**12),
        ),
        case("a step may become an error and recover", [[ERROR, 1, 4]], offsets=(0, 749_999, 750_000)),
        case(
            "lists always stand in steps", [[["N1", "N2"], 30, ["N2"], 60, None]], offsets=(0, 29_750_000, 60_000_000)
        ),
        case("valid until 90 s after the second of from_us", [1], until_s=90, offsets=(0, 89_749_999, 89_750_000)),
        case("no event is known", [None], age_us=None, offsets=(0,)),
        case("integers at the ends of int64", [2**63 - 1, -(2**63)], offsets=(0,)),
        case("before the epoch", [[1, 1, 2]], from_us=-1_500_000, offsets=(0, 499_999, 500_000)),
    ]


def own_cases() -> list[dict[str, object]]:
    """Values that have kept what they were just before their newest event; `own` is at its time, None: not known."""
    drawn: list[tuple[str, list[object], list[object] | None]] = [
        ("a count and a text", [[5, 60, 4], "N2"], [4, "N1"]),
        ("the first event", [1, [["N1"]]], [None, None]),
        ("lists and errors", [ERROR, [["N1", "N2"], 30, ["N2"]]], [2**62, ["N1"]]),
        ("not known any more", [1], None),
    ]
    found = []
    for name, items, own in drawn:
        kept = None if own is None else encode_own(own)
        columns = [[item] for item in items]
        [value] = encode_rows(1_234_567_890, 2, 3, [FROM_US], [750_001], [0], columns, [kept])
        found.append({"name": name, "hex": value.hex(), "time_us": FROM_US - 750_001, "own": own})
    return found


def keys() -> list[dict[str, object]]:
    """Entities with their join keys as JSON has them (dates as text, bytes as hexadecimal digits), and where they are kept."""
    drawn: list[tuple[str, list[KeyKind], list[object]]] = [
        ("airport", ["str"], ["JFK"]),
        ("airport", ["str"], [""]),
        ("text", ["str"], ["a|b{c}%7C"]),
        ("text", ["str"], ["Zürich\n\u0000漢"]),
        ("user", ["str"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("member", ["int"], [-(2**63)]),
        ("member", ["int"], [0]),
        ("switch", ["bool"], [True]),
        ("day", ["date"], ["0999-02-28"]),
        ("raw", ["bytes"], ["00ff7c"]),
        ("raw", ["bytes"], [""]),
        ("pair", ["str", "int"], ["a", 1]),
        ("pair", ["str", "int"], ["a|1", 1]),
        ("many", ["int", "str", "bool", "date", "bytes"], [7, "", False, "2013-01-31", "00"]),
        ("pair", ["str", "int"], [None, 1]),
        ("global", [], []),
    ]
    return [
        {
            "entity": entity,
            "kinds": kinds,
            "values": [shown(value) for value in values],
            "key": (key := entity_key(values, kinds, columns=kinds)),
            "hash": None if key is None else features_key("prod", entity, key),
            "shard_of_8": None if key is None else shard_of(entity, key, shards=8),
        }
        for entity, kinds, values in drawn
    ]


def stores() -> list[dict[str, Json]]:
    """What stands in Redis, and what must come of reads."""
    made = (
        rows.rows_that_are_there, rows.kinds_of_values, rows.rows_that_are_missing, rows.what_the_shards_say,
        rows.batch_rows, rows.older_layouts, rows.damaged_rows,
        services.policies, services.ratios, services.entities, services.versions,
        scoring.own_events, scoring.on_demand,
    )  # fmt: skip
    return [each for make in made for each in make()]


def case(
    name: str,
    items: list[object],
    *,
    offsets: tuple[int, ...],
    from_us: int = FROM_US,
    age_us: int | None = 1_000_000,
    until_s: int = 0,
) -> dict[str, object]:
    """One packed value, its decoded row, and what it says at some times after `from_us`."""
    [value] = encode_rows(1_234_567_890, 2, 3, [from_us], [age_us], [until_s], [[item] for item in items])
    return {
        "name": name,
        "hex": value.hex(),
        "row": {"layout_id": 1_234_567_890, "run": 2, "n": 3, "from_us": from_us, "age_us": age_us, "until_s": until_s},
        "at": [
            {
                "time_us": from_us + offset,
                "valid": until_s == 0 or from_us + offset < (from_us // 1_000_000 + until_s) * 1_000_000,
                "values": [shown(naive_value(item, from_us, from_us + offset)) for item in items],
            }
            for offset in offsets
        ],
    }


def naive_value(item: object, from_us: int, time_us: int) -> object:
    """The value of the last step that has begun."""
    if not isinstance(item, list):
        return item
    value = item[0]
    for second, following in zip(item[1::2], item[2::2], strict=True):
        if (from_us // 1_000_000 + second) * 1_000_000 <= time_us:
            value = following
    return value


def shown(value: object) -> object:
    """JSON has no extension types, and in some languages no integers beyond 2^53."""
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"int": str(value)}
    return {"error": True} if value is ERROR else value


if __name__ == "__main__":
    FILE.write_text(json.dumps(cases(), indent=1) + "\n")
    OWN_FILE.write_text(json.dumps(own_cases(), indent=1) + "\n")
    KEYS_FILE.write_text(json.dumps(keys(), indent=1) + "\n")
    READS_FILE.write_text(shown_stores(stores()))
