"""Two years of daily partitions by a Dagster backfill that is killed at a random partition and resumed, beside a twin that is not.

`python -m benchmarks backfill --size 50000000` does it with fewer events than half a milliard.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.backfill_world import DAYS, END, FIRST, FOLDER, write
from benchmarks.memory import Peak, family
from benchmarks.results import Result, row

EVENTS = 500_000_000
LIMIT_MB, DUCKDB_MB, DAYS_PER_RUN, CONCURRENCY = 4_000, 1_000, 31, 2
TABLES = ("events_payments_loaded", "tiles_spending_v1")
SEED = 20_261_130


def rows(size: int = EVENTS) -> Iterator[Result]:
    """All measurements of this file."""
    name = f"{size / 1e6:g} M events, {DAYS} days"
    with tempfile.TemporaryDirectory() as found:
        folder = Path(found)
        write(folder / "data", size)
        with Peak() as peak:
            twin = _Backfill(folder, "twin")
            alone_s = twin.run()
            expected = twin.content()
            shutil.rmtree(twin.home)  # two lakes and the files would be too much for a small disk
            killed = _Backfill(folder, "killed")
            at = random.Random(SEED).randrange(DAYS // 10, DAYS)
            lost_s = killed.run(kill_at=at)
            seconds = killed.run(resume=True)
        yield row(f"{name}, a backfill that nothing disturbs", size / alone_s, "events/s", limit=1e5, at_least=True)
        yield row(
            f"{name}, killed after {at} of {2 * DAYS} partitions and resumed", size / (lost_s + seconds),
            "events/s", limit=1e5, at_least=True,
        )  # fmt: skip
        different = sum(each != expected[table] for table, each in killed.content().items())
        yield row(f"{name}, killed: tables with other rows than the twin's", different, "tables", limit=0)
        limit = 2 * DAYS_PER_RUN * CONCURRENCY
        yield row(f"{name}, killed: partitions built twice", killed.built_twice(), "partitions", limit=limit)
        yield row(f"{name}, peak memory of a backfill with {CONCURRENCY} runs at a time", peak.mb, "MB", limit=LIMIT_MB)


class _Backfill:
    """A deployment with a home of its own, backfilled by processes that can be killed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.home = folder / name
        self.environment = os.environ | {
            FOLDER: str(folder / "data"),
            "FEATURE_STORE_HOME": str(self.home),
            "FEATURE_STORE_DECLARATIONS": "benchmarks.backfill_world:registry",
            "FEATURE_STORE_BATCH_MEMORY_MB": str(DUCKDB_MB),
            "PYTHONWARNINGS": "ignore",
        }

    def run(self, *, resume: bool = False, kill_at: int | None = None) -> float:
        """Until it is done, or killed with all of its processes after so many partitions; returns seconds."""
        command = [sys.executable, "-m", "benchmarks.backfill", "resume" if resume else "launch"]
        begun = time.perf_counter()
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                done = int(line)
                if kill_at is not None and done >= kill_at:
                    # Runs that are at work have come to any of their partitions by then.
                    time.sleep(random.Random(SEED).uniform(0, time.perf_counter() - begun) / 10)
                    for pid in reversed(family(process.pid)):
                        os.kill(pid, signal.SIGKILL)
                    break
        if kill_at is None and process.returncode:
            raise RuntimeError(f"the backfill ended with exit code {process.returncode}")
        return time.perf_counter() - begun

    def content(self) -> Mapping[str, tuple[object, ...]]:
        """Table -> how many rows, and a digest of all of them."""
        return {table: tuple(each) for table, each in self._ask("content").items()}

    def built_twice(self) -> int:
        """Partitions beyond the first build of each, of events and tiles; those that were cut off wrote nothing."""
        return int(self._ask("twice")["partitions"])

    def _ask(self, what: str) -> dict[str, object]:
        command = [sys.executable, "-m", "benchmarks.backfill", what]
        done = subprocess.run(command, env=self.environment, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)


def launch(*, resume: bool) -> None:
    """Drive a backfill, and print how many partitions are done whenever that changes."""
    from feature_store_deploy.assets.backfill import Span, run_backfill
    from feature_store_deploy.assets.resume import Unfinished

    from feature_store import Settings

    done = run_backfill(
        Settings(),
        Unfinished() if resume else Span(start=FIRST, end=END),
        on_progress=lambda now: print(now.done, flush=True),
        concurrency=CONCURRENCY,
        days_per_run=DAYS_PER_RUN,
        timeout_s=36_000,
    )
    if not done.ok:
        raise SystemExit(f"{done.total - done.done} of {done.total} partitions were not built")


def ask(what: str) -> dict[str, object]:
    """Of the deployment that the variables name: `content` of its tables, or partitions that were built `twice`."""
    from feature_store import FeatureStore

    with FeatureStore() as store, store.lake.cursor() as cursor:
        if what == "content":
            sql = "SELECT count(*), bit_xor(hash(t)), sum(hash(t))::VARCHAR FROM (SELECT * FROM {}) AS t"
            return {each: cursor.execute(sql.format(store.lake.table_sql(each))).fetchone() for each in TABLES}
        tiles = f"SELECT count(*) - count(DISTINCT day) FROM {store.lake.table_sql('builds')}"
        # A load that brings the same events again names no day, but its rows.
        events = f"SELECT (sum(rows) / (SELECT count(*) FROM {store.lake.table_sql(TABLES[0])}) - 1) FROM {store.lake.table_sql('commits')}"
        (built,), (share,) = cursor.execute(tiles).fetchone(), cursor.execute(events).fetchone()
    return {"partitions": built + round(share * DAYS)}


if __name__ == "__main__":
    if sys.argv[1] in ("launch", "resume"):
        launch(resume=sys.argv[1] == "resume")
    else:
        print(json.dumps(ask(sys.argv[1])))
