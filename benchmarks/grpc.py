"""The gRPC API against a bare `grpc.aio` handler that fetches the same bytes: the rate at full load, latency at half of it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import grpc
import uvloop

from benchmarks.http import TEXT, asking_for_keys
from benchmarks.reader import ENTITIES, ENV, at, served
from benchmarks.results import Result, median, row
from feature_store.serving.grpc.v1.features_pb2 import GetFeaturesRequest, Value
from feature_store.serving.grpc.v1.features_pb2_grpc import FeatureStoreStub

CHANNELS = 8
TURN_S, TURNS = 2.0, 5
KEY = (("authorization", f"Bearer {TEXT}"),)
LATENCY_S = 10.0


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        served() as (client, url),
        asking_for_keys(client),
        running("feature_store.serving.worker", "{fd}", "0", "keys-required", "{grpc}", url=url) as ours,
        running("benchmarks.bare_grpc", url, "{grpc}", url=url) as bare,
    ):
        return list(_rows(ours, bare))


def _rows(ours: str, bare: str) -> Iterator[Result]:
    requests = made_requests()
    turns = [(rate(ours, requests), rate(bare, requests)) for _ in range(TURNS)]
    mine = median([one for one, _ in turns])
    yield row(
        "gRPC: 1 entity x 10 features, one worker",
        mine,
        "requests/s",
        floor=median([other for _, other in turns]),
        ratio=median([one / other for one, other in turns]),
        limit=0.5,
        at_least=True,
    )
    taken = uvloop.run(paced(ours, requests, per_s=mine / 2, seconds=LATENCY_S))
    yield row("gRPC: 1 entity at half of that rate, p99", at(taken, 0.99) / 1000, "ms", limit=5.0)


@contextmanager
def running(module: str, *arguments: str, url: str) -> Iterator[str]:
    """A server in a process of its own; yields the address of its gRPC API."""
    with ExitStack() as ending:
        listening = ending.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        environment = os.environ | {"FEATURE_STORE_REDIS_URL": url, "FEATURE_STORE_ENVIRONMENT": ENV}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *(each.format(fd=listening.fileno(), grpc=address) for each in arguments)],
            pass_fds=[listening.fileno()],
            env=environment,
            stdin=subprocess.PIPE,
        )
        ending.callback(process.wait)
        ending.callback(process.terminate)
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(60)
        uvloop.run(paced(address, made_requests(), per_s=200, seconds=2.0))  # it is warm
        yield address


def made_requests() -> list[GetFeaturesRequest]:
    """Requests for one entity each."""
    draw = random.Random(7)
    keys = [str(draw.randrange(ENTITIES)) for _ in range(500)]
    return [GetFeaturesRequest(service="one", keys={"airport": Value(string_value=key)}) for key in keys]


def rate(address: str, requests: Sequence[GetFeaturesRequest]) -> float:
    """Answers a second, with a call under way on every channel all the time."""

    async def run() -> float:
        stubs, ending = await _stubs(address)
        began = time.perf_counter()
        until, counted = began + TURN_S, 0

        async def ask(number: int) -> None:
            nonlocal counted
            while time.perf_counter() < until:
                await stubs[number].GetFeatures(requests[(number + counted) % len(requests)], metadata=KEY)
                counted += 1

        await asyncio.gather(*(ask(number) for number in range(CHANNELS)))
        taken = time.perf_counter() - began
        await asyncio.gather(*(channel.close() for channel in ending))
        return counted / taken

    return uvloop.run(run())


async def paced(address: str, requests: Sequence[GetFeaturesRequest], *, per_s: float, seconds: float) -> list[float]:
    """Sorted durations in µs of calls that are due at a fixed rate, from when each was due: a late one counts as slow."""
    stubs, ending = await _stubs(address)
    began, total, taken = time.perf_counter() + 0.1, int(per_s * seconds), list[float]()

    async def ask(first: int) -> None:
        for number in range(first, total, CHANNELS):
            due = began + number / per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await stubs[first].GetFeatures(requests[number % len(requests)], metadata=KEY)
            taken.append((time.perf_counter() - due) * 1e6)

    await asyncio.gather(*(ask(first) for first in range(CHANNELS)))
    await asyncio.gather(*(channel.close() for channel in ending))
    return sorted(taken)


async def _stubs(address: str) -> tuple[list[FeatureStoreStub], list[grpc.aio.Channel]]:
    """Stubs with connections of their own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    return [FeatureStoreStub(channel) for channel in channels], channels
