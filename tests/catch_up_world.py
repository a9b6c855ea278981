"""A code location in this process, over a home that a test names: rides that come over a log, trips that are loaded."""

from datetime import timedelta

import dagster as dg
import pyarrow as arrow  # noqa: ICN001 - as in dagster_world
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster_world import FIRST, Ride, city, live, midnight, ride, table
from feature_store_deploy.stack.definitions import build_definitions

from feature_store import EventSource, FeatureService, FeatureView, Registry, Settings, agg
from feature_store.clock import ManualClock
from feature_store.declare import redis_stream
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us

CLOCK = ManualClock(to_us(midnight(0)))
"""Of everything in this process."""
PER_DAY = 6


def load_trips(start, end):
    """A trip every four hours, for ever."""
    first = int((start - midnight(0)) / timedelta(hours=4))
    count = int((end - start) / timedelta(hours=4))
    return table([ride(n, at=n / PER_DAY, fare=float(n % 7)) for n in range(first, first + count)])


def registry():
    rides = EventSource(
        "rides", schema=Ride, event_time="begun", event_id="ride_id", log=redis_stream("rides"), history_start=FIRST
    )
    trips = EventSource("trips", schema=Ride, event_time="begun", event_id="ride_id", load=load_trips)
    hourly = FeatureView(
        "hourly", entity=city, source=rides, features=[agg.count(over="1h"), agg.mean("fare", over="1d")]
    )
    daily = FeatureView(
        "daily", entity=city, source=trips, features=[agg.count(over="2d"), agg.sum("fare", over="1d")],
        online="batch", every="1d", freshness_sla="36h",
    )  # fmt: skip
    return Registry(views=[hourly, daily], services=[FeatureService("pricing", features=[hourly, daily])])


REGISTRY = registry()


def archive(store, day):
    """What the archiver brings of a day: a ride every four hours."""
    offsets = range(day * PER_DAY, (day + 1) * PER_DAY)
    rides = [live(ride(n, at=n / PER_DAY, fare=float(n % 5)), offset=n) for n in offsets]
    store.lake.append_live(
        "rides", arrow.concat_tables(rides), owner="archiver", start={0: offsets.start}, end={0: offsets.stop}
    )


class InProcess(SyncInMemoryRunLauncher):
    """Runs what is launched in this process, to its end; so a run that has not ended has no process any more."""

    def terminate(self, _run_id):
        """Answers as where the server that started the run was killed, too."""
        raise DagsterUserCodeUnreachableError("failed to connect to all addresses")


def opened():
    """A store over the home and the environment that the variables name."""
    return FeatureStore(REGISTRY, settings=Settings(), clock=CLOCK)


@dg.definitions
def definitions():
    """What Dagster loads."""
    return build_definitions(REGISTRY, Settings(), clock=CLOCK)
