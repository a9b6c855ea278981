"""Training sets against DuckDB's plain ASOF join on the same lake, their memory, a hot key, late events, and the demo's own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.declare import redis_stream
from feature_store.history import tiles
from feature_store.history.late import late_events
from feature_store.history.training import get_historical_features
from feature_store.lake import Lake

Result = dict[str, object]

EVENTS, SPINE, ENTITIES, DAYS = 5_000_000, 500_000, 100_000, 30
LIVE_EVENTS = 500_000
START = datetime(2024, 1, 1, tzinfo=UTC)
HOT_SHARE, LATE_SHARE = 0.1, 0.05
LATE_US = 21_600_000_000
"""Late events arrive up to six hours after they happened, all others within five seconds."""


class Payment(pa.DataFrameModel):
    payment: Series[str]
    customer: Series[str]
    paid_at: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    amount: Series[float]


payments = EventSource("payments", schema=Payment, event_time="paid_at", event_id="payment")
spending = FeatureView(
    "spending",
    entity=Entity("customer", join_keys=["customer"]),
    source=payments,
    features=[
        agg.count(over=["1h", "24h", "7d"]),
        agg.sum("amount", over=["1h", "24h", "7d"]),
        agg.max("amount", over=["1h", "24h", "7d"]),
    ],
)
registry = Registry(views=[spending])


def rows() -> list[Result]:
    """All measurements of this file."""
    even, hot = measured("even"), measured("hot")
    return [
        row("training set, 5 M events x 500 k rows, 3 windows x 3", even["ours"], "s", even["asof"], 3.0),
        row("training set, peak memory", even["peak_mb"], "MB", None, 1500.0),
        row("training set, a hot key with a tenth of the events", hot["ours"], "s", even["ours"], 2.0),
        late_row(),
        counting_row(),
        demo_row(),
    ]


def late_row() -> Result:
    """What it costs to know what could be known: 5 % of the events late, of a hot key too."""
    late = measured("late")
    return row("training set as served, 5 % of the events late, a hot key", late["served"], "s", late["ours"], 3.0)


def counting_row() -> Result:
    """What it costs a build to say which values late events changed."""
    built = measured("counting")
    return row("tiles of a live day, 5 % of its events late and counted", built["ours"], "s", built["bare"], 2.0)


def demo_row() -> Result:
    """The demo's training set: 330 k flights, all features of its service."""
    return row("training set of the demo", measured("demo")["ours"], "s", None, 10.0)


def row(name: str, value: float, unit: str, floor: float | None, limit: float) -> Result:
    """One line of the results: the limit is on the ratio to the floor, or on the value where there is no floor."""
    ratio = None if floor is None else value / floor
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "floor": None if floor is None else round(floor, 3),
        "ratio": None if ratio is None else round(ratio, 2),
        "limit": limit,
        "ok": (value if ratio is None else ratio) <= limit,
    }


