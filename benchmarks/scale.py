"""The payments example with a hundred million payments: backfill, a training set, and what more processes bring.

`python -m benchmarks scale --size 10000000` does the same with fewer. Backfill and training set are each a process of
their own, held to two workers and 6 GB.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import chdir, contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from benchmarks.memory import Peak
from benchmarks.results import Result, row
from feature_store import FeatureStore, Settings
from feature_store.history.training import TrainingSet

EVENTS, DAYS = 100_000_000, 120
LIMIT_MB, DUCKDB_MB, HELD_EVENTS, WORKERS = 6_000, 2_000, 6_000_000, 2
SPINE_SHARE = 20
"""One row of the spine for so many payments."""
SPEEDUP_SHARE, SPEEDUP_BUCKETS = 10, 8
"""The speed-ups are those of a lake with a tenth of the payments, in so many buckets a view."""
EXAMPLE = Path(__file__).parent.parent / "examples" / "payments"


def rows(size: int = EVENTS) -> Iterator[Result]:
    """All measurements of this file."""
    with tempfile.TemporaryDirectory() as folder:
        yield row(
            "payments generator",
            measured("generate", Path(folder), size)["rate"],
            "events/s",
            limit=1e6,
            at_least=True,
        )
        name = _written(size)
        found = measured("backfill", Path(folder), size)
        yield row(
            f"{name} payments, backfill: load, tiles of all views", found["rate"], "events/s", limit=1e5, at_least=True
        )
        yield row(f"{name} payments, backfill, peak memory", found["peak_mb"], "MB", limit=LIMIT_MB)
        found = measured("training", Path(folder), size)
        name = f"{_written(size)} payments, training set of {_written(int(found['rows']))} rows"
        yield row(name, found["seconds"], "s", limit=600)
        yield row(f"{name}, peak memory", found["peak_mb"], "MB", limit=LIMIT_MB)
    with tempfile.TemporaryDirectory() as folder:
        fewer = max(size // SPEEDUP_SHARE, 1)
        measured("generate", Path(folder), fewer)
        measured("backfill", Path(folder), fewer)
        found = measured("speedup", Path(folder), fewer)
        name = f"{_written(fewer)} payments, training set by"
        yield row(f"{name} 2 processes instead of 1", found["processes"], "s", floor=found["alone"], limit=0.85)
        yield row(f"{name} 2 threads instead of 1", found["threads"], "s", floor=found["alone"], limit=1.0)
        yield row(
            f"{name} a Dask cluster of 2 processes instead of 1",
            found["dask_2"],
            "s",
            floor=found["dask_1"],
            limit=0.85,
        )


def measured(stage: str, folder: Path, events: int) -> dict[str, float]:
    """Run one stage in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.scale", stage, str(folder), str(events)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def generate(folder: Path, events: int) -> dict[str, float]:
    """Write the events; the rate is that of making them, without the files."""
    generator, seconds = example("generator"), 0.0

    def timed() -> Iterator[object]:
        nonlocal seconds
        days, begun = generator.generate_daily(payments=events, days=days_of(events)), time.perf_counter()
        for day in days:
            seconds += time.perf_counter() - begun
            yield day
            begun = time.perf_counter()

    generator.write_daily(timed(), folder / "data")
    return {"rate": events / seconds}


def backfill(folder: Path, events: int) -> dict[str, float]:
    """Load all sources and build the tiles of every view, as a Dagster backfill does."""
    begun = time.perf_counter()
    with Peak() as peak, opened(folder) as store:
        start = example("generator").START
        span = {"start": start, "end": start + timedelta(days=days_of(events))}
        for source in store.registry.sources:
            store.load(source, **span)
        for view in store.registry.views:
            store.materialize(view.id, **span)
    return {"rate": events / (time.perf_counter() - begun), "peak_mb": peak.mb}


def training(folder: Path, _events: int) -> dict[str, float]:
    """The features of the service at a twentieth of the payments."""
    begun = time.perf_counter()
    with Peak() as peak, opened(folder) as store:
        found = training_set(store)
    return {"seconds": time.perf_counter() - begun, "peak_mb": peak.mb, "rows": len(found)}


def speedup(folder: Path, events: int) -> dict[str, float]:
    """Seconds of one training set by one process and by two, by two threads, and by a Dask cluster of one and of two."""
    bucketed = max(events // SPEEDUP_BUCKETS, 1000)
    seconds, tables = {}, []

    def timed(name: str, *, workers: int, executor: Executor | None = None) -> None:
        with opened(folder, workers=workers, held=bucketed * workers) as store:
            begun = time.perf_counter()
            tables.append(training_set(store, executor).table)
            seconds[name] = time.perf_counter() - begun

    timed("alone", workers=1)
    timed("processes", workers=2)
    with ThreadPoolExecutor(2) as threads:
        timed("threads", workers=2, executor=threads)
    sys.path.append(str(Path(sys.prefix) / "dask"))  # beside the environment, which Pandera would make slow with it
    from distributed import Client, LocalCluster

    for count in (1, 2):
        options = {"n_workers": count, "threads_per_worker": 1, "processes": True}
        with (
            LocalCluster(**options, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            timed(f"dask_{count}", workers=count, executor=client.get_executor())
    if not all(same_bytes(table, tables[0]) for table in tables):
        raise AssertionError("another executor gave another training set")
    return seconds


def training_set(store: FeatureStore, executor: Executor | None = None) -> TrainingSet:
    """The fraud service at one payment in twenty, chosen by its id."""
    spine = (
        'SELECT "user", device, merchant, paid_at AS event_timestamp '
        f"FROM ({store.lake.events_sql('payments')}) WHERE hash(payment_id) % {SPINE_SHARE} = 0 ORDER BY payment_id"
    )
    return store.get_historical_features(spine, "fraud", executor=executor, allow_incomplete=True)


def same_bytes(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are written alike."""
    written = []
    for table in (one, other):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.combine_chunks())
        written.append(sink.getvalue())
    return written[0].equals(written[1])


@contextmanager
def opened(folder: Path, *, workers: int = WORKERS, held: int = HELD_EVENTS) -> Iterator[FeatureStore]:
    """The example's store, with its data and its lake in a folder."""
    registry = example("payments").registry
    settings = Settings(
        home=folder / "home", batch_workers=workers, batch_memory_mb=DUCKDB_MB, training_bucket_events=held
    )
    with chdir(folder), FeatureStore(registry, settings=settings) as store:
        yield store


def days_of(events: int) -> int:
    """How many days the payments are spread over; fewer where there are few."""
    return min(DAYS, max(events // 10_000, 2))


def example(name: str) -> ModuleType:
    """A file of the example, which is no package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(EXAMPLE / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _written(count: int) -> str:
    return f"{count / 1e6:g} M" if count >= 100_000 else f"{count:,}"


def main() -> None:
    """`<stage> <folder> <events>`; prints one line of JSON."""
    stage, folder, events = sys.argv[1:]
    stages = {"generate": generate, "backfill": backfill, "training": training, "speedup": speedup}
    print(json.dumps(stages[stage](Path(folder), int(events))))


if __name__ == "__main__":
    main()
