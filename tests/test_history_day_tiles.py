"""Tiles of whole days are found in files beside the lake, as they are in the lake."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from feature_store.history.day_tiles import DayTiles
from feature_store.history.spine import SpineKeys
from feature_store.lake import Lake
from feature_store.time_rule import DAY_US

DAY = date(2024, 3, 1)
SCHEMA = pa.schema(
    [("_key", pa.string()), ("_hop_us", pa.int64()), ("events", pa.int64()), ("n", pa.int64()), ("_day", pa.date32())]
)


@pytest.fixture
def lake(tmp_path):
    with Lake.open(tmp_path.parent / f"{tmp_path.name}_lake") as opened:
        yield opened


def build(lake, events, *, day=DAY):
    """Tiles of a day, by entity: of a day's hop, and one of an hour, which are not to be found; the name of the build."""
    rows = [(key, hop, count, -count, day) for key, count in events.items() for hop in (DAY_US, DAY_US // 24)]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)
    return str(lake.partitions.replace("tiles_seen_v1", table, schema=SCHEMA, days=[day]).snapshot)


def found(lake, folder, builds, *keys, cursor=None, days=9):
    """(entity, microseconds, day, its tile) of some entities."""
    tiles = DayTiles(folder=folder, table="tiles_seen_v1", columns=["events", "n"], days=days)
    text = pa.array(keys)
    asked = SpineKeys(codes=None, entities=pa.table({"_code": list(range(len(keys)))}), text=text)
    with lake.reading() as reading:
        reads = cursor or reading
        reads.register("asked", asked.entities.append_column("_key", text))
        rows = tiles.of(reads, builds, asked, entities="asked").to_pylist()
    return sorted((keys[r["_code"]], r["_tile_us"] // DAY_US, r["_day"], r["events"], r["n"]) for r in rows)


def test_an_entity_is_found_on_each_day_that_has_a_tile_of_it(lake, tmp_path):
    other, number = DAY + timedelta(days=1), (DAY - date(1970, 1, 1)).days
    builds = {DAY: build(lake, {"a": 1, "b": 2, "c": 3}), other: build(lake, {"c": 4}, day=other)}

    assert found(lake, tmp_path, builds, "c", "nobody", "a") == [
        ("a", number, DAY, 1, -1), ("c", number, DAY, 3, -3), ("c", number + 1, other, 4, -4)
    ]  # fmt: skip
    assert found(lake, tmp_path, builds, "nobody") == []


def test_a_file_is_made_once_for_a_build_and_anew_for_the_next(lake, tmp_path):
    first = build(lake, {"a": 1})
    assert found(lake, tmp_path, {DAY: first}, "a")[0][3] == 1
    second = build(lake, {"a": 5})

    assert found(lake, tmp_path, {DAY: first}, "a")[0][3] == 1  # a file says what the build said that it is named by
    assert found(lake, tmp_path, {DAY: second}, "a")[0][3] == 5
    assert {path.name for path in tmp_path.glob("*/*")} == {f"{DAY}_{first}.arrow", f"{DAY}_{second}.arrow"}


def test_two_entities_may_have_one_hash(lake, tmp_path):
    name = build(lake, {"a": 1, "b": 2, "c": 3})
    with lake.reading() as cursor:
        cursor.execute("CREATE TEMP MACRO hash(key) AS 7::UBIGINT")

        assert [row[3] for row in found(lake, tmp_path, {DAY: name}, "b", "nobody", "c", cursor=cursor)] == [2, 3]


def test_a_day_without_tiles_and_files_that_went_are_no_matter(lake, tmp_path):
    name = build(lake, {})
    assert found(lake, tmp_path, {DAY: name}, "a") == []

    for day in range(1, 12):
        later = DAY + timedelta(days=day)
        found(lake, tmp_path, {later: build(lake, {"a": day}, day=later)}, "a", days=1)

    assert len([*tmp_path.glob("*/*")]) == 9  # twice as many as windows hold, and a week's
    assert found(lake, tmp_path, {DAY: name}, "a", days=1) == []