def measured(case: str) -> dict[str, float]:
    """Run one case in a process of its own, so that its peak of memory is its own."""
    with tempfile.TemporaryDirectory() as directory:
        if case not in ("demo", "counting"):
            subprocess.run([sys.executable, "-m", "benchmarks.training", "prepare", case, directory], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training", case, directory], check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def prepare(directory: Path, *, hot: bool, late: bool = False, events: int = EVENTS, spine: int = SPINE) -> None:
    """A lake with the events, and a spine beside it; only where some are late is their arrival known."""
    key = (
        f"CASE WHEN i % {round(1 / HOT_SHARE)} = 0 THEN 0 ELSE hash(i) % {ENTITIES} END"
        if hot
        else f"hash(i) % {ENTITIES}"
    )
    span = DAYS * 86_400_000_000
    first = int(START.timestamp()) * 1_000_000
    with Lake.open(directory / "lake") as lake, lake.cursor() as cursor:
        lake.ensure_source(
            "payments", FeatureStore(registry, settings=Settings(home=directory)).compiled.schemas["payments"]
        )
        delay = f"CASE WHEN hash(i + 5) % {round(1 / LATE_SHARE)} = 0 THEN hash(i + 9) % {LATE_US} ELSE hash(i + 9) % 5000000 END"
        arrived = f", (us + {delay})::BIGINT AS _arrived_us" if late else ""
        query = f"""
            SELECT 'p' || i AS payment, 'c' || ({key}) AS customer, make_timestamptz(us) AS paid_at,
                   (hash(i + 3) % 100000) / 100.0 AS amount, 'p' || i AS _event_id, us AS _event_us{arrived}
            FROM (SELECT i, ({first} + (hash(i + 7) % {span}))::BIGINT AS us FROM range({events}) AS r(i))"""
        lake.replace_loaded("payments", query, days=[date(2024, 1, 1) + timedelta(days=n) for n in range(DAYS)])
        cursor.execute(
            f"""COPY (SELECT 'c' || ({key}) AS customer,
                             make_timestamptz(({first} + (hash(i + 11) % {span}))::BIGINT) AS event_timestamp
                      FROM range({spine}) AS r(i)) TO '{directory / "spine.parquet"}' (FORMAT parquet)"""
        )


def measure(directory: Path, *, with_floor: bool) -> dict[str, float]:
    """Seconds of our training set and of DuckDB's ASOF join, best of three taken in turn, and the peak of memory."""
    store = FeatureStore(registry, settings=Settings(home=directory))
    ours, asof = [], []
    with store:
        for _ in range(3):
            start = time.perf_counter()
            found = get_historical_features(
                store.compiled,
                store.lake,
                directory / "spine.parquet",
                ["spending:" + feature.name for feature in spending.declared],
                knowledge="corrected",
            )
            ours.append(time.perf_counter() - start)
            assert len(found) == SPINE
            del found
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for _ in range(3 if with_floor else 0):
            start = time.perf_counter()
            with store.lake.cursor() as cursor:
                cursor.execute(
                    f"SELECT s.*, e.amount FROM read_parquet('{directory / 'spine.parquet'}') AS s "
                    f"ASOF LEFT JOIN {store.lake.table_sql('events_payments_loaded')} AS e "
                    "ON s.customer = e.customer AND s.event_timestamp > e.paid_at"
                ).to_arrow_table()
            asof.append(time.perf_counter() - start)
    return {"ours": min(ours), "asof": min(asof, default=0.0), "peak_mb": peak}


def measure_late(directory: Path) -> dict[str, float]:
    """Seconds of our training set as served and as corrected, best of three taken in turn, and the values that differ."""
    seconds: dict[str, list[float]] = {"served": [], "corrected": []}
    features = ["spending:" + feature.name for feature in spending.declared]
    with FeatureStore(registry, settings=Settings(home=directory)) as store:
        for _ in range(3):
            for knowledge, taken in seconds.items():
                start = time.perf_counter()
                found = store.get_historical_features(directory / "spine.parquet", features, knowledge=knowledge)
                taken.append(time.perf_counter() - start)
                if knowledge == "served":
                    known = found.manifest.known
                del found
    return {
        "served": min(seconds["served"]),
        "ours": min(seconds["corrected"]),
        "differing": known.differing_values,
        "declared": known.views["spending@1"].declared,
    }


def measure_counting(directory: Path) -> dict[str, float]:
    """Seconds of the tiles of a day that came over the log, with its late events counted and without, best of three in turn."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    live = FeatureView(
        "spending",
        entity=spending.entity,
        source=EventSource(
            "payments",
            schema=Payment,
            event_time="paid_at",
            event_id="payment",
            log=redis_stream("payments", partitions=1),
        ),
        features=spending.declared,
    )
    end = START + timedelta(days=1)
    with FeatureStore(Registry(views=[live]), settings=Settings(home=directory)) as store:
        store.lake.ensure_source("payments", store.compiled.schemas["payments"])
        with store.lake.cursor() as cursor:
            events = cursor.execute(_live_sql(LIVE_EVENTS)).to_arrow_table()
        store.lake.append_live("payments", events, owner="benchmark", start={0: 0}, end={0: events.num_rows})
        for _ in range(3):
            for name, taken in seconds.items():
                counting = (
                    nullcontext() if name == "ours" else mock.patch.object(tiles, "count_late", return_value=None)
                )
                begun = time.perf_counter()
                with counting:
                    store.materialize("spending", start=START, end=end)
                taken.append(time.perf_counter() - begun)
        [day] = late_events(store.lake, live, start=START, end=end).days
    return {name: min(taken) for name, taken in seconds.items()} | {"late": day.late, "changed": day.changed}


def _live_sql(events: int) -> str:
    """A day of events as the archiver has them."""
    first = int(START.timestamp()) * 1_000_000
    delay = f"CASE WHEN hash(i + 5) % {round(1 / LATE_SHARE)} = 0 THEN hash(i + 9) % {LATE_US} ELSE hash(i + 9) % 5000000 END"
    return f"""
        SELECT 'p' || i AS payment, 'c' || (hash(i) % {ENTITIES}) AS customer, make_timestamptz(us) AS paid_at,
               (hash(i + 3) % 100000) / 100.0 AS amount, 'p' || i AS _event_id, us AS _event_us,
               (us + {delay})::BIGINT AS _arrived_us, 0::INTEGER AS _partition, i AS _offset
        FROM (SELECT i, ({first} + (hash(i + 7) % 86400000000))::BIGINT AS us FROM range({events}) AS r(i))"""


def measure_demo(directory: Path) -> dict[str, float]:
    """Seconds of the demo's training set over its whole year."""
    from features.flights import data_directory
    from features.nycflights import prepared_tables

    spine = prepared_tables(data_directory()) / "requests.parquet"
    with FeatureStore(settings=Settings(home=directory, declarations="features:registry")) as store:
        start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC)
        for source in store.registry.sources:
            store.load(source, start=start, end=end)
        for view in store.registry.views:
            if view.is_batch:
                store.materialize(view.name, start=start, end=end)
        begun = time.perf_counter()
        store.get_historical_features(spine, "arrival_delay", time_column="request_time")
        return {"ours": time.perf_counter() - begun}


def main() -> None:
    """`prepare <case> <directory>` or `<case> <directory>`; prints one line of JSON."""
    *verb, case, directory = sys.argv[1:]
    if verb:
        prepare(Path(directory), hot=case in ("hot", "late"), late=case == "late")
    elif case == "demo":
        print(json.dumps(measure_demo(Path(directory))))
    elif case == "counting":
        print(json.dumps(measure_counting(Path(directory))))
    elif case == "late":
        print(json.dumps(measure_late(Path(directory))))
    else:
        print(json.dumps(measure(Path(directory), with_floor=case == "even")))


if __name__ == "__main__":
    main()
