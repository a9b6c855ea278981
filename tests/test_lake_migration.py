"""From a local lake to a shared one: everything that was there is there, and what goes wrong leaves both as they were."""

import hashlib

import pyarrow as pa
import pytest
from lake_rows import SCHEMA, day, events, live, local_copy, open_lake, rejected
from shared_work import archive, everything, load_again, store_of, training_rows
from typer.testing import CliRunner

from feature_store.cli.app import app, run
from feature_store.errors import InputError, LakeError
from feature_store.lake import Lake, LakeLocation, migration
from feature_store.lake.migration import migrate

ROWS = pa.schema([("airport", pa.string()), ("n", pa.int64()), ("_day", pa.date32())])
TILES = "tiles_shop_sales_v1"
TABLES = ("commits", "positions", "builds", "rejected_events", "rows_a_v1", "registry_versions")


@pytest.fixture
def source(tmp_path):
    return local_copy(tmp_path / "home" / "lake")


def one_row(n: int) -> pa.Table:
    return pa.table([pa.array(["JFK"]), [n], pa.array([day(0)], pa.date32())], schema=ROWS)


def fill(place: LakeLocation) -> list[int]:
    """Loads, live commits, replaced and rebuilt days, a second environment; returns the snapshots."""
    with Lake.open(place, env="prod") as prod:
        prod.ensure_source("departures", SCHEMA)
        prod.replace_loaded("departures", events(3), days=[day(0)])
    with open_lake(place) as lake:
        made = [lake.replace_loaded("departures", events(48), days=[day(0), day(1)])]
        for number in range(3):
            start, end = {0: 2 * number}, {0: 2 * number + 2}
            rows = live(2, start_hour=30 + 2 * number, prefix="x", first=2 * number)
            made.append(
                lake.append_live("departures", rows, owner="a", start=start, end=end, rejected=rejected("rejected"))
            )
        made.append(lake.replace_loaded("departures", events(12), days=[day(0)]))
        made.extend(lake.partitions.append_version("rows_a_v1", one_row(n), schema=ROWS, days=[day(0)]) for n in (1, 2))
        lake.upkeep.compact("events_departures_live")
        made.append(lake.append("registry_versions", pa.table({"view": ["a"], "definition": [b"{}"]})))
        return [commit.snapshot for commit in made]


def content(place: LakeLocation, snapshots: list[int]) -> list[object]:
    """All that a reader can ask for, at each snapshot."""
    with open_lake(place) as lake, lake.cursor() as cursor:

        def rows(text: str) -> list[tuple]:
            return cursor.execute(f"SELECT * FROM {text} ORDER BY ALL").fetchall()

        return [
            *(rows(f"({lake.events_sql('departures', snapshot=at)})") for at in snapshots),
            *(lake.positions("departures", snapshot=at) for at in snapshots),
            *(rows(lake.table_sql(table)) for table in TABLES),
            lake.builds.newest("rows_a_v1"),
            lake.builds.stale_days("rows_a_v1", source="departures"),
        ]


def tree(place: LakeLocation) -> dict[str, str]:
    """Files -> what they hold, but for what SQLite and the lock keep beside the catalog."""
    files = [file for file in place.directory.rglob("*") if file.is_file() and file.name != "commit.lock"]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if not file.name.endswith(("-wal", "-shm"))
    }


def test_every_table_and_every_snapshot_is_read_there_as_it_was_here(source, shared_world, tmp_path):
    snapshots = fill(source)
    before, files = content(source, snapshots), tree(source)
    target = shared_world.empty(tmp_path / "other machine")

    done = migrate(source, target)

    assert content(target, snapshots) == before
    assert tree(source) == files
    with Lake.open(target, env="prod") as prod, prod.cursor() as cursor:
        assert cursor.execute(f"SELECT count(*) FROM ({prod.events_sql('departures')})").fetchall() == [(3,)]
    assert done.files == len(shared_world.files(target))
    assert done.snapshot > snapshots[-1]


