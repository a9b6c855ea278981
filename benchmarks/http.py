"""The HTTP API against a bare ASGI handler that fetches the same bytes: rates at full load, latency at half of it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import msgspec
import uvloop
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
PATIENCE_S = 30.0
"""How long what is under way may take; a connection that the server closes is not answered."""
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
    taken = paced(ours, made_requests(PATHS[1], 1), per_s=rates[1] / 2, seconds=LATENCY_S)
    yield row("HTTP: 1 entity at half of that rate, p99", at(taken, 0.99) / 1000, "ms", limit=5.0)


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
        paced(port, made_requests(PATHS[1], 1), per_s=200, seconds=2.0)  # it is up, and warm
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


def rate(port: int, requests: Sequence[bytes]) -> float:
    """Answers a second, with a request under way on every connection all the time."""

    async def run() -> float:
        ended, counted = asyncio.get_running_loop().create_future(), 0
        connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
        began = time.perf_counter()

        def answered(connection: Connection) -> None:
            nonlocal counted
            counted += 1
            if time.perf_counter() < began + TURN_S:
                connection.ask(requests[counted % len(requests)], answered)
            elif not ended.done():
                ended.set_result(None)

        for number, connection in enumerate(connections):
            connection.ask(requests[number], answered)
        await asyncio.wait_for(ended, TURN_S + PATIENCE_S)
        taken = time.perf_counter() - began
        for connection in connections:
            connection.close()
        return counted / taken

    return uvloop.run(run())


def paced(port: int, requests: Sequence[bytes], *, per_s: float, seconds: float) -> list[float]:
    """Sorted durations in µs of requests that are due at a fixed rate, from when each was due: a late one counts as slow.

    Those that are due while every connection is taken wait for one.
    """

    async def run() -> list[float]:
        ended, taken = asyncio.get_running_loop().create_future(), list[float]()
        connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
        free, waiting, total = deque(connections), deque[float](), int(per_s * seconds)  # none idles until it is closed
        due_of: dict[Connection, float] = {}

        def send(connection: Connection, due: float) -> None:
            due_of[connection] = due
            connection.ask(requests[len(taken) % len(requests)], answered)

        def answered(connection: Connection) -> None:
            taken.append((time.perf_counter() - due_of[connection]) * 1e6)
            if waiting:
                send(connection, waiting.popleft())
            else:
                free.append(connection)
            if len(taken) == total:
                ended.set_result(None)

        began = time.perf_counter() + 0.1
        for number in range(total):
            due = began + number / per_s
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if free:
                send(free.popleft(), due)
            else:
                waiting.append(due)
        await asyncio.wait_for(ended, PATIENCE_S)
        for connection in connections:
            connection.close()
        return sorted(taken)

    return uvloop.run(run())


class Connection(asyncio.Protocol):
    """One connection that is kept open; a request at a time."""

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect; for a while also to a server that is about to start."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes, answered: Callable[[Connection], None]) -> None:
        """Send a request; `answered` is called when all of its answer is here."""
        self._got, self._answered = b"", answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            assert b" 200 " in head[:16], self._got
            self._answered(self)

    def close(self) -> None:
        """Close it."""
        self._transport.close()
