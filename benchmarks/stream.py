"""The stream: events a second against raw writes and against Bytewax's own windows, and from published to visible.

The flow is the real one, a process of its own (two, for two workers); so are server, publisher and reader.
"""

from __future__ import annotations

import dataclasses
import json as stdlib_json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series
from redis import Redis

from benchmarks.results import Result, median, row
from feature_store import (
    Entity,
    EventSource,
    FeatureReader,
    FeatureStore,
    FeatureView,
    Registry,
    Settings,
    agg,
    redis_stream,
)
from feature_store.declare.feature import FeatureSpec
from feature_store.embedded import EmbeddedValkey
from feature_store.log.binding import open_log
from feature_store.log.protocol import EventLog, Record
from feature_store.online.ready import read_ready

ENV = "bench"
BATCH = 1000
EVENTS, REPETITIONS = 100_000, 3
WINDOW_EVENTS = 3_000
RATE, SECONDS, WARM_UP_S = 5_000, 12, 3
USERS, PROBES = 20_000, 20
PUBLISH_EVERY_S = 0.01


class Click(pa.DataFrameModel):
    uid: Series[str]
    user: Series[str]
    at: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    amount: Series[float] = pa.Field(ge=0)
    seq: Series[pd.Int64Dtype] = pa.Field(nullable=True)


clicks = EventSource("clicks", schema=Click, event_time="at", event_id="uid", log=redis_stream("clicks"))
user = Entity("user", join_keys=["user"])
SIX = [agg.count(over=["1h", "24h"]), agg.mean("amount", over=["1h", "24h"]), agg.max("amount", over=["1h", "24h"])]


def activity(source: EventSource, *more: FeatureSpec) -> Registry:
    """The view of all measurements over a source."""
    return Registry(views=[FeatureView("activity", entity=user, source=source, features=[*SIX, *more])])


SEQ, PARTITIONS = agg.last("seq", over="1h"), 4
many_clicks = dataclasses.replace(clicks, log=redis_stream("clicks", partitions=PARTITIONS))
registry, probed, spread = activity(clicks), activity(clicks, SEQ), activity(many_clicks)


def rows() -> list[Result]:
    """All measurements of this file."""
    return [*throughput_rows(), scaling_row(), latency_row()]


@contextmanager
def deployment(
    declarations: str, declared: Registry, *, workers: int = 1
) -> Iterator[tuple[Redis, subprocess.Popen[bytes], Settings]]:
    """A server and a running flow of some processes, the leader of a group of its own, that has caught up."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory) / "valkey") as server:
        settings = Settings(
            home=Path(directory),
            redis_url=server.url,
            environment=ENV,
            declarations=declarations,
            workers=workers,
        )
        with FeatureStore(declared, settings=settings) as store:
            store.apply()
        client = Redis.from_url(server.url)
        with (Path(directory) / "flow.log").open("wb") as log:
            flow = subprocess.Popen(
                [sys.executable, "-m", "feature_store_deploy.streams", "flow"],
                env=environment(settings),
                stdout=log,
                stderr=log,
                process_group=0,  # the workers with it
            )
        try:
            while len(read_ready(client, ENV)) < workers:
                if flow.poll() is not None:
                    raise RuntimeError((Path(directory) / "flow.log").read_text())
                time.sleep(0.02)
            yield client, flow, settings
        finally:
            if flow.poll() is None:
                os.killpg(flow.pid, signal.SIGKILL)
            flow.wait()
            client.close()


def environment(settings: Settings) -> dict[str, str]:
    given = settings.model_dump(include={"home", "redis_url", "environment", "declarations", "workers"})
    return os.environ | {f"FEATURE_STORE_{name.upper()}": str(value) for name, value in given.items()}


# ---- throughput


def throughput_rows() -> list[Result]:
    """A backlog of events, each of an entity of its own: from the flow's waking up to the last value acknowledged."""
    with deployment("benchmarks.stream:registry", registry) as (client, flow, _):
        log = open_log(client, ENV, clicks)
        ours, raw = [], []
        for number in range(REPETITIONS):
            ours.append(EVENTS / seconds_for_backlog(client, flow, log, name=f"r{number}"))
            raw.append(raw_rate(client, f"r{number}"))
    theirs = bytewax_rate()
    return [
        row(
            "stream: unique entities, six windowed features, one worker",
            median(ours),
            "events/s",
            floor=median(raw),
            ratio=median([a / b for a, b in zip(ours, raw, strict=True)]),
            limit=0.5,
            at_least=True,
        ),
        row(
            "stream: against the same features by Bytewax's window operators",
            median(ours),
            "events/s",
            floor=theirs,
            limit=10.0,
            at_least=True,
        ),
    ]


