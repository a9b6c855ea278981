"""Removed events, dry runs of upkeep and the sizes of columns, in a lake of each kind."""

import pytest
from lake_rows import day, events, live, open_lake

from feature_store.clock import SystemClock
from feature_store.time_rule import DAY_US


@pytest.fixture
def lake(place):
    with open_lake(place) as lake:
        yield lake


def days(lake, snapshot=None):
    with lake.reading() as cursor:
        text = lake.events_sql("departures", snapshot=snapshot)
        return dict(cursor.execute(f"SELECT _day, count(*) FROM ({text}) GROUP BY 1 ORDER BY 1").fetchall())


def test_days_are_removed_whole_and_older_snapshots_read_them_until_they_are_expired(lake, files_of):
    lake.replace_loaded("departures", events(72), days=[day(0), day(1), day(2)])
    lake.append_live("departures", live(2, prefix="live"), owner="o", start={0: 0}, end={0: 2})
    lake.replace_loaded("departures", events(24, start_hour=48), days=[day(2)])
    before, files = lake.snapshot(), files_of(lake.location)
    assert lake.retention.kept_from("departures") is None
    sizes = lake.column_bytes(["events_departures_loaded", "events_departures_live", "nothing"])
    old = lake.retention.old_events("departures", before=day(2))

    assert [(each.day, each.events) for each in old] == [(day(0), 26), (day(1), 24)]
    assert sizes.keys() == {"events_departures_loaded", "events_departures_live"}
    assert sizes["events_departures_loaded"]["_event_id"] > 0
    of_days = sum(each.size_bytes for each in lake.retention.old_events("departures", before=day(3)))
    assert sum(sum(of_table.values()) for of_table in sizes.values()) == of_days

    assert lake.retention.remove("departures", [day(0), day(1)]) == 50
    assert (days(lake), lake.retention.kept_from("departures")) == ({day(2): 24}, day(2))
    assert (days(lake, before), lake.retention.kept_from("departures", snapshot=before)) == (
        {day(0): 26, day(1): 24, day(2): 24},
        None,
    )
    assert set(files) <= set(files_of(lake.location))

    far = {"older_than_us": SystemClock().now_us() + DAY_US, "grace_us": -DAY_US}
    snapshots = lake.extent().snapshots
    dry = lake.upkeep.expire(**far, dry_run=True)
    assert lake.extent().snapshots == snapshots
    assert days(lake, before)
    done = lake.upkeep.expire(**far)
    assert done == dry
    assert (done.snapshots, done.files) == (snapshots - 1, 4)  # two days, the live ones, the day that was loaded again
    assert done.size_bytes > of_days / 2
    assert (days(lake), len(set(files) - set(files_of(lake.location)))) == ({day(2): 24}, 4)
