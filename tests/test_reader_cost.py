"""What a read may cost where little is the promise: modules loaded, garbage made."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from online_world import World, departures, item, service

from feature_store.reader import FeatureReader

FIRST_READ = """
import sys
import feature_store
from feature_store import FeatureReader
vector = FeatureReader(sys.argv[1], env=sys.argv[2]).get_online_features("delay", {"origin": "JFK"})
assert vector.values == [2], vector  # long after the clock of the test
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.fixture
def world(valkey, environment):
    world = World(valkey.url, environment)
    view = departures()
    world.publish(view, services=[service(item("departures", "count_1h"))])
    world.put(view, "JFK", [3, 60, 2], 1.0)
    world.ready()
    return world


def test_the_first_read_of_a_process_loads_neither_redis_py_nor_anything_heavier(world):
    done = subprocess.run(
        [sys.executable, "-c", FIRST_READ, world.url, world.env],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )

    assert {"redis", "asyncio", "numpy", "pandas", "duckdb", "pyarrow", "pandera"}.isdisjoint(done.stdout.split())
    assert "hiredis" in done.stdout.split()


def test_reading_a_hundred_rows_again_and_again_never_wakes_the_garbage_collector(world):
    passes = []
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        rows = [{"origin": "JFK"}] * 100
        reader.get_online_features_batch("delay", rows)
        gc.collect()
        gc.callbacks.append(lambda phase, info: passes.append(info) if phase == "start" else None)
        try:
            for _ in range(50):
                reader.get_online_features_batch("delay", rows)
        finally:
            gc.callbacks.pop()

    assert passes == []


def test_reads_leave_no_cycles_for_the_garbage_collector(world):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        rows = [{"origin": "JFK"}] * 50
        reader.get_online_features_batch("delay", rows)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                reader.get_online_features_batch("delay", rows)
            found = gc.collect()
        finally:
            gc.enable()

    assert found == 0