def scaling_row() -> Result:
    """The same backlog in several partitions: by two workers, against one."""
    one, two = rate_of_workers(1), rate_of_workers(2)
    name = f"stream: the same in {PARTITIONS} partitions, two workers against one"
    return row(name, two, "events/s", floor=one, limit=1.0, at_least=True)


def rate_of_workers(workers: int) -> float:
    """Events a second, the median of the repetitions."""
    with deployment("benchmarks.stream:spread", spread, workers=workers) as (client, flow, _):
        log = open_log(client, ENV, many_clicks)
        return median([EVENTS / seconds_for_backlog(client, flow, log, name=f"r{n}") for n in range(REPETITIONS)])


def events(name: str, count: int) -> list[dict[str, object]]:
    draw, now = random.Random(3), datetime.now(UTC)
    return [
        {"uid": f"{name}-{n}", "user": f"{name}u{n}", "at": now, "amount": round(draw.uniform(0, 100), 2), "seq": n}
        for n in range(count)
    ]


def records(some: Sequence[dict[str, object]]) -> list[Record]:
    encode, arrived_us = msgspec.json.Encoder().encode, time.time_ns() // 1000
    return [Record(str(event["uid"]), encode(event), arrived_us) for event in some]


def seconds_for_backlog(client: Redis, flow: subprocess.Popen[bytes], log: EventLog, *, name: str) -> float:
    """Stop the flow, fill the log, and let it work."""
    os.killpg(flow.pid, signal.SIGSTOP)
    log.publish(records(events(name, EVENTS)))
    ends = {partition: log.end(partition) for partition in range(log.partitions)}
    began = time.perf_counter()
    os.killpg(flow.pid, signal.SIGCONT)
    while any(record.positions["clicks"] != ends for record in read_ready(client, ENV).values()):
        time.sleep(0.005)
        if flow.poll() is not None:
            raise RuntimeError("the flow has ended")
    return time.perf_counter() - began


def raw_rate(client: Redis, name: str) -> float:
    """The same bytes written again under other keys by a redis-py pipeline: one field, one `HSETEX` each."""
    pipeline = client.pipeline(transaction=False)
    keys = [f"features:{ENV}:{{user:{name}u{n}}}" for n in range(EVENTS)]
    for key in keys:
        pipeline.hget(key, "activity@1")
    values = pipeline.execute()
    if None in values:
        raise RuntimeError(f"{values.count(None)} entities have no value")
    began = time.perf_counter()
    for start in range(0, EVENTS, BATCH):
        for key, value in zip(keys[start : start + BATCH], values[start : start + BATCH], strict=True):
            command = ("HSETEX", f"raw{key}", "PX", 86_400_000, "FIELDS", 1, "activity@1", value)
            pipeline.execute_command(*command)
        pipeline.execute()
    seconds = time.perf_counter() - began
    for start in range(0, EVENTS, BATCH):
        client.unlink(*(f"raw{key}" for key in keys[start : start + BATCH]))
    return EVENTS / seconds


