"""Batch on any executor: the same bytes whoever computes, and a clear end when a worker is lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from lake_rows import begun
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureStore,
    FeatureView,
    InputError,
    Label,
    ManualClock,
    Registry,
    Settings,
    agg,
)
from feature_store.errors import WorkerError
from feature_store.history.buckets import Bucket
from feature_store.history.workers import Workers
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, EVENTS, ROWS, CUSTOMERS = 4, 3000, 800, 60
END = START + timedelta(days=DAYS)
HOUR_US = 3_600_000_000


class Order(pandera.DataFrameModel):
    order: Series[str]
    customer: Series[str] = pandera.Field(nullable=True)
    amount: Series[float] = pandera.Field(nullable=True)
    item: Series[str]
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def made(start, end):
    """Orders in a few steps of time, so that many share one; some late, some without a customer."""
    del start, end
    draw = np.random.default_rng(3)
    at = to_us(START) + draw.integers(0, DAYS * 24 * 12, EVENTS) * 300_000_000
    customers = [None if n == 0 else f"c{n}" for n in np.minimum(draw.integers(0, CUSTOMERS * 2, EVENTS), CUSTOMERS)]
    return pa.table(
        {
            "order": [f"o{n}" for n in range(EVENTS)],
            "customer": customers,
            "amount": np.where(draw.random(EVENTS) < 0.1, np.nan, draw.normal(50, 20, EVENTS)),
            "item": [f"i{n}" for n in draw.integers(0, 9, EVENTS)],
            "at": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
            "seen": pa.array(at + draw.integers(0, 6, EVENTS) * HOUR_US).cast(pa.timestamp("us", tz="UTC")),
        }
    )


orders = EventSource(
    "orders", schema=Order, event_time="at", event_id="order", arrival="seen", load=made, history_start=date(2024, 1, 1)
)
customer = Entity("customer", join_keys=["customer"])
spending = FeatureView(
    "spending",
    entity=customer,
    source=orders,
    features=[
        agg.count(over="1h"),
        agg.sum("amount", over="6h"),
        agg.mean("amount", over="1d"),
        agg.min("amount", over="1d"),
        agg.last("item", over="1d"),
        agg.last_n("item", n=3, over="1d"),
        agg.count_distinct("item", over="1d", cap=100),
        agg.count(over=None, name="ever"),
    ],
)
hourly = FeatureView(
    "hourly",
    entity=customer,
    source=orders,
    online="batch",
    every="6h",
    features=[agg.count(over="1d"), agg.first("item", over="2d")],
)
registry = Registry(views=[spending, hourly], labels=[Label("orders_again", orders.count(on="customer", within="12h"))])
FEATURES = [spending, hourly]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A lake with the orders."""
    folder = tmp_path_factory.mktemp("executors")
    with FeatureStore(registry, settings=Settings(home=begun(folder), batch_workers=1)) as store:
        store.load("orders", start=START, end=END)
        store.materialize("hourly", start=START, end=END)
    return folder


@pytest.fixture
def open_store(home):
    """The store of these orders with a bucket's size and a number of workers."""
    opened = []

    def open_(bucket_events=1000, workers=1):
        # The setting's lower bound is for people; tests want more buckets than that.
        settings = Settings(home=begun(home), batch_workers=workers).model_copy(
            update={"training_bucket_events": bucket_events}
        )
        opened.append(FeatureStore(registry, settings=settings, clock=ManualClock(to_us(END))))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    return request.getfixturevalue(request.param)


class Counting(Executor):
    """An executor that counts what it is given."""

    def __init__(self) -> None:
        self.tasks = 0

    def submit(self, function, /, *args, **options):
        self.tasks += 1
        future: Future = Future()
        future.set_result(function(*args, **options))
        return future


def spine():
    """Rows in no order, some without a customer and some of nobody known."""
    draw = np.random.default_rng(4)
    at = to_us(START) + draw.integers(0, (DAYS * 24 - 12) * 12, ROWS) * 300_000_000
    numbers = draw.integers(0, CUSTOMERS + 5, ROWS)
    return pa.table(
        {
            "customer": pa.array([None if n == 0 else f"c{n}" for n in numbers], type=pa.string()),
            "event_timestamp": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
        }
    )


def digest_of(table):
    return hashlib.sha256(bytes_of(table)).hexdigest()


