"""The gRPC API against a bare `grpc.aio` handler that fetches the same bytes: the rate at full load, latency at half of it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grpc

from benchmarks.http import TEXT, asking_for_keys, p99_ms
from benchmarks.load import GrpcConnection, Load
from benchmarks.reader import ENTITIES, ENV, served
from benchmarks.results import Result, median, row
from feature_store.serving.grpc.v1 import features_pb2

CONNECTIONS = 8
TURN_S, TURNS = 2.0, 5
METHOD = "/{}/GetFeatures".format(features_pb2.DESCRIPTOR.services_by_name["FeatureStore"].full_name)
KEY = (("authorization", f"Bearer {TEXT}"),)


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        served() as (client, url),
        asking_for_keys(client),
        running("feature_store.serving.worker", "{fd}", "0", "keys-required", "{grpc}", url=url) as ours,
        running("benchmarks.bare_grpc", url, "{grpc}", url=url) as bare,
    ):
        return list(_rows(ours, bare))


def _rows(ours: Load, bare: Load) -> Iterator[Result]:
    turns = [(ours.rate(TURN_S), bare.rate(TURN_S)) for _ in range(TURNS)]
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
    p99, its = p99_ms(ours, bare, per_s=mine / 2)
    yield row("gRPC: 1 entity at half of that rate, p99", p99, "ms", floor=its, limit=5.0, absolute=True)


@contextmanager
def running(module: str, *arguments: str, url: str) -> Iterator[Load]:
    """A server in a process of its own; yields a load of its gRPC API."""
    with ExitStack() as ending:
        listening = ending.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = f"127.0.0.1:{port}"
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
        load = Load(partial(GrpcConnection, port, METHOD, KEY), CONNECTIONS, made_requests())
        load.paced(200, 2.0)  # it is warm
        yield load


def made_requests() -> list[bytes]:
    """Requests for one entity each, as they go over the wire."""
    draw = random.Random(7)
    keys = [str(draw.randrange(ENTITIES)) for _ in range(500)]
    made = (
        features_pb2.GetFeaturesRequest(service="one", keys={"airport": features_pb2.Value(string_value=key)})
        for key in keys
    )
    return [request.SerializeToString() for request in made]
