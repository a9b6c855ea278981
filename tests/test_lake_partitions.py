"""Tables by day: tiles, batch rows, plain tables, and the books about what was built from what."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from lake_rows import day, events, live, local_only, open_lake

from feature_store.clock import ManualClock
from feature_store.errors import InputError, LakeError, UnknownNameError
from feature_store.lake import Lake
from feature_store.lake.books.builds import Provenance

TILES = pa.schema([("airport", pa.string()), ("n", pa.int64()), ("_day", pa.date32())])


@pytest.fixture
def lake(place):
    """What holds of every lake, on one of each kind."""
    with open_lake(place, clock=ManualClock(7)) as lake:
        yield lake


def query(lake: Lake, text: str) -> list[tuple]:
    cursor = lake.cursor()
    try:
        return cursor.execute(text).fetchall()
    finally:
        cursor.close()


def tiles(*days: date, n: int = 1) -> pa.Table:
    return pa.table([pa.array(["JFK"] * len(days)), [n] * len(days), pa.array(days, pa.date32())], schema=TILES)


def test_partitions_are_created_on_first_use_and_replaced_by_day(lake):
    lake.partitions.replace("tiles_a_v1", tiles(day(0), day(1)), schema=TILES, days=[day(0), day(1)])
    commit = lake.partitions.replace("tiles_a_v1", tiles(day(1), n=5), schema=TILES, days=[day(1)])

    assert (commit.rows, commit.days) == (1, (day(1),))
    assert query(lake, "SELECT * FROM tiles_a_v1 ORDER BY _day") == [("JFK", 1, day(0)), ("JFK", 5, day(1))]


@local_only
def test_tiles_are_built_by_sql_over_the_events_at_one_snapshot(lake):
    built_from = lake.replace_loaded("departures", events(48), days=[day(0), day(1)]).snapshot
    text = lake.events_sql("departures", snapshot=built_from, days=(day(0), day(1)))

    lake.partitions.replace(
        "tiles_a_v1",
        f"SELECT airport, count(*) AS n, _day FROM ({text}) GROUP BY ALL",
        schema=TILES,
        days=[day(0), day(1)],
        provenance=Provenance(source="departures", built_from=built_from),
    )

    assert query(lake, "SELECT sum(n), count(*) FROM tiles_a_v1") == [(48, 4)]
    assert lake.builds.fresh_days("tiles_a_v1", source="departures") == [day(0), day(1)]


@local_only
def test_a_table_without_a_day_is_refused(lake):
    schema = pa.schema([("n", pa.int64())])

    with pytest.raises(InputError, match="the schema needs a `_day` column"):
        lake.partitions.replace("tiles_a_v1", schema.empty_table(), schema=schema, days=[day(0)])


@local_only
def test_rows_of_another_day_or_type_are_refused(lake):
    with pytest.raises(LakeError, match="days that are not being written: 2024-01-02"):
        lake.partitions.replace("tiles_a_v1", tiles(day(1)), schema=TILES, days=[day(0)])
    wrong = tiles(day(0)).set_column(1, "n", pa.array([1.5]))
    with pytest.raises(LakeError, match="column 'n' is DOUBLE, expected BIGINT"):
        lake.partitions.replace("tiles_a_v1", wrong, schema=TILES, days=[day(0)])


@local_only
def test_a_tile_table_gains_columns_for_new_features(lake):
    lake.partitions.replace("tiles_a_v1", tiles(day(0)), schema=TILES, days=[day(0)])
    wider = TILES.append(pa.field("total", pa.int64()))

    rows = tiles(day(1)).append_column("total", pa.array([9]))
    lake.partitions.replace("tiles_a_v1", rows, schema=wider, days=[day(1)])

    assert query(lake, "SELECT total FROM tiles_a_v1 ORDER BY _day") == [(None,), (9,)]


def test_a_rebuild_adds_a_version_and_the_newest_is_read(lake):
    first = lake.partitions.append_version("rows_a_v1", tiles(day(0), day(1)), schema=TILES, days=[day(0), day(1)])
    second = lake.partitions.append_version("rows_a_v1", tiles(day(1), n=5), schema=TILES, days=[day(1)])

    newest = f"SELECT _day, n, row_version FROM ({lake.partitions.latest_sql('rows_a_v1')}) ORDER BY _day"
    assert query(lake, newest) == [(day(0), 1, first.snapshot), (day(1), 5, second.snapshot)]
    assert query(lake, "SELECT count(*) FROM rows_a_v1") == [(3,)]
    before = lake.partitions.latest_sql("rows_a_v1", snapshot=first.snapshot, days=(day(1), day(1)))
    assert query(lake, f"SELECT n FROM ({before})") == [(1,)]


def test_the_books_name_the_newest_version_of_each_day(lake):
    first = lake.partitions.append_version("rows_a_v1", tiles(day(0), day(1)), schema=TILES, days=[day(0), day(1)])
    lake.partitions.append_version("rows_ab_v1", tiles(day(2)), schema=TILES, days=[day(2)])
    second = lake.partitions.append_version("rows_a_v1", tiles(day(1), n=5), schema=TILES, days=[day(1)])

    builds = lake.builds.newest("rows_a_v1")
    assert list(builds.items()) == [(day(0), first.snapshot), (day(1), second.snapshot)]
    assert lake.builds.newest("rows_a_v1", snapshot=first.snapshot) == dict.fromkeys([day(0), day(1)], first.snapshot)
    assert lake.builds.newest("rows_b_v1") == {}

    chosen = {day(0): first.snapshot, day(1): first.snapshot}
    both = f"SELECT _day, n FROM ({lake.partitions.versions_sql('rows_a_v1', chosen)}) ORDER BY _day"
    assert query(lake, both) == [(day(0), 1), (day(1), 1)]
    newest = f"SELECT _day, n FROM ({lake.partitions.versions_sql('rows_a_v1', builds)}) ORDER BY _day"
    assert query(lake, newest) == [(day(0), 1), (day(1), 5)]
    assert query(lake, f"SELECT count(*) FROM ({lake.partitions.versions_sql('rows_a_v1', {})})") == [(0,)]


@local_only
def test_a_day_that_was_rebuilt_without_rows_has_none(lake):
    lake.partitions.append_version("rows_a_v1", tiles(day(0)), schema=TILES, days=[day(0)])
    lake.partitions.append_version("rows_a_v1", tiles(), schema=TILES, days=[day(0)])

    assert query(lake, f"SELECT count(*) FROM ({lake.partitions.latest_sql('rows_a_v1')})") == [(0,)]


def test_a_build_is_stale_once_a_later_commit_touches_a_day_that_it_read(lake):
    """Each day reads itself and the day before.

    built:    0  1  2  3
    touched:     x           -> days 1 and 2 are stale
    """
    days = [day(number) for number in range(4)]
    built_from = lake.replace_loaded("departures", events(96), days=days).snapshot

    def build(days, built_from):
        provenance = Provenance(source="departures", built_from=built_from, lookback_days=1)
        lake.partitions.replace("tiles_a_v1", tiles(*days), schema=TILES, days=days, provenance=provenance)

    build(days, built_from)
    assert lake.builds.stale_days("tiles_a_v1", source="departures") == []

    lake.append_live("departures", live(1, start_hour=30, prefix="x"), owner="a", start={0: 0}, end={0: 1})

    assert lake.builds.stale_days("tiles_a_v1", source="departures") == [day(1), day(2)]
    assert lake.builds.fresh_days("tiles_a_v1", source="departures") == [day(0), day(3)]

    build([day(1)], lake.snapshot())

    assert lake.builds.stale_days("tiles_a_v1", source="departures") == [day(2)]


@local_only
def test_a_build_from_before_a_commit_is_stale_although_it_was_written_after(lake):
    built_from = lake.replace_loaded("departures", events(24), days=[day(0)]).snapshot
    lake.replace_loaded("departures", events(20), days=[day(0)])

    lake.partitions.replace(
        "tiles_a_v1",
        tiles(day(0)),
        schema=TILES,
        days=[day(0)],
        provenance=Provenance(source="departures", built_from=built_from),
    )

    assert lake.builds.stale_days("tiles_a_v1", source="departures") == [day(0)]


@local_only
def test_what_was_fresh_at_a_snapshot_is_known_later(lake):
    built_from = lake.replace_loaded("departures", events(24), days=[day(0)]).snapshot
    snapshot = lake.partitions.replace(
        "tiles_a_v1",
        tiles(day(0)),
        schema=TILES,
        days=[day(0)],
        provenance=Provenance(source="departures", built_from=built_from),
    ).snapshot
    lake.replace_loaded("departures", events(20), days=[day(0)])

    assert lake.builds.fresh_days("tiles_a_v1", source="departures", snapshot=snapshot) == [day(0)]
    assert lake.builds.fresh_days("tiles_a_v1", source="departures") == []
    assert lake.builds.stale_days("tiles_a_v1", source="departures", snapshot=snapshot) == []
    assert lake.builds.stale_days("tiles_a_v1", source="departures") == [day(0)]


def test_plain_tables_are_appended_to_and_widened(lake):
    lake.append("served_vectors", pa.table({"vector": [b"x"], "run": [1]}))
    commit = lake.append("served_vectors", pa.table({"run": [2], "status": ["EMPTY"]}))

    assert commit.rows == 1
    assert query(lake, "SELECT * FROM served_vectors ORDER BY run") == [(b"x", 1, None), (None, 2, "EMPTY")]
    assert lake.columns("served_vectors") == {"vector": "BLOB", "run": "BIGINT", "status": "VARCHAR"}


@local_only
def test_an_unknown_table_names_the_known_ones(lake):
    assert not lake.exists("served_vectors")
    with pytest.raises(UnknownNameError, match="unknown table in the lake 'served_vectors'"):
        lake.columns("served_vectors")


def test_compaction_merges_files_and_changes_no_read(lake):
    snapshots = [
        lake.append_live(
            "departures",
            live(2, start_hour=2 * number, first=2 * number),
            owner="a",
            start={0: 2 * number},
            end={0: 2 * number + 2},
        ).snapshot
        for number in range(6)
    ]
    lake.replace_loaded("departures", events(24), days=[day(0)])
    text = lake.events_sql("departures", snapshot=snapshots[2])
    before = query(lake, f"SELECT * FROM ({text}) ORDER BY _event_id")

    merged = lake.upkeep.compact("events_departures_live")
    for table in ("commits", "positions", "builds"):
        lake.upkeep.compact(table)

    assert merged == 5
    assert query(lake, f"SELECT * FROM ({text}) ORDER BY _event_id") == before
    assert query(lake, f"SELECT count(*), count(_offset) FROM ({lake.events_sql('departures')})") == [(24, 12)]
    assert lake.positions("departures", snapshot=snapshots[2]) == {0: 6}
    lake.append_live("departures", live(1, start_hour=30), owner="a", start={0: 12}, end={0: 13})
    assert lake.positions("departures") == {0: 13}


def test_compaction_merges_streamed_and_loaded_files_of_one_day_alike(lake):
    for number in range(3):
        lake.replace_loaded("departures", events(24 + number), days=[day(0), day(1)])
        lake.append("notes", pa.table({"n": [number]}))

    assert lake.upkeep.compact("events_departures_loaded") == 0
    assert lake.upkeep.compact("notes") == 2
    assert query(lake, "SELECT sum(n) FROM notes") == [(3,)]


def test_expiry_spares_pinned_snapshots_and_deletes_what_nobody_needs(lake, files_of):
    kept = lake.replace_loaded("departures", events(24), days=[day(0)]).snapshot
    gone = lake.replace_loaded("departures", events(12), days=[day(0)]).snapshot
    lake.replace_loaded("departures", events(6), days=[day(0)])
    files = len(files_of(lake.location))

    far = int(timedelta(days=365_000).total_seconds()) * 1_000_000
    expired = lake.upkeep.expire(older_than_us=far, keep=[kept], grace_us=-far).snapshots

    assert expired >= 1
    assert len(files_of(lake.location)) == files - 1
    assert query(lake, f"SELECT count(*) FROM ({lake.events_sql('departures', snapshot=kept)})") == [(24,)]
    assert query(lake, f"SELECT count(*) FROM ({lake.events_sql('departures')})") == [(6,)]
    with pytest.raises(LakeError, match=f"cannot be read at snapshot {gone}"):
        lake.events_sql("departures", snapshot=gone)
