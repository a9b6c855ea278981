"""What every test may ask for: a real Valkey of this worker, and an environment name of its own."""

import gc
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from absent import NO_NODE, NO_OTHER_PYTHON
from guardian import guarded
from hypothesis import settings
from prometheus_server import NO_PROMETHEUS

from benchmarks.browser import NO_BROWSER

if TYPE_CHECKING:
    from kafka_broker import SharedBroker
    from shared_servers import ObjectServer, PostgresServer, SharedLakes

    from feature_store.embedded import EmbeddedValkey
    from feature_store.lake import LakeLocation

# No answer may depend on the zone of the machine that computes it, so the tests live in an odd one.
os.environ["TZ"] = "Asia/Kathmandu"
time.tzset()

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
# There is a worker per core and more; threads that wait for each other by spinning would cost ten times the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SLURM_CPUS_ON_NODE", "1")  # what DuckDB takes for the number of its threads

# What is imported and collected stays, so a worker need not look through it again and again for what might go.
gc.disable()

# A busy machine is no failure; the time limit of a test is pytest's.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")

# A script's background jobs ignore SIGINT. Dagster gives SIGTERM what SIGINT has, and what ignores SIGTERM cannot be ended.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def guardian() -> Iterator[None]:
    """Whatever a killed worker has started is ended, too."""
    with guarded(str(os.getpid())):
        yield


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator["EmbeddedValkey"]:
    """A running server on a free port, one per xdist worker: share it, and keep apart by `environment`."""
    from feature_store.embedded import EmbeddedValkey

    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), port=0)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    from benchmarks.bare import build_wheel

    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def flights_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's home with the flights of 2013 prepared, one for all xdist workers; others may link its folder `flights`."""
    from filelock import FileLock

    from features.nycflights import prepared_tables

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "flights-home"
    with FileLock(home.with_suffix(".lock")):
        prepared_tables(home / "flights")
    return home


@pytest.fixture
def environment() -> str:
    """Return an environment name that no other test uses, so that keys on one server never meet."""
    return f"test_{next(_numbers)}"


@pytest.fixture(scope="module")
def module_environment() -> str:
    """The same for all tests of a module; another one if a worker comes back to the module."""
    return f"test_{next(_numbers)}"


@pytest.fixture(scope="session")
def object_server() -> Iterator["ObjectServer"]:
    """A running server of S3's protocol, one per xdist worker."""
    from shared_servers import running_object_server

    with running_object_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A running Postgres, one per xdist worker."""
    from shared_servers import PostgresServer

    # Not in pytest's own folder, which it closes to other users: Postgres never runs as root.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def shared_lakes(
    postgres_server: "PostgresServer", object_server: "ObjectServer", tmp_path_factory: pytest.TempPathFactory
) -> "SharedLakes":
    """Makes lakes of several machines; see `shared_world`, which has what they need in the environment."""
    from shared_servers import SharedLakes

    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_server.environment().items():
            patch.setenv(name, value)
        return SharedLakes(postgres_server, object_server, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def shared_world(
    shared_lakes: "SharedLakes", object_server: "ObjectServer", monkeypatch: pytest.MonkeyPatch
) -> "SharedLakes":
    """The same, with the credentials of their data in this test's environment."""
    for name, value in object_server.environment().items():
        monkeypatch.setenv(name, value)
    return shared_lakes


@pytest.fixture(params=["local", "shared"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> "LakeLocation":
    """A lake of each kind that knows `departures`."""
    from lake_rows import local_copy

    if request.param == "local":
        return local_copy(tmp_path / "lake")
    return request.getfixturevalue("shared_world").new(tmp_path / "shared")


@pytest.fixture
def files_of(request: pytest.FixtureRequest) -> "Callable[[LakeLocation], list[str]]":
    """Lists the Parquet files of a lake, wherever they are."""

    def listed(place: "LakeLocation") -> list[str]:
        if place.is_shared:
            return request.getfixturevalue("shared_world").files(place)
        return [str(file) for file in Path(place.files).rglob("*.parquet")]

    return listed


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SharedBroker"]:
    """A running Kafka, one for all xdist workers; skipped where it cannot be started, except in CI."""
    import kafka_broker

    missing = kafka_broker.missing()
    if missing is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{NO_KAFKA}: {missing}")
    base = tmp_path_factory.getbasetemp()
    with kafka_broker.shared(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) as broker:
        yield broker


NO_KAFKA = "Kafka was not tested"


# Minutes of waiting for real processes: begun last, one of them would keep one worker busy while the others idle.
LONG = {
    "test_dagster_ui", "test_payments", "test_project", "test_streams_workers", "test_stack", "test_streams_kafka",
    "test_streams_handover", "test_lake_processes", "test_notebooks", "test_environments", "test_dagster_backfill",
    "test_backfill_safety", "test_streams_flow", "test_lake_concurrency", "test_executors", "test_log_kafka",
}  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: tests of processes wait a good part of their time, for a start or an answer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + max(cores // 2, 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long modules first, everything else in its order."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """From here on garbage comes up, of the tests alone."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what a green run has not shown."""
    skipped = terminalreporter.getreports("skipped")
    needs = (
        (NO_KAFKA, "Java 17 and Maven are"),
        (NO_BROWSER, "one is"),
        (NO_PROMETHEUS, "Debian's `prometheus` is"),
        (NO_NODE, "Node 18 or a newer one is"),
        (NO_OTHER_PYTHON, "another one from 3.11 on is"),
    )
    for what, needed in needs:
        if count := sum(what in str(report.longrepr) for report in skipped):
            line = f"{what.upper()}: {count} tests skipped, {needed} needed"
            terminalreporter.write_sep("!", line, red=True, bold=True)
