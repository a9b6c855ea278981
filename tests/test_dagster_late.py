"""Late events: counted where a view is materialized, and what building their days again makes of them."""

import pytest
from dagster_world import Deployment, day, live, midnight, ride, told

from feature_store.time_rule import DAY_US, MINUTE_US, to_us

LATE_DAY = 3


@pytest.fixture
def make(tmp_path):
    """A deployment whose days 0 to 5 were built, and then a ride of day 3 came, on day 10."""

    def build(policy):
        made = Deployment(tmp_path, rows=[ride(n, at=n * 0.5) for n in range(12)], late_events=policy)
        with made.store() as store:
            store.load("rides", start=midnight(0), end=midnight(6))
            store.materialize("daily", start=midnight(0), end=midnight(6))
            store.materialize("hourly", start=midnight(0), end=midnight(6))
            store.lake.append_live(
                "rides", live(ride(99, at=LATE_DAY + 0.1, fare=40.0)), owner="o", start={0: 0}, end={0: 1}
            )
        return made

    return build


def query(store, sql):
    with store.lake.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def tiles(store):
    """(hop, hours after the first day's beginning) -> events of the tile, of the late ride's day."""
    start = f"{to_us(midnight(0))}"
    found = query(
        store,
        f"SELECT _hop_us, (_tile_us - {start}) / 3.6e9, events FROM {store.lake.table_sql('tiles_hourly_v1')} "
        f"WHERE _day = DATE '{day(LATE_DAY)}'",
    )
    return {(hop // MINUTE_US, hours): events for hop, hours, events in found}


def counts(store, sql):
    """Row version -> how many rides the last row of the late ride's day counts, in the order of the versions."""
    at = to_us(midnight(LATE_DAY + 1))
    return dict(query(store, f"SELECT row_version, count_2d FROM ({sql}) WHERE _row_us = {at} ORDER BY 1"))


def test_tiles_of_a_past_day_hold_the_late_event_once_they_are_brought_up_to_date(make):
    deployment = make("correct")
    with deployment.store() as store:
        before = tiles(store)

    assert deployment.run("tiles/hourly", first=day(LATE_DAY)).success

    # The late ride began at 74.4 h: a tile of an hour and one of two minutes are new.
    with deployment.store() as store:
        assert tiles(store) == before | {(60, 74.0): 1, (2, 74.4): 1}
        assert len(before) == 4
        assert store.lake.builds.stale_days("tiles_hourly_v1", source="rides") == []


def test_rows_get_a_version_with_the_late_event_beside_the_one_that_was_served(make):
    deployment = make("recompute")
    with deployment.store() as store:
        (served,) = counts(store, store.lake.partitions.all_sql("rows_daily_v1"))

    assert deployment.run("rows/daily", first=day(LATE_DAY)).success

    with deployment.store() as store:
        versions = counts(store, store.lake.partitions.all_sql("rows_daily_v1"))
        assert list(versions.values()) == [4, 5]
        assert next(iter(versions)) == served
        assert list(counts(store, store.lake.partitions.latest_sql("rows_daily_v1")).values()) == [5]


def test_late_events_and_what_they_changed_are_told_with_the_materialization(make):
    deployment = make("recompute")

    result = deployment.run("rows/daily", first=day(LATE_DAY), last=day(LATE_DAY + 1))

    found = told(result, "rows/daily")
    assert (found["late"], found["late_policy"]) == (1, "recompute")
    assert found["late_delays"] == "1 of 1 (recompute): 1 up to 7 d"
    # Count and sum of its own day's row; of the next day's the count alone, which looks back over two days.
    assert found["late_changed_values"] == 3
    assert "late_ignored_values" not in found


def test_the_lake_says_of_each_day_what_came_late_as_of_its_newest_build(make):
    deployment = make("correct")
    with deployment.store() as store:
        assert store.late_events("hourly", start=midnight(0), end=midnight(6)).days == []

        for _ in range(2):
            (commit,) = store.materialize("hourly", start=midnight(LATE_DAY), end=midnight(LATE_DAY + 1))

        found = store.late_events("hourly", start=midnight(0), end=midnight(6))
        (late,) = found.days
        assert (found.view, late.day.isoformat(), late.policy) == ("hourly@1", day(LATE_DAY), "correct")
        assert (late.events, late.late, late.limit_us, late.entities, late.compared) == (1, 1, MINUTE_US, 1, 1)
        assert {bound: count for bound, count in late.delays.items() if count} == {"up to 7 d": 1}
        assert late.longest_us == to_us(midnight(10)) - to_us(midnight(LATE_DAY)) - round(0.1 * DAY_US)
        # The mean over a day at 3.5 and 4 days; at the first of them the count over an hour is the same.
        assert late.changed == 2
        book = f"SELECT snapshot, \"view\", delays['up to 7 d'] FROM {store.lake.table_sql('late_events')}"
        assert query(store, book) == [(commit.snapshot, "hourly@1", 1)]
        assert str(store.late_events("hourly", start=midnight(4), end=midnight(6))) == "none of 0 (correct)"


def test_what_the_policy_ignores_is_counted_and_changes_nothing(make):
    deployment = make("ignore")

    result = deployment.run("rows/daily", first=day(LATE_DAY))

    found = told(result, "rows/daily")
    assert found["late_delays"] == "1 of 1 (ignore): 1 up to 7 d"
    assert (found["late_changed_values"], found["late_ignored_values"]) == (0, 2)
    with deployment.store() as store:
        assert set(counts(store, store.lake.partitions.all_sql("rows_daily_v1")).values()) == {4}


def test_what_the_book_says_goes_with_the_table(make):
    deployment = make("correct")
    with deployment.store() as store:
        store.materialize("hourly", start=midnight(LATE_DAY), end=midnight(LATE_DAY + 1))

        assert store.lake.partitions.drop("tiles_hourly_v1")

        assert store.lake.late_rows("tiles_hourly_v1").num_rows == 0
