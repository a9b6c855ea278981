"""What every test may ask for: a real Valkey of this worker, and an environment name of its own."""

import itertools
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from kafka_broker import SharedBroker

    from feature_store.embedded import EmbeddedValkey

# No answer may depend on the zone of the machine that computes it, so the tests live in an odd one.
os.environ["TZ"] = "Asia/Kathmandu"
time.tzset()

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
# There is a worker per core already; threads that wait for each other by spinning would cost ten times the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure; the time limit of a test is pytest's.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")

_numbers = itertools.count()


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


@pytest.fixture
def environment() -> str:
    """Return an environment name that no other test uses, so that keys on one server never meet."""
    return f"test_{next(_numbers)}"


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what a green run has not shown."""
    skipped = terminalreporter.getreports("skipped")
    if count := sum(NO_KAFKA in str(report.longrepr) for report in skipped):
        line = f"{NO_KAFKA.upper()}: {count} tests skipped, Java 17 and Maven are needed"
        terminalreporter.write_sep("!", line, red=True, bold=True)
