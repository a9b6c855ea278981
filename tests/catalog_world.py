"""A shop as its catalog has it: two versions of a view, personal data, functions, and texts that want to be markup."""

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import uvicorn
from online_world import write_shards
from redis import Redis

from feature_store import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    ManualClock,
    Registry,
    Settings,
    agg,
    on_demand,
    ratio,
    redis_stream,
    request,
)
from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key
from feature_store.embedded import free_port
from feature_store.online.keys import access_key
from feature_store.online.ready import ReadyRecord, store_generation, write_ready
from feature_store.serving.app import build_app
from feature_store.time_rule import MINUTE_US, to_us

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> & 'quoted' {{x}} ${y}"
DAGSTER = "http://127.0.0.1:3999"


class Payment(pandera.DataFrameModel):
    payment_id: str
    customer: str
    country: str = pandera.Field(description="Two letters")
    amount: float = pandera.Field(ge=0)
    paid_at: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def load_payments(start, end):
    """Twenty customers, a payment every seven minutes."""
    count = int((end - start) / timedelta(minutes=7))
    times = [start + timedelta(minutes=7 * n) for n in range(count)]
    return pa.table(
        {
            "payment_id": [f"p{time:%d%H%M}" for time in times],
            "customer": [f"c{n % 20}" for n in range(count)],
            "country": [("de", "fr", "nl")[n % 3] for n in range(count)],
            "amount": [5.0 + (n * 37 % 90) for n in range(count)],
            "paid_at": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


customer = Entity("customer", join_keys=["customer"], description="Whoever pays")
payments = EventSource(
    "payments",
    schema=Payment,
    event_time="paid_at",
    event_id="payment_id",
    load=load_payments,
    log=redis_stream("payments"),
    owner="team:till",
    description="One event for each payment at the till",
)


def spending(version=1, *, over="24h", owner="team:fraud", description="How much a customer has paid of late"):
    return FeatureView(
        "spending",
        entity=customer,
        source=payments,
        features=[
            agg.count(over="1h", description="payments"),
            agg.mean("amount", over=over, name="amount_mean", description="euros"),
            agg.last("country", description="where the latest payment was made"),
        ],
        where="amount > 0",
        owner=owner,
        description=description,
        tags={"pii": "none", "tier": "gold"},
        version=version,
    )


profile = FeatureView(
    "profile",
    entity=customer,
    source=payments,
    features=[agg.last("payment_id", over="7d", description="the latest payment")],
    tags={"pii": "behaviour"},
    owner="team:privacy",
    description="What a customer does",
)
habits = FeatureView(
    "habits",
    entity=customer,
    source=payments,
    features=[agg.max("amount", over="7d", description=HOSTILE)],
    online="batch",
    every="1d",
    freshness_sla="2d",
    owner="ops@example.com",
    description=HOSTILE,
    tags={"note": HOSTILE},
)


def registry(newest=True):
    first = spending()
    second = spending(2, over="7d", description="How much a customer has paid in a week")
    latest = second if newest else first

    @on_demand(inputs={"amount": request(float), "usual": latest["amount_mean"]}, returns=float)
    def times_the_usual(amount, usual):
        """How large a payment is beside what the customer usually pays."""
        return amount / usual

    share = ratio("share_of_hour", latest["count_1h"], latest["amount_mean"], empty=0.0, description="busy or not")
    fraud = FeatureService(
        "fraud",
        version=latest.version,
        owner="team:fraud",
        description="What the fraud model reads",
        features=[latest, habits, share, times_the_usual],
        defaults={"habits:amount_max_7d": 0.0},
    )
    marketing = FeatureService("marketing", features=["spending@1:count_1h", profile], description="Who buys what")
    return Registry(
        views=[first, *([second] if newest else []), profile, habits],
        services=[FeatureService("fraud", version=1, features=[first]), *([fraud] if newest else []), marketing],
    )


class CatalogWorld:
    """Applied twice: first without the second version of `spending`, under another owner."""

    def __init__(self, url, env, home):
        self.url, self.env, self.home = url, env, home
        self.client = Redis.from_url(url)
        self.clock = ManualClock(to_us(NOON - timedelta(hours=2)))
        self.settings = Settings(home=home, redis_url=url, environment=env)
        self.apply(registry(newest=False))
        self.clock.at_us = to_us(NOON)
        self.apply(registry())
        self.keyring = Keyring()

    def store(self, declared=None):
        return FeatureStore(declared or registry(), settings=self.settings, clock=self.clock)

    def apply(self, declared):
        with self.store(declared) as store:
            store.apply()

    def measure(self):
        """Load a week of events, and tell how the values are distributed."""
        with self.store() as store:
            store.load("payments", start=NOON - timedelta(days=5, hours=12), end=NOON - timedelta(hours=12))
            return store.publish_statistics()

    def live(self, behind_us=2_000_000):
        """A stream that is two seconds behind."""
        with self.store() as store:
            views = {view.id: 0 for view in store.registry.views if view.online == "stream"}
        write_shards(self.client, self.env, 1)
        record = ReadyRecord(
            field="0",
            generation=store_generation(self.client, self.env),
            views=views,
            beat_us=self.clock.at_us,
            oldest_unread_us=self.clock.at_us - behind_us,
        )
        write_ready(self.client, self.env, record)

    def key(self, **grants):
        """A new key, as text."""
        key, text = make_key("a test", Grants(**grants), now_us=self.clock.at_us - MINUTE_US, by="a test")
        self.have(self.keyring.with_key(key))
        return text

    def have(self, keyring):
        self.keyring = keyring
        self.client.set(access_key(self.env), encode_keyring(keyring.published()))

    def app(self):
        return build_app(self.url, env=self.env, clock=self.clock, dagster_url=DAGSTER)


@contextmanager
def served(app):
    """The address at which an application is served, by a server of its own."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="on"))
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