def bytewax_rate() -> float:
    """Events a second by `bytewax.operators.windowing`, in a process of its own; the median of three."""
    command = [sys.executable, "-m", "benchmarks.bytewax_windows", str(WINDOW_EVENTS)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    return median([float(printed.splitlines()[-1]) for printed in runs])


# ---- latency


def latency_row() -> Result:
    """From just before an event is published to the first read that knows it, while 5,000 others come each second."""
    with deployment("benchmarks.stream:probed", probed) as (_, _, settings):
        name, p99_ms = latency("stream: published to visible", "benchmarks.stream", settings, rate=RATE)
    return row(name, p99_ms, "ms", limit=250.0)


def latency(title: str, module: str, settings: Settings, *, rate: int) -> tuple[str, float]:
    """The name of a row and its p99 in ms; the module publishes when told to, by `publish`."""
    sent, timings = timed(module, settings)
    took = [ms for _, ms in timings]
    return f"{title}, at {rate_of(sent, rate=rate):,.0f} events/s, p99 (p50 {median(took):.0f} ms)", p99(took)


def timed(module: str, settings: Settings, *, seconds: int = SECONDS) -> tuple[list[int], list[tuple[int, float]]]:
    """When each probe's event was published, in us, and of those after the warm-up how many ms it took to be read."""
    command = [sys.executable, "-m", module, "publish", settings.redis_url]
    publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        seen = watch(settings.redis_url, publisher, seconds=seconds)
        printed, _ = publisher.communicate(timeout=30)
    finally:
        publisher.kill()
        publisher.wait()
    sent: list[int] = stdlib_json.loads(printed)
    return sent, latencies_ms(sent, seen)


def rate_of(sent_us: Sequence[int], *, rate: int = RATE) -> float:
    """The events a second that were reached."""
    return len(sent_us) * rate * PUBLISH_EVERY_S / ((sent_us[-1] - sent_us[0]) / 1e6)


def p99(took: Sequence[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def latencies_ms(sent_us: Sequence[int], seen: dict[int, list[tuple[int, int]]]) -> list[tuple[int, float]]:
    """Per event of a probe, when it was published and the time to the first read that knew it or a later one of the probe."""
    took = []
    for probe, reads in seen.items():
        coming = iter(reads)
        read = next(coming, None)
        for number in range(probe, len(sent_us), PROBES):
            while read is not None and read[0] < number:
                read = next(coming, None)
            if read is not None and sent_us[number] - sent_us[0] >= WARM_UP_S * 1_000_000:
                took.append((sent_us[number], (read[1] - sent_us[number]) / 1000))
    return took


def watch(url: str, publisher: subprocess.Popen[str], *, seconds: int) -> dict[int, list[tuple[int, int]]]:
    """Per probe, each new event that a read knew, and when the read had returned."""
    seen: dict[int, list[tuple[int, int]]] = {probe: [] for probe in range(PROBES)}
    known = dict.fromkeys(seen, -1)
    requests = [{"user": f"probe{probe}"} for probe in seen]
    end = time.monotonic() + seconds + 15
    with FeatureReader(url, env=ENV) as reader:
        while time.monotonic() < end and max(known.values()) < seconds / PUBLISH_EVERY_S - 1:
            if publisher.poll() is not None and time.monotonic() < end - 13:
                end = time.monotonic() + 2
            vectors = reader.get_online_features_batch(["activity:seq_last_1h"], requests)
            now_us = time.time_ns() // 1000
            for probe, vector in enumerate(vectors):
                value = vector.values[0]
                if isinstance(value, int) and value > known[probe]:
                    known[probe] = value
                    seen[probe].append((value, now_us))
            time.sleep(0.001)
    return seen


def publish_directly(url: str, source: EventSource, *, rate: int, seconds: int = SECONDS) -> None:
    """Publish to the log of a source, as `publish` says."""
    with Redis.from_url(url) as client:
        log = open_log(client, ENV, source)
        publish(lambda batch: log.publish(records(batch)), rate=rate, seconds=seconds)


def publish(send: Callable[[list[dict[str, object]]], object], *, rate: int, seconds: int = SECONDS) -> None:
    """Send events at a steady rate; prints when each probe's event was published."""
    draw, size = random.Random(5), int(rate * PUBLISH_EVERY_S)
    sent: list[int] = []
    began = time.perf_counter()
    for tick in range(int(seconds / PUBLISH_EVERY_S)):
        time.sleep(max(0.0, began + tick * PUBLISH_EVERY_S - time.perf_counter()))
        now = datetime.now(UTC)
        batch: list[dict[str, object]] = [
            {"uid": f"{tick}-{n}", "user": f"u{draw.randrange(USERS)}", "at": now, "amount": 1.5, "seq": None}
            for n in range(size - 1)
        ]
        batch.append({"uid": f"p{tick}", "user": f"probe{tick % PROBES}", "at": now, "amount": 1.0, "seq": tick})
        sent.append(time.time_ns() // 1000)
        send(batch)
    print(stdlib_json.dumps(sent))


if __name__ == "__main__":
    if sys.argv[1:2] == ["publish"]:
        publish_directly(sys.argv[2], clicks, rate=RATE)
    else:
        for line in rows():
            print(line)