def test_writers_go_on_there_where_they_stopped_here(source, shared_world, tmp_path):
    fill(source)
    target = shared_world.empty(tmp_path / "there")

    migrate(source, target)

    with open_lake(target) as lake, lake.cursor() as cursor:
        rows = live(2, start_hour=60, prefix="y", first=6)
        lake.append_live("departures", rows, owner="a", start={0: 6}, end={0: 8})
        lake.replace_loaded("departures", events(24), days=[day(0)])
        version = lake.partitions.append_version("rows_a_v1", one_row(3), schema=ROWS, days=[day(0)]).snapshot
        for table in (*TABLES, "events_departures_live"):
            lake.upkeep.compact(table)
        lake.upkeep.expire(older_than_us=10**18, grace_us=0, environments=["prod"])

        assert lake.positions("departures") == {0: 8}
        assert lake.builds.newest("rows_a_v1") == {day(0): version}
        text = lake.events_sql("departures")
        assert cursor.execute(f"SELECT count(*), count(_offset) FROM ({text})").fetchall() == [(56, 8)]


def test_a_training_set_of_the_migrated_lake_is_the_same(shared_world, tmp_path):
    here, there = LakeLocation(tmp_path / "here" / "lake"), shared_world.empty(tmp_path / "there" / "lake")
    with store_of(here) as store:
        store.lake.ensure_source("sales", store.compiled.schemas["sales"])
    archive(here)
    load_again(here, 0)
    with store_of(here) as store:
        pinned = store.lake.snapshot()
        before = [training_rows(store, pinned), *everything(store), store.lake.builds.fresh_days(TILES, source="sales")]

    migrate(here, there)

    with store_of(there) as store:
        after = [training_rows(store, pinned), *everything(store), store.lake.builds.fresh_days(TILES, source="sales")]
    assert after == before


def test_a_lake_that_is_open_is_not_migrated(source, shared_world, tmp_path):
    target = shared_world.empty(tmp_path)

    with open_lake(source), pytest.raises(LakeError, match="is open in 1 other process; stop what uses it"):
        migrate(source, target)

    assert shared_world.files(target) == []


def test_a_target_that_is_not_empty_is_refused(source, shared_world, tmp_path):
    used = shared_world.new(tmp_path)
    with pytest.raises(LakeError, match=r"holds a lake already \(snapshot \d+\); name an empty database"):
        migrate(source, used)

    fresh = shared_world.empty(tmp_path)
    shared_world.objects.client.put_object(Bucket="lake", Key=fresh.files.removeprefix("s3://lake/") + "/a", Body=b"")
    with pytest.raises(LakeError, match=r"is not empty .*; name an empty place for the data"):
        migrate(source, fresh)
    assert migrate(source, LakeLocation(tmp_path, fresh.catalog, f"{fresh.data}/below")).tables


def test_what_does_not_arrive_whole_leaves_an_empty_catalog(source, shared_world, tmp_path, monkeypatch):
    fill(source)
    target = shared_world.empty(tmp_path)
    digest = migration._table_digest

    def wrong(connection, schema, table):
        there = connection.execute("FROM duckdb_databases()").fetchall()
        rows, number = digest(connection, schema, table)
        return rows, number + (table == "rows_a_v1" and "postgres" in str(there))

    monkeypatch.setattr(migration, "_table_digest", wrong)

    with pytest.raises(LakeError, match=r"tables read otherwise than at the source: dev\.rows_a_v1"):
        migrate(source, target)

    database = target.catalog.partition("dbname=")[2].partition(" ")[0]
    tables = shared_world.postgres.psql(
        f"\\connect {database}\nSELECT count(*) FROM pg_tables WHERE schemaname = 'public';"
    )
    assert "     0\n" in tables


def test_only_a_local_lake_that_exists_moves_to_a_shared_place(source, shared_world, tmp_path):
    target = shared_world.empty(tmp_path)
    with pytest.raises(InputError, match="from a directory to a shared place"):
        migrate(source, LakeLocation(tmp_path / "x"))
    with pytest.raises(LakeError, match=r"there is no lake at .*/nothing"):
        migrate(LakeLocation(tmp_path / "nothing"), target)


def test_the_command_migrates_the_lake_of_the_settings(source, shared_world, tmp_path, monkeypatch, capsys):
    fill(source)
    target = shared_world.empty(tmp_path)
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path / "home"))

    result = CliRunner().invoke(app, ["lake", "migrate", "--to-catalog", target.catalog, "--to-data", target.data])

    assert result.exit_code == 0, result.output
    assert "read back and the same" in result.output
    monkeypatch.setenv("FEATURE_STORE_LAKE_CATALOG", target.catalog)
    monkeypatch.setenv("FEATURE_STORE_LAKE_DATA", target.data)
    assert run(["lake", "migrate", "--to-catalog", target.catalog, "--to-data", target.data]) == 2
    assert "the settings name a shared lake already" in capsys.readouterr().err
