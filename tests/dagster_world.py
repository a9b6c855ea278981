"""A small deployment under Dagster, in this process: rides with owners, a stream view, a batch view, a service."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import dagster as dg
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow  # noqa: ICN001 - pandera has the name
from feature_store_deploy.stack.definitions import build_definitions
from lake_rows import begun
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureService, FeatureView, Registry, Settings, agg
from feature_store.clock import ManualClock
from feature_store.declare import redis_stream
from feature_store.store import FeatureStore
from feature_store.time_rule import to_us

FIRST = date(2024, 3, 1)
Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Ride(pa.DataFrameModel):
    ride_id: Series[str]
    city: Series[str]
    begun: Series[Time]
    fare: Series[float] = pa.Field(ge=0)


city = Entity("city", join_keys=["city"])


def midnight(days):
    return datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=days)


def day(number):
    return (FIRST + timedelta(days=number)).isoformat()


def ride(number, *, at, fare=10.0, name="york"):
    """A ride `at` days after the first."""
    return {"ride_id": f"r{number}", "city": name, "begun": midnight(0) + timedelta(days=at), "fare": fare}


def registry(load, *, log=True, fare_over="1d", late_events="correct", pii="none"):
    rides = EventSource(
        "rides", schema=Ride, event_time="begun", event_id="ride_id", load=load, history_start=FIRST,
        log=redis_stream("rides") if log else None, owner="team:taxis", description="One event per ride",
    )  # fmt: skip
    hourly = FeatureView(
        "hourly", entity=city, source=rides, features=[agg.count(over="1h"), agg.mean("fare", over=fare_over)],
        owner="team:taxis", description="How busy a city is", tags={"pii": pii},
    )  # fmt: skip
    daily = FeatureView(
        "daily", entity=city, source=rides, features=[agg.count(over="2d"), agg.sum("fare", over="1d")],
        online="batch", every="1d", freshness_sla="36h", owner="ops@example.com", description="Yesterday",
        late_events=late_events, lateness="1h" if late_events == "ignore" else None, tags={"pii": pii},
    )  # fmt: skip
    service = FeatureService("pricing", features=[hourly, daily], owner="team:ml", description="What a ride costs")
    return Registry(views=[hourly, daily], services=[service])


@dataclass
class Deployment:
    """Its definitions over rows that a test may change, and an instance that keeps what happened."""

    home: object
    url: str = "redis://127.0.0.1:1/0"
    environment: str = "dev"
    rows: list = field(default_factory=list)
    log: bool = True
    late_events: str = "correct"
    pii: str = "none"
    settings: Settings | None = None

    def __post_init__(self):
        self.registry = registry(self.load, log=self.log, late_events=self.late_events, pii=self.pii)
        self.settings = self.settings or Settings(
            home=begun(self.home, self.environment), redis_url=self.url, environment=self.environment
        )
        self.clock = ManualClock(to_us(midnight(10)))
        self.definitions = build_definitions(self.registry, self.settings, clock=self.clock)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(self.home))

    def load(self, start, end):
        chosen = [row for row in self.rows if start <= row["begun"] < end]
        return table(chosen)

    def store(self):
        return FeatureStore(self.registry, settings=self.settings, clock=self.clock)

    def key(self, *path):
        return dg.AssetKey([self.environment, *path])

    def run(self, *keys, first=None, last=None, past=True, **options):
        """Materialize assets, given as `events/rides`, with their checks; of the past, as a backfill does."""
        chosen = {self.key(*key.split("/")) for key in keys}
        tags = {"dagster/backfill": "some"} if past else {}
        return run(self.definitions, self.instance, chosen, first=first, last=last, tags=tags, **options)


def run(definitions, instance, keys, *, checks=None, first=None, last=None, tags=None, **options):
    """Materialize assets with their checks, or with those that are named."""
    whole = definitions.resolve_implicit_global_asset_job_def()
    job = whole.get_subset(asset_selection=frozenset(keys), asset_check_selection=checks)
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    with quiet():
        return job.execute_in_process(
            instance=instance, tags={**(days if first else {}), **(tags or {})}, raise_on_error=False, **options
        )


class quiet:  # noqa: N801 - reads as a word
    """Dagster logs every event."""

    def __enter__(self):
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        logging.disable(logging.CRITICAL)

    def __exit__(self, *_):
        logging.disable(logging.NOTSET)


def table(rows):
    return arrow.table(
        {
            "ride_id": arrow.array([row["ride_id"] for row in rows], arrow.string()),
            "city": arrow.array([row["city"] for row in rows], arrow.string()),
            "begun": arrow.array([row["begun"] for row in rows], arrow.timestamp("us", "UTC")),
            "fare": arrow.array([row["fare"] for row in rows], arrow.float64()),
        }
    )


def live(row, *, offset=0):
    """A ride as the archiver brings it, arrived on day 10."""
    arrived = to_us(midnight(10))
    columns = {
        "_event_id": [row["ride_id"]],
        "_event_us": [to_us(row["begun"])],
        "_arrived_us": [arrived],
        "_partition": [0],
        "_offset": [offset],
    }
    found = table([row])
    for name, values in columns.items():
        found = found.append_column(name, [values])
    return found.set_column(found.schema.get_field_index("_partition"), "_partition", found["_partition"].cast("int32"))


def evaluations(result):
    """Check -> its evaluation in a run; checks that were skipped are not there."""
    return {
        "/".join(each.asset_key.path[1:]) + ":" + each.check_name: each for each in result.get_asset_check_evaluations()
    }


def told(result, key):
    """The metadata of an asset's newest materialization in a run."""
    assert result.success, [e.event_specific_data.error.cause for e in result.all_events if e.is_step_failure]
    events = [e for e in result.get_asset_materialization_events() if e.asset_key.path[1:] == key.split("/")]
    return {name: value.value for name, value in events[-1].materialization.metadata.items()}
