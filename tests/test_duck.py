"""Sessions of the process's one database in memory do not see each other."""

from contextlib import closing

import pyarrow as pa

from feature_store.duck import scratch
from feature_store.lake.memory import MemoryLake


def test_each_session_has_its_own_tables_and_its_own_zone():
    zone = "SELECT current_setting('TimeZone')"
    with closing(scratch(timezone="Asia/Kathmandu")) as first, closing(scratch()) as second:
        for number, session in enumerate((first, second)):
            session.register("given", pa.table({"n": [number]}))

        assert [s.execute("FROM given").fetchall() for s in (first, second)] == [[(0,)], [(1,)]]
        assert [s.execute(zone).fetchall() for s in (first, second)] == [[("Asia/Kathmandu",)], [("UTC",)]]
    with closing(scratch()) as later:
        assert later.execute("SELECT count(*) FROM duckdb_views() WHERE view_name = 'given'").fetchall() == [(0,)]


def test_lakes_in_memory_share_nothing():
    ids = pa.table({"id": ["a"]})
    lakes = [MemoryLake(), MemoryLake()]
    for lake, count in zip(lakes, (1, 2), strict=True):
        with lake.cursor() as cursor:
            cursor.register("given", pa.concat_tables([ids] * count))
            cursor.execute("CREATE TABLE events AS FROM given")

    def counted(lake):
        with lake.cursor() as cursor:
            return cursor.execute("SELECT count(*) FROM events").fetchall()

    assert [counted(lake) for lake in lakes] == [[(1,)], [(2,)]]
    lakes[0].close()
    assert counted(lakes[1]) == [(2,)]