def bytes_of(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def training_set(store, knowledge, executor=None):
    return store.get_historical_features(
        spine(), FEATURES, knowledge=knowledge, statuses=True, labels=["orders_again"], executor=executor
    )


def rows_built(store):
    with store.lake.cursor() as cursor:
        newest = store.lake.partitions.latest_sql("rows_hourly_v1")
        return cursor.execute(
            f"SELECT * EXCLUDE (_available_us, row_version) FROM ({newest}) ORDER BY _key, _row_us"
        ).to_arrow_table()


@pytest.mark.parametrize("knowledge", ["served", "corrected"])
def test_a_training_set_has_the_same_bytes_whoever_computes_it(open_store, executor, knowledge):
    whole = training_set(open_store(10_000), knowledge)

    parted = training_set(open_store(700), knowledge, executor)

    assert (whole.manifest.recomputed["spending@1"] > ROWS / 4) == (knowledge == "served")
    assert bytes_of(parted.table) == bytes_of(whole.table)
    assert parted.manifest == whole.manifest


@pytest.mark.parametrize(("bucket_events", "workers"), [(2500, 1), (1200, 3), (200, 1)])
def test_a_training_set_has_the_same_bytes_in_any_number_of_buckets(open_store, bucket_events, workers):
    whole = training_set(open_store(10_000), "served")
    counting = Counting()

    parted = training_set(open_store(bucket_events, workers), "served", counting)

    assert bytes_of(parted.table) == bytes_of(whole.table)
    assert counting.tasks == 2 * -(-EVENTS * workers // bucket_events)  # of the view and of the label


def test_what_fits_one_bucket_is_computed_where_it_is_asked_for(open_store):
    counting = Counting()

    training_set(open_store(EVENTS), "served", counting)

    assert counting.tasks == 0


def test_a_spine_of_few_entities_is_computed_where_it_is_asked_for(open_store):
    counting = Counting()
    few = spine().slice(0, 3)

    parted = open_store(700).get_historical_features(few, [spending], executor=counting)

    assert counting.tasks == 0
    assert bytes_of(parted.table) == bytes_of(open_store(10_000).get_historical_features(few, [spending]).table)


def test_rows_of_a_batch_view_are_the_same_whoever_computes_them(open_store, executor):
    store = open_store(700)
    before = rows_built(store)

    commits = store.materialize("hourly", start=START, end=END, executor=executor)

    assert before.num_rows == sum(commit.rows for commit in commits) > CUSTOMERS
    assert bytes_of(rows_built(store)) == bytes_of(before)


def test_processes_are_started_by_default_and_end_with_the_work(open_store):
    whole = open_store(10_000).get_historical_features(spine(), [spending])

    parted = open_store(1400, workers=2).get_historical_features(spine(), [spending])

    assert bytes_of(parted.table) == bytes_of(whole.table)
    assert list((open_store().settings.lake_directory / "staging").glob("*/*/events")) == []


def test_an_executor_must_be_one(open_store):
    with pytest.raises(
        InputError, match=r"`executor` must be a `concurrent.futures.Executor`, got a int; a Dask client"
    ):
        open_store().get_historical_features(spine(), [spending], executor=2)


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(WorkerError, match=r"a worker process ended before its work was done .*nothing was written"):
        Workers(count=2, bucket_events=1).compute(signal.raise_signal, [signal.SIGKILL] * 2, events=2)


class Failing(Executor):
    """An executor of another kind, which fails in its own way."""

    def __init__(self, error) -> None:
        self._error = error

    def submit(self, _function, /, *_args, **_options):
        future: Future = Future()
        future.set_exception(self._error)
        return future


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("the scheduler is gone"),
            "the Failing did not do its work, nothing was written: ConnectionError: the scheduler is gone",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/mnt/lake/a.parquet"),
            "a worker does not see /mnt/lake/a.parquet, nothing was written; an executor's workers must see the lake's",
        ),
    ],
)
def test_an_executor_that_fails_is_an_error_and_no_rows_are_written(open_store, error, message):
    store = open_store(700)
    snapshot = store.lake.snapshot()

    with pytest.raises(WorkerError, match=message):
        store.materialize("hourly", start=START, end=END, executor=Failing(error))

    assert store.lake.snapshot() == snapshot
    assert list((store.settings.lake_directory / "staging").glob("*/*/events")) == []


def test_a_bucket_that_is_not_there_is_no_empty_bucket(tmp_path):
    bucket = Bucket(files=(tmp_path / "a.parquet",), schema=pa.schema([("n", pa.int64())]), order="n", memory_mb=None)

    with pytest.raises(FileNotFoundError, match=r"a\.parquet"):
        bucket.rows()


def test_a_dask_cluster_gives_the_same_bytes_and_a_lost_worker_costs_none_of_them(home, open_store):
    whole = open_store(10_000)
    expected, before = training_set(whole, "served"), rows_built(whole)
    beside = [Path(sys.prefix) / "dask", Path(__file__).parent]

    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("dask_batch.py"), home],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, beside))},
        check=True,
        stdout=subprocess.PIPE,
        timeout=120,
    )

    assert json.loads(done.stdout) == {
        "training_sets": [digest_of(expected.table)] * 2,
        "rows": digest_of(before),
    }


SLEEPERS = """
import os, sys, time
from feature_store.history.workers import Workers

def sleep(marker):
    open(f"{marker}-{os.getpid()}", "w").close()
    time.sleep(600)

if __name__ == "__main__":
    Workers(count=2, bucket_events=1).compute(sleep, [sys.argv[1]] * 2, events=2)
"""


@pytest.mark.parametrize(("ending", "to_group"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_workers_end_with_whoever_asked_for_them(tmp_path, ending, to_group):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "started")], start_new_session=True, stderr=subprocess.DEVNULL
    )
    workers = wait_for(lambda: [int(path.name.split("-")[1]) for path in tmp_path.glob("started-*")], many=2)

    os.kill(-process.pid if to_group else process.pid, ending)

    process.wait(120)
    wait_for(lambda: [pid for pid in workers if not is_running(pid)], many=2)


def wait_for(look, *, many):
    deadline = time.monotonic() + 120
    while len(found := look()) < many:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from feature_store.history.workers import Workers\n"
        "Workers(count=2, bucket_events=1).compute(print, [1, 2], events=2)\n"
    )

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 1
    assert "keep its statements under `if __name__ == '__main__':`" in done.stderr
