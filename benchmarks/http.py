"""The HTTP API against a bare ASGI handler that fetches the same bytes: rates at full load, latency at half of it."""

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

import msgspec
from redis import Redis

from benchmarks.reader import ENTITIES, ENV, at, served
from benchmarks.results import Result, median, row
from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key
from feature_store.online.keys import access_key

CONNECTIONS = 16
TURN_S, TURNS = 2.0, 7
PATHS = {1: "/v1/services/one/features", 100: "/v1/services/one/features/batch"}
LATENCY_S = 10.0
_KEY, TEXT = make_key("the load", Grants(services=("one",)), now_us=0, by="the benchmark")


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        served() as (client, url),
        asking_for_keys(client),
        running("feature_store.serving.worker", "{fd}", "0", "keys-required", url=url) as ours,
        running("benchmarks.bare_http", url, "{fd}", url=url) as bare,
    ):
        return list(_rows(ours, bare))


def _rows(ours: int, bare: int) -> Iterator[Result]:
    rates: dict[int, float] = {}
    for entities in (1, 100):
        requests = made_requests(PATHS[entities], entities)
        turns = [(rate(ours, requests), rate(bare, requests)) for _ in range(TURNS)]
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
    taken = asyncio.run(paced(ours, made_requests(PATHS[1], 1), per_s=rates[1] / 2, seconds=LATENCY_S))
    yield row("HTTP: 1 entity at half of that rate, p99", at(taken, 0.99) / 1000, "ms", limit=5.0)


@contextmanager
def asking_for_keys(client: Redis) -> Iterator[None]:
    """The key of all requests is known to the server."""
    client.set(access_key(ENV), encode_keyring(Keyring().with_key(_KEY)))
    yield


@contextmanager
def running(module: str, *arguments: str, url: str) -> Iterator[int]:
    """A server in a process of its own; yields its port."""
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
        asyncio.run(paced(port, made_requests(PATHS[1], 1), per_s=200, seconds=2.0))  # it is up, and warm
        yield port


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


def rate(port: int, requests: Sequence[bytes]) -> float:
    """Answers a second, with a request under way on every connection all the time."""

    async def run() -> float:
        until, counted = time.perf_counter() + TURN_S, 0

        async def ask(number: int) -> None:
            nonlocal counted
            connection = await Connection.open(port)
            while time.perf_counter() < until:
                await connection.ask(requests[(number + counted) % len(requests)])
                counted += 1
            connection.close()

        began = time.perf_counter()
        await asyncio.gather(*(ask(number) for number in range(CONNECTIONS)))
        return counted / (time.perf_counter() - began)

    return asyncio.run(run())


async def paced(port: int, requests: Sequence[bytes], *, per_s: float, seconds: float) -> list[float]:
    """Sorted durations in µs of requests that are due at a fixed rate, from when each was due: a late one counts as slow."""
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    began, total, taken = time.perf_counter() + 0.1, int(per_s * seconds), list[float]()

    async def ask(first: int) -> None:
        for number in range(first, total, CONNECTIONS):
            due = began + number / per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await connections[first].ask(requests[number % len(requests)])
            taken.append((time.perf_counter() - due) * 1e6)

    await asyncio.gather(*(ask(first) for first in range(CONNECTIONS)))
    for connection in connections:
        connection.close()
    return taken


class Connection(asyncio.Protocol):
    """One connection that is kept open; a request at a time."""

    def __init__(self) -> None:
        self._got = b""
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect; for a while also to a server that is about to start."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; done when all of its answer is here."""
        self._got, self._done = b"", asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            assert b" 200 " in head[:16], self._got
            if self._done is not None:
                self._done.set_result(None)

    def close(self) -> None:
        """Close it."""
        self._transport.close()
