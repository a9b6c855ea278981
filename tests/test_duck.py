"""Sessions of the process's one database in memory do not see each other."""

from contextlib import closing

import pyarrow as pa

from feature_store.duck import scratch


def test_each_session_has_its_own_tables_and_its_own_zone():
    zone = "SELECT current_setting('TimeZone')"
    with closing(scratch(timezone="Asia/Kathmandu")) as first, closing(scratch()) as second:
        for number, session in enumerate((first, second)):
            session.register("given", pa.table({"n": [number]}))

        assert [s.execute("FROM given").fetchall() for s in (first, second)] == [[(0,)], [(1,)]]
        assert [s.execute(zone).fetchall() for s in (first, second)] == [[("Asia/Kathmandu",)], [("UTC",)]]
    with closing(scratch()) as later:
        assert later.execute("SELECT count(*) FROM duckdb_views() WHERE view_name = 'given'").fetchall() == [(0,)]
