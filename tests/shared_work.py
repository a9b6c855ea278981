"""What several machines do to one lake at once: load and build days again and again, archive, train."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.typing import Series

from feature_store import Entity, EventSource, FeatureStore, FeatureView, Registry, Settings, agg, redis_stream
from feature_store.lake import Lake, LakeLocation
from feature_store.time_rule import from_us, to_us

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR_US = 3_600_000_000
BLOCKS = ((0, 1), (2, 3))
"""Each loader's days."""
GENERATIONS = 2
TILES = "tiles_shop_sales_v1"
FEATURES = ["shop_sales:count_24h", "shop_sales:amount_sum_7d", "shop_sales:amount_max_24h"]
LIVE_COMMITS, LIVE_ROWS = 12, 4


class Sale(pandera.DataFrameModel):
    uid: Series[str]
    shop: Series[str]
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    amount: Series[float] = pandera.Field(ge=0)


def sales(generation: Callable[[], int]) -> Registry:
    """Declarations whose history says `amount` = the generation, two events an hour."""

    def history(start: datetime, end: datetime) -> pa.Table:
        hours = range(to_us(start) // HOUR_US, to_us(end) // HOUR_US)
        rows = [(f"{shop}{hour}", shop, from_us(hour * HOUR_US)) for hour in hours for shop in ("bath", "york")]
        uids, shops, times = zip(*rows, strict=True)
        at = pa.array(times, pa.timestamp("us", "UTC"))
        return pa.table({"uid": uids, "shop": shops, "at": at, "amount": [float(generation())] * len(rows)})

    source = EventSource("sales", schema=Sale, event_time="at", event_id="uid", load=history, log=redis_stream("sales"))
    features = [agg.count(over="24h"), agg.sum("amount", over="7d"), agg.max("amount", over="24h")]
    view = FeatureView("shop_sales", entity=Entity("shop", join_keys=["shop"]), source=source, features=features)
    return Registry(views=[view])


def store_of(place: LakeLocation, generation: int = 0) -> FeatureStore:
    """A deployment of those declarations over a lake."""
    settings = Settings(home=place.directory.parent, lake_catalog=place.catalog, lake_data=place.data)
    return FeatureStore(sales(lambda: generation), settings=settings)


def load_again(place: LakeLocation, block: int) -> None:
    """As Dagster's runs do: load the block's days and build their tiles, one generation after the other."""
    start, end = START + BLOCKS[block][0] * DAY, START + (BLOCKS[block][1] + 1) * DAY
    for generation in range(1, GENERATIONS + 1):
        with store_of(place, generation) as store:  # a run of its own
            store.load("sales", start=start, end=end)
            store.materialize("shop_sales", start=start, end=end)


def backfill(place: LakeLocation, days: tuple[int, int], begun: Path, stop: Path) -> None:
    """Load and build a range of days again and again, as one that is interrupted and resumed, until told to stop."""
    start, end = START + days[0] * DAY, START + (days[1] + 1) * DAY
    with store_of(place) as store:
        begun.touch()
        while True:
            last = stop.exists()
            store.load("sales", start=start, end=end)
            store.materialize("shop_sales", start=start, end=end)
            if last:
                return


def archive(place: LakeLocation) -> None:
    """As the archiver does: small commits that move the position."""
    with store_of(place) as store:
        for number in range(LIVE_COMMITS):
            archive_one(store.lake, number)


def archive_one(lake: Lake, number: int) -> None:
    """One such commit: events of the first two days."""
    first = number * LIVE_ROWS
    offsets = range(first, first + LIVE_ROWS)
    times = [to_us(START) + offset * HOUR_US + 1 for offset in offsets]
    rows = {
        "uid": [f"live{offset}" for offset in offsets],
        "shop": ["bath"] * LIVE_ROWS,
        "at": pa.array(times, pa.timestamp("us", "UTC")),
        "amount": [100.0 + offset for offset in offsets],
        "_event_id": [f"live{offset}" for offset in offsets],
        "_event_us": times,
        "_arrived_us": times,
        "_partition": pa.array([0] * LIVE_ROWS, pa.int32()),
        "_offset": list(offsets),
    }
    lake.append_live("sales", pa.table(rows), owner="archiver", start={0: first}, end={0: first + LIVE_ROWS})


def tiles(lake: Lake, *days: date) -> list[tuple]:
    """The rows of the view's tiles, of some days or of all."""
    listed = ", ".join(f"DATE '{day}'" for day in days)
    chosen = f"WHERE _day IN ({listed})" if days else ""
    with lake.cursor() as cursor:
        return cursor.execute(f"SELECT * FROM {lake.table_sql(TILES)} {chosen} ORDER BY ALL").fetchall()


def train(place: LakeLocation, stop: Path, report: Path) -> None:
    """Read training sets until told to stop; writes down what of a read did not fit together, and how many there were."""
    wrong, reads = [], 0
    with store_of(place) as store:
        while not stop.exists() or not reads:
            wrong += contradictions(store, store.lake.snapshot())
            reads += 1
    report.write_text("\n".join([str(reads), *wrong]))


def contradictions(store: FeatureStore, snapshot: int) -> list[str]:
    """What does not fit together at one snapshot."""
    found, lake = [], store.lake
    text = lake.events_sql("sales", snapshot=snapshot)
    with lake.cursor() as cursor:
        live = cursor.execute(f"SELECT count(*) FROM ({text}) WHERE _offset IS NOT NULL").fetchone()[0]
        loads = cursor.execute(
            f"SELECT _day - DATE '2024-03-01' >= 2 AS block, count(*), count(DISTINCT amount) FROM ({text}) "
            "WHERE _offset IS NULL GROUP BY ALL"
        ).fetchall()
    if live != lake.positions("sales", snapshot=snapshot).get(0, 0):
        found.append(f"snapshot {snapshot}: {live} live rows at positions {lake.positions('sales', snapshot=snapshot)}")
    found += [f"snapshot {snapshot}: half a load {load}" for load in loads if load[1:] != (96, 1)]
    first = training_rows(store, snapshot)
    time.sleep(0.05)  # long enough for a commit
    if training_rows(store, snapshot) != first:
        found.append(f"snapshot {snapshot}: two training sets differ")
    return found


def training_rows(store: FeatureStore, snapshot: int | None = None) -> list[dict]:
    spine = pa.table(
        {
            "shop": ["bath", "york", "bath"] * 4,
            "event_timestamp": pa.array(
                [START + DAY * (n // 3) + timedelta(hours=13, minutes=n) for n in range(12)], pa.timestamp("us", "UTC")
            ),
        }
    )
    found = store.get_historical_features(
        spine, FEATURES, knowledge="corrected", snapshot=snapshot, allow_incomplete=True
    )
    return found.to_arrow().to_pylist()


def everything(store: FeatureStore) -> list[object]:
    """Events, tiles, positions and a training set, whichever way they came."""
    lake = store.lake
    with lake.cursor() as cursor:
        return [
            cursor.execute(f"SELECT * FROM ({lake.events_sql('sales')}) ORDER BY _event_id").fetchall(),
            lake.positions("sales"),
            lake.days("sales").loaded,
            training_rows(store),
        ]
