"""The catalog of two thousand features in a real browser: from a key to what was found being painted."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from benchmarks.browser import NO_BROWSER, PROGRAM, running_browser
from benchmarks.results import Result, row
from feature_store import Entity, EventSource, FeatureService, FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.catalog.document import DECLARED
from feature_store.embedded import EmbeddedValkey, free_port
from feature_store.online.keys import catalog_key

ENV = "bench"
VIEWS, WINDOWS, SERVICES = 100, 20, 10
TYPED = ("order", "late customer", "view_7", "team", "feature mean", "zzz", "average amount of an order", "a")
ROUNDS = 5
LIMIT_MS = 50.0
WORDS = [
    "customer",
    "order",
    "late",
    "amount",
    "average",
    "count",
    "payment",
    "delivery",
    "share",
    "country",
    "night",
    "shop",
    "first",
    "last",
    "return",
    "week",
    "price",
    "basket",
    "visit",
    "device",
    "merchant",
    "route",
    "minute",
    "delay",
]


class Order(pa.DataFrameModel):
    """The events."""

    order_id: str
    customer: str
    amount: float
    at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def rows() -> list[Result]:
    """All measurements of this file; none without a browser."""
    if PROGRAM is None:
        print(NO_BROWSER, file=sys.stderr)
        return []
    with deployment() as (address, stored):
        taken = sorted(typed(address))
    count = f"{VIEWS * WINDOWS:,} features"
    return [
        row(f"search over {count}, key to painted, p50", taken[len(taken) // 2], "ms", limit=LIMIT_MS),
        row(f"search over {count}, key to painted, p99", taken[int(len(taken) * 0.99)], "ms", limit=LIMIT_MS),
        row(f"catalog of {count} in Redis", stored / 1e3, "kB", limit=200.0),
    ]


def registry() -> Registry:
    """Views of twenty windows each, with a sentence for everything."""
    chance = random.Random(7)

    def sentence() -> str:
        return " ".join(chance.choices(WORDS, k=9))

    customer = Entity("customer", join_keys=["customer"], description=sentence())
    orders = EventSource(
        "orders", schema=Order, event_time="at", event_id="order_id", description=sentence(), owner="team:shop"
    )
    views = [
        FeatureView(
            f"view_{n}",
            entity=customer,
            source=orders,
            owner=f"team:{chance.choice(WORDS)}",
            description=sentence(),
            features=[
                agg.mean("amount", over=f"{hours}h", hop="1h", name=f"mean_{n}_{hours}h", description=sentence())
                for hours in range(1, WINDOWS + 1)
            ],
        )
        for n in range(VIEWS)
    ]
    services = [
        FeatureService(f"model_{n}", features=views[n::SERVICES], owner="team:models", description=sentence())
        for n in range(SERVICES)
    ]
    return Registry(views=views, services=services)


@contextmanager
def deployment() -> Iterator[tuple[str, int]]:
    """The catalog's address, served by a process of its own, and the bytes that it takes in Redis."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory) / "valkey") as server:
        settings = Settings(home=Path(directory), redis_url=server.url, environment=ENV)
        with FeatureStore(registry(), settings=settings) as store:
            store.apply()
            found = store.redis.hget(catalog_key(ENV), DECLARED)
        port = free_port()
        command = [sys.executable, "-m", "feature_store.serving"]
        variables = {
            "FEATURE_STORE_REDIS_URL": server.url,
            "FEATURE_STORE_ENVIRONMENT": ENV,
            "FEATURE_STORE_API_PORT": str(port),
        }
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield f"http://127.0.0.1:{port}/catalog", len(found or b"")
            finally:
                process.terminate()


def typed(address: str) -> list[float]:
    """Milliseconds for each key of some words, typed by hand, until the frame with the results was painted."""
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(address)
        page.wait_for_selector("main h1")
        page.evaluate(WATCH)
        for word in TYPED * ROUNDS:
            page.keyboard.press("Escape")
            page.keyboard.type(word, delay=60)
            page.wait_for_timeout(100)
        return [float(each) for each in page.evaluate("window.taken")]


WATCH = """() => {
  window.taken = [];
  document.getElementById("query").addEventListener("input", (event) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.taken.push(performance.now() - event.timeStamp);
      channel.port2.postMessage(null);
    });
  });
}"""
"""A message that is sent in a frame comes after the frame was painted."""
