"""From an event published over HTTP to the read that knows it, while others come at a steady rate.

Server of features, flow, Redis, publisher and reader are processes of their own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import msgspec

from benchmarks.results import Result, row
from benchmarks.stream import RATE, deployment, environment, latency, probed, publish
from feature_store import Settings

API = "BENCHMARK_API"


def rows() -> list[Result]:
    """From just before a request with fifty events is sent to the first read that knows them."""
    with deployment("benchmarks.stream:probed", probed) as (_, _, settings), taking_events(settings):
        name, p99_ms = latency("HTTP: published to visible", "benchmarks.publishing", settings, rate=RATE)
    return [row(name, p99_ms, "ms", limit=150.0)]


@contextmanager
def taking_events(settings: Settings) -> Iterator[None]:
    """An API that takes events, named by the environment."""
    with ExitStack() as ending:
        listening = ending.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        process = subprocess.Popen(
            [sys.executable, "-m", "feature_store.serving.worker", str(listening.fileno()), "0", "keys-as-made"],
            pass_fds=[listening.fileno()],
            env=environment(settings) | {"FEATURE_STORE_API_PUBLISH": "true"},
            stdin=subprocess.PIPE,
        )
        ending.callback(process.wait)
        ending.callback(process.terminate)
        os.environ[API] = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ending.callback(os.environ.pop, API)
        _await_ready(process)
        yield


def _await_ready(process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("the server has ended")
        if httpx.get(f"{os.environ[API]}/ready").status_code == httpx.codes.OK:
            return
        time.sleep(0.1)
    raise SystemExit("the server is not ready after a minute")


def main() -> None:
    """Publish over HTTP, one request after the other."""
    with httpx.Client(base_url=os.environ[API], headers={"content-type": "application/json"}) as client:

        def send(batch: list[dict[str, object]]) -> None:
            body = msgspec.json.encode({"events": batch})
            client.post("/v1/sources/clicks/events", content=body).raise_for_status()

        publish(send, rate=RATE)


if __name__ == "__main__":
    main()
