"""What a reader notices of a running flow that takes in a new view: it builds beside the one that serves, and takes over."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from benchmarks.results import Result, median, row
from benchmarks.stream import ENV, RATE, clicks, deployment, p99, probed, publish_directly, rate_of, timed, user
from feature_store import FeatureStore, FeatureView, Registry, Settings, agg
from feature_store.online.owner import read_owner

SECONDS, APPLY_AT_S = 40, 10
MODULE = "handed_over"

amounts = FeatureView("amounts", entity=user, source=clicks, features=[agg.max("amount", over="1h")])
grown = Registry(views=[*probed.views, amounts])


def rows() -> list[Result]:
    """All measurements of this file."""
    with declared() as file, deployment(f"{MODULE}:registry", probed) as (client, _, settings):
        taken_over_us: list[int] = []
        change = threading.Timer(APPLY_AT_S, lambda: taken_over_us.append(grow(file, settings, client)))
        change.start()
        sent, took = timed("benchmarks.handover", settings, seconds=SECONDS)
        change.join()
    applied_us = sent[0] + APPLY_AT_S * 1_000_000
    if not taken_over_us or taken_over_us[0] > sent[-1]:
        raise RuntimeError("the successor did not take over while events came")
    before = [ms for at, ms in took if at < applied_us]
    during = [ms for at, ms in took if at >= applied_us]
    name = (
        f"handover: a view more, at {rate_of(sent):,.0f} events/s: published to visible in the other, p99 "
        f"(p50 {median(during):.0f} ms, longest {max(during):.0f} ms; p99 before {p99(before):.0f} ms)"
    )
    return [row(name, p99(during), "ms", limit=250.0)]


@contextmanager
def declared() -> Iterator[Path]:
    """A module with the declarations, where the flow and its successor find it."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = folder
        file = Path(folder) / f"{MODULE}.py"
        file.write_text("from benchmarks.stream import probed as registry\n")
        try:
            yield file
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def grow(file: Path, settings: Settings, client: Redis) -> int:
    """Declare one view more, and apply it; returns when the successor had taken over, in microseconds."""
    file.write_text("from benchmarks.handover import grown as registry\n")
    with FeatureStore(grown, settings=settings) as store:
        store.apply()
    end_s = time.monotonic() + SECONDS
    while (owner := read_owner(client, ENV)) is None or owner.run < 2:
        if time.monotonic() > end_s:
            raise RuntimeError("no successor has taken over")
        time.sleep(0.05)
    return time.time_ns() // 1000


if __name__ == "__main__":
    publish_directly(sys.argv[2], clicks, rate=RATE, seconds=SECONDS)
