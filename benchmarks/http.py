"""The HTTP API against a bare ASGI handler that fetches the same bytes: rates at full load, latency at half of it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import msgspec
from redis import Redis

from benchmarks.load import HttpConnection, Load
from benchmarks.reader import ENTITIES, ENV, at, served
from benchmarks.results import Result, median, row
from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key
from feature_store.online.keys import access_key

CONNECTIONS = 16
TURN_S, TURNS = 2.0, 7
PATHS = {1: "/v1/services/one/features", 100: "/v1/services/one/features/batch"}
LATENCY_S, LATENCY_TURNS = 10.0, 5
_KEY, TEXT = make_key("the load", Grants(services=("one",)), now_us=0, by="the benchmark")


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        served() as (client, url),
        asking_for_keys(client),
        running("feature_store.serving.worker", "{fd}", "0", "keys-required", url=url) as ours,
        running("benchmarks.bare_http", url, "{fd}", url=url) as bare,
    ):
        return list(_rows(ours.port, bare.port))


def _rows(ours: int, bare: int) -> Iterator[Result]:
    rates: dict[int, float] = {}
    for entities in (1, 100):
        requests = made_requests(PATHS[entities], entities)
        turns = [(load(ours, requests).rate(TURN_S), load(bare, requests).rate(TURN_S)) for _ in range(TURNS)]
        rates[entities] = median([mine for mine, _ in turns])
        ratio = median([mine / its for mine, its in turns])
        name = f"HTTP: {entities} {'entity' if entities == 1 else 'entities'} x 10 features, one worker"
        limit = 0.6 if entities == 1 else 0.3
        yield row(
            name,
            rates[entities],
            "requests/s",
            floor=median([its for _, its in turns]),
            ratio=ratio,
            limit=limit,
            at_least=True,
        )
    requests = made_requests(PATHS[1], 1)
    mine, its = p99_ms(load(ours, requests), load(bare, requests), per_s=rates[1] / 2)
    yield row("HTTP: 1 entity at half of that rate, p99", mine, "ms", floor=its, limit=5.0, absolute=True)


def p99_ms(ours: Load, bare: Load, *, per_s: float) -> tuple[float, float]:
    """The p99 at a fixed rate of both, which take turns: the median of the turns."""
    mine, its = list[float](), list[float]()
    for _ in range(LATENCY_TURNS):
        mine.append(at(ours.paced(per_s, LATENCY_S), 0.99) / 1000)
        its.append(at(bare.paced(per_s, LATENCY_S), 0.99) / 1000)
    return median(mine), median(its)


def load(port: int, requests: Sequence[bytes]) -> Load:
    """The load of a server."""
    return Load(partial(HttpConnection, port), CONNECTIONS, requests)


@contextmanager
def asking_for_keys(client: Redis) -> Iterator[None]:
    """The key of all requests is known to the server."""
    client.set(access_key(ENV), encode_keyring(Keyring().with_key(_KEY)))
    yield


class Server(NamedTuple):
    """A process that answers on a port."""

    port: int
    pid: int


@contextmanager
def running(module: str, *arguments: str, url: str) -> Iterator[Server]:
    """A server in a process of its own."""
    with ExitStack() as ending:
        listening = ending.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        environment = os.environ | {"FEATURE_STORE_REDIS_URL": url, "FEATURE_STORE_ENVIRONMENT": ENV}
        command = [each.format(fd=listening.fileno()) for each in arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", module, *command],
            pass_fds=[listening.fileno()],
            env=environment,
            stdin=subprocess.PIPE,
        )
        ending.callback(process.wait)
        ending.callback(process.terminate)
        port = listening.getsockname()[1]
        load(port, made_requests(PATHS[1], 1)).paced(200, 2.0)  # it is up, and warm
        yield Server(port, process.pid)


def made_requests(path: str, entities: int) -> list[bytes]:
    """Requests as they go over the wire."""
    draw, found = random.Random(7), []
    for _ in range(500):
        keys = [{"airport": str(draw.randrange(ENTITIES))} for _ in range(entities)]
        body = msgspec.json.encode({"keys": keys[0]} if entities == 1 else {"rows": keys})
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        head += f"Authorization: Bearer {TEXT}\r\n\r\n"
        found.append(head.encode() + body)
    return found
