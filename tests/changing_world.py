"""A deployment that is redefined: clicks of users, a stream and a batch view in two versions, a service of each."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    Label,
    ManualClock,
    Registry,
    Settings,
    agg,
    redis_stream,
)
from feature_store.fold.run import LocalStream
from feature_store.lake import Lake
from feature_store.time_rule import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 4
END = START + DAYS * DAY
USERS = 20


class Click(pandera.DataFrameModel):
    click: Series[str]
    user: Series[str] = pandera.Field(nullable=True)
    at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    value: Series[pd.Int64Dtype] = pandera.Field(nullable=True)


def load_clicks(start, end):
    """A click of every user at each hour."""
    hours = [start + timedelta(hours=n) for n in range(int((end - start) / timedelta(hours=1)))]
    rows = [
        (f"{hour:%d%H}-{user}", f"u{user}", hour, (hour.hour * 7 + user) % 11)
        for hour in hours
        for user in range(USERS)
    ]
    names, kinds = ("click", "user", "at", "value"), (pa.string(), pa.string(), pa.timestamp("us", "UTC"), pa.int64())
    return pa.table(
        {n: pa.array([row[i] for row in rows], k) for i, (n, k) in enumerate(zip(names, kinds, strict=True))}
    )


user = Entity("user", join_keys=["user"])
clicks = EventSource(
    "clicks",
    schema=Click,
    event_time="at",
    event_id="click",
    load=load_clicks,
    log=redis_stream("clicks", partitions=2),
)


def live(version=1, *, over="24h", extra=()):
    features = [agg.sum("value", over=over, name="total"), *extra]
    return FeatureView("live", entity=user, source=clicks, features=features, version=version)


def daily(version=1, *, over="2d"):
    features = [agg.count(over=over, name="count")]
    return FeatureView(
        "daily", entity=user, source=clicks, features=features, online="batch", freshness_sla="2d", version=version
    )


def clicking(version=1, *, features=None):
    chosen = [f"live@{version}:total", f"daily@{version}:count"] if features is None else features
    return FeatureService("clicking", features=chosen, version=version)


def busy(within="30m"):
    return Label("busy", clicks.any(on="user", where="value > 7", within=within))


OLD = (live(), daily())
NEW = (live(2, over="48h"), daily(2, over="3d"))
BEFORE = Registry(views=OLD, services=[clicking()])
BOTH = Registry(views=[*OLD, *NEW], services=[clicking(), clicking(2)])
AFTER = Registry(views=NEW, services=[clicking(2)])
LABELLED = Registry(views=[*OLD, *NEW], services=[clicking(), clicking(2)], labels=[busy()])


class Deployment:
    """Stores of one environment, over one open lake and one server."""

    def __init__(self, url, home, env):
        self.url, self.home, self.env = url, home, env
        self.clock = ManualClock(to_us(END))
        self._lake = Lake.open(home / "lake", env=env, clock=self.clock)
        self._opened = []

    def store(self, registry, **changed):
        values = {"home": self.home, "environment": self.env, "redis_url": self.url} | changed
        store = FeatureStore(registry, settings=Settings(**values), clock=self.clock)
        store.lake = self._lake  # opening it anew costs more than most of what is tested
        self._opened.append(store)
        return store

    def stream(self, store):
        return LocalStream(store.compiled, store.lake, store.redis, env=self.env, clock=self.clock)

    def build(self, store, *views):
        """Backfill views and publish the batch ones."""
        for view in views:
            store.materialize(view.id, start=START, end=END)
            if view.is_batch:
                store.publish_view(view.id)

    def close(self):
        for store in self._opened:
            store.close()
        self._lake.close()
