"""Beginning again: how long a run takes to build its state and take over, how fast an emptied store and a backlog are
written, and what the check of the owner costs a write.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks.results import Result, median, row
from benchmarks.stream import ENV, events, records, registry
from feature_store import FeatureStore, Settings
from feature_store.embedded import EmbeddedValkey
from feature_store.fold.run import LocalStream
from feature_store.online.fence import Fence
from feature_store.online.keys import features_key
from feature_store.online.owner import take_over
from feature_store.online.writer import OnlineWriter, Write
from feature_store.time_rule import to_us

TILES = (1_000_000, 10_000_000)
TILES_OF_EVENT, EVENTS_OF_ENTITY = 2, 10
BACKLOG, VALUES, REPETITIONS = 100_000, 50_000, 5


def rows(tiles: Sequence[int] = TILES) -> list[Result]:
    """All measurements of this file."""
    found = [fence_row()]
    for count in tiles:
        found += recovery_rows(count)
    return found


@contextmanager
def deployment() -> Iterator[FeatureStore]:
    """A store with a server of its own."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory) / "valkey") as server:
        settings = Settings(home=Path(directory), redis_url=server.url, environment=ENV)
        with FeatureStore(registry, settings=settings) as store:
            store.apply()
            yield store


def fence_row() -> Result:
    """Writes of a run that the server checks against writes that nobody checks, in turns."""
    with deployment() as store:
        owner = take_over(store.redis, ENV, 1, shards=1)
        free = OnlineWriter(store.redis, ENV)
        fenced = OnlineWriter(store.redis, ENV, fence=Fence(ENV, owner, 0))
        writes = [
            Write(features_key(ENV, "user", f"u{n}"), "activity@1", b"v" * 150, 86_400_000) for n in range(VALUES)
        ]
        rates = [(_rate(free, writes), _rate(fenced, writes)) for _ in range(REPETITIONS)]
    without, checked = (median([rate[side] for rate in rates[1:]]) for side in (0, 1))
    return row(
        "recovery: checked writes against unchecked ones", checked, "values/s", floor=without, limit=0.9, at_least=True
    )


def _rate(writer: OnlineWriter, writes: Sequence[Write]) -> float:
    began = time.perf_counter()
    writer.write(writes)
    return len(writes) / (time.perf_counter() - began)


def recovery_rows(tiles: int) -> list[Result]:
    """A run that begins with so many tiles in the windows, an emptied store, a backlog."""
    size = f"{tiles / 1e6:g} M tiles"
    with deployment() as store:
        entities = _load(store, tiles // TILES_OF_EVENT)
        began = time.perf_counter()
        stream = LocalStream(store.compiled, store.lake, store.redis, env=ENV, clock=store.clock)
        built_s = time.perf_counter() - began
        stream.step()
        ready_s = time.perf_counter() - began
        store.redis.flushall()
        began = time.perf_counter()
        stream.step()
        emptied_s = time.perf_counter() - began
        store.log("clicks").publish(records(events("backlog", BACKLOG)))
        began = time.perf_counter()
        stream.step()
        backlog_s = time.perf_counter() - began
    scale = tiles / 1_000_000
    return [
        row(f"recovery: state of {size} from the lake", built_s, "s", limit=12.0 * scale),
        row(
            f"recovery: until all {entities:,} entities are written and vouched for, {size}",
            ready_s,
            "s",
            limit=25.0 * scale,
        ),
        row(f"recovery: an emptied store, {size}", entities / emptied_s, "entities/s", limit=10_000, at_least=True),
        row(f"recovery: a backlog, {size}", BACKLOG / backlog_s, "events/s", limit=10_000, at_least=True),
    ]


def _load(store: FeatureStore, count: int) -> int:
    """History of the last day, each event in tiles of its own; returns how many entities it has."""
    draw, now = random.Random(7), datetime.now(UTC)
    entities = count // EVENTS_OF_ENTITY
    store.lake.ensure_source("clicks", store.compiled.schemas["clicks"])
    steps = [timedelta(minutes=130 * n) for n in range(EVENTS_OF_ENTITY)]
    at = [now - timedelta(minutes=5) - step for step in steps for _ in range(entities)]
    table = pa.table(
        {
            "uid": [f"h{n}" for n in range(len(at))],
            "user": [f"u{n % entities}" for n in range(len(at))],
            "at": pa.array(at, type=pa.timestamp("us", "UTC")),
            "amount": [draw.uniform(0, 100) for _ in at],
            "seq": pa.nulls(len(at), pa.int64()),
            "_event_id": [f"h{n}" for n in range(len(at))],
            "_event_us": [to_us(time_) for time_ in at],
        }
    )
    store.lake.replace_loaded("clicks", table, days=sorted({time_.date() for time_ in at}))
    return entities
