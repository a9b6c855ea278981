"""Writers and readers in real processes; writers that are killed."""

import multiprocessing
import signal
import time

import pytest
from lake_rows import append_for_a_while, day, die_while_replacing, events, new_lake, open_lake, replace_for_a_while

from feature_store.lake import Lake

SPAWN = multiprocessing.get_context("spawn")


def test_live_commits_beside_replacements_lose_nothing_and_readers_see_whole_loads(place):
    """A live commit each 100 ms, two loaders that replace three days each, and a reader all the while."""
    commits, generations = 20, 6
    with open_lake(place) as lake:
        for first in (0, 10):
            days = [day(first + number) for number in range(3)]
            rows = events(72, start_hour=24 * first, prefix="bulk", delay=0.0)
            lake.replace_loaded("departures", rows, days=days)
        writers = [
            SPAWN.Process(target=append_for_a_while, args=(place, commits, 0.1)),
            SPAWN.Process(target=replace_for_a_while, args=(place, 0, generations)),
            SPAWN.Process(target=replace_for_a_while, args=(place, 10, generations)),
        ]
        for writer in writers:
            writer.start()
        reads = 0
        while any(writer.is_alive() for writer in writers):
            check_whole(lake)
            reads += 1
            time.sleep(0.02)  # the writers want the processors too
        for writer in writers:
            writer.join()

        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert reads > 10
        assert lake.positions("departures") == {0: 2 * commits}
        live_rows, last = check_whole(lake)
        assert (live_rows, last) == (2 * commits, float(generations))
        assert count(lake, "SELECT count(*) FROM commits") == commits + 2 * generations + 2
        # Every commit names the snapshot that it made.
        assert (
            count(
                lake,
                "SELECT count(*) FROM commits AS c ANTI JOIN ducklake_snapshots('lake') AS s ON c.snapshot = s.snapshot_id",
            )
            == 0
        )


def check_whole(lake: Lake) -> tuple[int, float]:
    """Each block of days is of one load, and whole; returns live rows and the last load of the first block."""
    cursor = lake.cursor()
    text = lake.events_sql("departures")
    rows = cursor.execute(
        f"""SELECT _day >= '2024-01-10' AS block, count(*), min(delay), max(delay)
        FROM ({text}) WHERE starts_with(_event_id, 'bulk') GROUP BY ALL ORDER BY 1"""
    ).fetchall()
    assert [row[1] for row in rows] == [72, 72]
    assert all(low == high for _, _, low, high in rows)
    live_rows = cursor.execute(f"SELECT count(*) FROM ({text}) WHERE starts_with(_event_id, 'live')").fetchall()[0][0]
    cursor.close()
    return live_rows, rows[0][2]


def count(lake: Lake, text: str) -> int:
    cursor = lake.cursor()
    value = cursor.execute(text).fetchall()[0][0]
    cursor.close()
    return value


def test_all_of_a_reading_sees_the_same_state(place):
    with open_lake(place) as lake:
        lake.replace_loaded("departures", events(24), days=[day(0)])
        count = f"SELECT count(*) FROM ({lake.events_sql('departures')})"
        with lake.reading() as cursor:
            assert cursor.execute(count).fetchall() == [(24,)]
            lake.replace_loaded("departures", events(24, start_hour=24), days=[day(1)])
            assert cursor.execute(count).fetchall() == [(24,)]
        with lake.reading() as cursor:
            assert cursor.execute(count).fetchall() == [(48,)]


@pytest.mark.parametrize(
    ("moment", "loaded"), [("staged", "old"), ("moved", "old"), ("registered", "old"), ("committed", "new")]
)
def test_a_loader_that_is_killed_leaves_the_old_days_or_the_new_ones_and_no_files(place, files_of, moment, loaded):
    with open_lake(place) as lake:
        lake.replace_loaded("departures", events(48, prefix="old", delay=1.0), days=[day(0), day(1)])
        snapshot = lake.snapshot()

    victim = SPAWN.Process(target=die_while_replacing, args=(place, moment))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL

    with Lake.open(place) as lake:
        if place.is_shared:  # where other machines write, what belongs to nobody is known by its age
            lake.upkeep.expire(older_than_us=0, grace_us=0)
        text = lake.events_sql("departures")
        assert count(lake, f"SELECT count(*) FROM ({text})") == 48
        assert count(lake, f"SELECT count(*) FROM ({text}) WHERE starts_with(_event_id, '{loaded}')") == 48
        assert len(files_of(place)) == (2 if loaded == "old" else 4)
        assert list((place.directory / "staging").rglob("*.parquet")) == []
        assert count(lake, f"SELECT count(*) FROM ({lake.events_sql('departures', snapshot=snapshot)})") == 48
        lake.replace_loaded("departures", events(48, prefix="new", delay=2.0), days=[day(0), day(1)])
        assert count(lake, f"SELECT count(*) FROM ({text}) WHERE delay = 2") == 48


def test_a_replacement_holds_the_commit_lock_for_a_moment_only(tmp_path):
    """Staging half a million rows happens outside the lock, so a live writer beside it does not wait."""
    with new_lake(tmp_path / "lake") as lake:
        held = []
        commit = lake._session.commit

        def timed(work):
            started = time.perf_counter()
            try:
                return commit(work)
            finally:
                held.append(time.perf_counter() - started)

        lake._session.commit = timed
        started = time.perf_counter()
        lake.replace_loaded(
            "departures",
            """SELECT 'JFK' AS airport, 1.0::DOUBLE AS delay, make_timestamptz(1704067200000000 + i * 1000) AS at,
               'e' || i AS _event_id, 1704067200000000 + i * 1000 AS _event_us FROM range(500000) AS t(i)""",
            days=[day(0)],
        )
        whole = time.perf_counter() - started

        assert len(held) == 1
        assert held[0] < whole / 2
