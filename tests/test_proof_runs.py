"""What a run knew of loaded events: those that the lake held when it began, whatever is loaded later."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from verify_world import registry

from feature_store import FeatureStore, Settings
from feature_store.clock import ManualClock
from feature_store.errors import LakeError
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.lake import Lake
from feature_store.lake.books.stream import STREAM_RUNS
from feature_store.proof import ServedLog, append_served, prove
from feature_store.proof.layout import conform, served_layout
from feature_store.proof.recompute import provable
from feature_store.time_rule import HOUR_US, MINUTE_US, to_us

DAY = datetime(2024, 3, 1, tzinfo=UTC)
NOON = to_us(DAY + timedelta(hours=12))


class World:
    """A stream that rebuilds from loaded history; a day that is loaded again while it runs; a restart."""

    def __init__(self, url, home, environment):
        self.history, self.log = [ride(i, i) for i in range(20)], ServedLog()
        self.clock = ManualClock(NOON)
        settings = Settings(home=home, redis_url=url, environment=environment)
        self.store = FeatureStore(registry(lambda *_: table(self.history)), settings=settings, clock=self.clock)
        self.store.apply()
        self.load()
        self.run()
        self.read()
        self.history = [ride(i, i) for i in range(7, 30)]  # some are gone, some are new
        self.load()
        self.read()
        self.run()
        self.read()
        Archiver(self.store.compiled, self.store.lake, self.store.log("rides"), source="rides").step()
        CommitArchiver(self.store.lake, self.store.redis, environment).step()
        append_served(self.store.compiled, self.store.lake, self.log.table())

    def load(self):
        self.store.load("rides", start=DAY, end=DAY + timedelta(days=1))

    def run(self):
        """A new run of the stream, as the flow records it."""
        snapshot = self.store.lake.snapshot()
        self.stream = LocalStream(
            self.store.compiled,
            self.store.lake,
            self.store.redis,
            env=self.store.settings.environment,
            clock=self.clock,
        )
        self.step()
        [vector] = self.reading()
        run = vector.provenance["busy@1"].run
        row = {"run": run, "snapshot": snapshot, "began_us": self.clock.now_us(), "generation": "g", "shards": 1}
        self.store.lake.append(STREAM_RUNS, pa.Table.from_pylist([row]))

    def step(self):
        self.clock.move_to(self.clock.now_us() + MINUTE_US)
        self.stream.step()

    def reading(self):
        with self.store.reader() as reader:
            return reader.get_online_features_batch("fares", [{"city": 1}])

    def read(self):
        self.step()
        for vector in self.reading():
            self.log.add({"city": 1}, vector, as_of_us=self.clock.now_us())


def ride(number, hours_ago):
    return {"ride_id": f"r{number}", "city": 1, "begun": NOON - hours_ago * HOUR_US // 4, "fare": 5.0 + number}


def table(rows):
    types = {"ride_id": pa.string(), "city": pa.int64(), "begun": pa.timestamp("us", "UTC"), "fare": pa.float64()}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    made = World(valkey.url, tmp_path_factory.mktemp("runs"), module_environment)
    yield made
    made.store.close()


def test_a_load_while_a_run_lasts_is_unknown_to_its_values_and_known_to_the_next_run(world):
    counts = world.log.table().column("busy__count_6h").to_pylist()
    assert counts[0] == counts[1] != counts[2]

    proof = prove(world.store.compiled, world.store.lake, world.log.table())
    [verdict] = world.store.verify()

    assert (proof.values, proof.unequal, proof.oracle_unequal) == (30, 0, 0)
    assert (verdict.values, verdict.unequal, verdict.oracle_unequal) == (30, 0, 0)


def test_without_a_record_of_runs_all_loaded_events_count_as_known(world):
    lake = world.store.lake
    with lake.cursor() as cursor:
        rows = cursor.execute(f"SELECT * FROM {STREAM_RUNS}").to_arrow_table()
        cursor.execute(f"DELETE FROM {STREAM_RUNS}")

    proof = prove(world.store.compiled, lake, world.log.table())
    lake.append(STREAM_RUNS, rows)

    assert proof.unequal > 0
    assert {difference.run for difference in proof.report.differences} == {min(rows.column("run").to_pylist())}


def test_a_run_whose_snapshot_was_forgotten_is_unprovable_if_loads_changed_what_it_knew(world):
    lake, first = world.store.lake, world.log.table().column("busy_v1__run")[0].as_py()
    with lake.cursor() as cursor:
        rows = cursor.execute(f"SELECT * FROM {STREAM_RUNS}").to_arrow_table()
        cursor.execute(f"UPDATE {STREAM_RUNS} SET snapshot = 0 WHERE run = {first}")  # there was no table yet

    [verdict] = world.store.verify()
    proof = prove(world.store.compiled, lake, world.log.table())
    with lake.cursor() as cursor:
        cursor.execute(f"DELETE FROM {STREAM_RUNS}")
    lake.append(STREAM_RUNS, rows)

    assert verdict.causes == {"unprovable": 20}
    assert (proof.unequal, proof.oracle_unequal) == (20, 20)


def test_a_lake_that_cannot_be_read_is_an_error_not_something_unprovable(world, monkeypatch):
    lake = world.store.lake
    opened = Lake.open

    def locked(*where, **options):
        if options.get("read_only"):
            raise LakeError("the catalog of the lake cannot be used: database is locked")
        return opened(*where, **options)

    monkeypatch.setattr(Lake, "open", locked)

    with pytest.raises(LakeError, match="database is locked"):
        prove(world.store.compiled, lake, world.log.table())
    with pytest.raises(LakeError, match="database is locked"):
        world.store.verify()


def test_what_a_connection_remembers_of_old_snapshots_does_not_matter(world, monkeypatch):
    """A connection may hold a wrong schema for the number of an old snapshot: it says there is no such table."""
    lake, newest = world.store.lake, world.store.lake.snapshot()
    read = Lake.events_sql

    def forgetful(self, *given, loaded_at=None, **options):
        if self is lake and loaded_at not in (None, newest):
            raise LakeError(f"source 'rides' cannot be read at snapshot {loaded_at}")
        return read(self, *given, loaded_at=loaded_at, **options)

    monkeypatch.setattr(Lake, "events_sql", forgetful)

    proof = prove(world.store.compiled, lake, world.log.table())

    assert (proof.values, proof.unequal, proof.oracle_unequal) == (30, 0, 0)


def test_the_shard_is_that_of_the_run_that_wrote_the_value_not_of_the_count_that_the_reader_saw(world):
    compiled, lake = world.store.compiled, world.store.lake
    served = world.log.table()
    place = served.schema.get_field_index("busy_v1__shard")
    moved = served.set_column(place, "busy_v1__shard", pa.array([3, 2, None], pa.int64()))

    record = provable(compiled, lake, served_layout(compiled, "fares"), moved, snapshot=lake.snapshot())

    assert record.column("busy_v1__shard").to_pylist() == [0, 0, None]
    assert conform(served_layout(compiled, "fares"), moved).column("busy_v1__shard").to_pylist() == [3, 2, None]
