"""Against Feast in an environment of its own, over the same Redis: its SDK against the reader, its server against the API."""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.http import PATHS, TURN_S, asking_for_keys, load, made_requests, running
from benchmarks.reader import ENV, at, served
from benchmarks.results import Result, median, row
from feature_store.reader import FeatureReader

RELEASE = "0.67.0"
ENTITIES = 10_000
TURNS, TURN_READS = {1: 20, 100: 4}, {1: 200, 100: 100}
"""By the number of entities: how often each side reads, and how many times in a row, as long as in `reader.py`."""
SERVER_TURNS = 3
SIDE = Path(__file__).with_name("feast_side.py")
AT_LEAST = {1: 4.0, 100: 12.0}
SERVER_AT_LEAST = {1: 4.0, 100: 20.0}


def rows() -> list[Result]:
    """All measurements of this file."""
    with tempfile.TemporaryDirectory() as directory, served() as (client, url), asking_for_keys(client):
        home = Path(directory)
        python = environment(home / "environment")
        with FeastSide(python, home, url) as feast:
            read = list(_read_rows(feast, url))
        with (
            feast_server(python, home) as theirs,
            running("feature_store.serving.worker", "{fd}", "0", "keys-required", url=url) as ours,
        ):
            return read + list(_server_rows(ours.port, theirs))


def environment(folder: Path) -> Path:
    """The Python of a new environment that has Feast."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"feast[redis]=={RELEASE}"], check=True)
    return python


def _read_rows(feast: FeastSide, url: str) -> Iterator[Result]:
    draw = random.Random(7)
    with FeatureReader(url, env=ENV) as reader:
        gc.collect()
        gc.freeze()  # as Feast's side does
        for entities, times in TURN_READS.items():
            mine, its = list[float](), list[float]()
            for turn in range(TURNS[entities] + 1):  # of which the first warms
                requests = [[{"airport": str(draw.randrange(ENTITIES))} for _ in range(entities)] for _ in range(times)]
                ours, theirs = timed(reader, requests), feast.read(entities, times)
                if turn:
                    mine += ours
                    its += theirs
            told = "1 entity" if entities == 1 else f"{entities} entities"
            yield row(
                f"reader against Feast's SDK: {told} x 10 features to dicts, at p50",
                1e6 / at(mine, 0.5),
                "reads/s",
                floor=1e6 / at(its, 0.5),
                limit=AT_LEAST[entities],
                at_least=True,
            )
        gc.unfreeze()


def timed(reader: FeatureReader, requests: Sequence[Sequence[dict[str, str]]]) -> list[float]:
    """Durations in µs."""
    taken = []
    for request in requests:
        began = time.perf_counter()
        found = [vector.to_dict() for vector in reader.get_online_features_batch("one", request)]
        taken.append((time.perf_counter() - began) * 1e6)
        assert len(found) == len(request)
    return taken


def _server_rows(ours: int, theirs: int) -> Iterator[Result]:
    for entities, limit in SERVER_AT_LEAST.items():
        mine, its = load(ours, made_requests(PATHS[entities], entities)), load(theirs, feast_requests(entities))
        turns = [(mine.rate(TURN_S), its.rate(TURN_S)) for _ in range(SERVER_TURNS + 1)][1:]
        told = "1 entity" if entities == 1 else f"{entities} entities"
        yield row(
            f"API against Feast's server: {told} x 10 features, one worker each",
            median([one for one, _ in turns]),
            "requests/s",
            floor=median([other for _, other in turns]),
            ratio=median([one / other for one, other in turns]),
            limit=limit,
            at_least=True,
        )


def feast_requests(entities: int) -> list[bytes]:
    """Requests of ten features, as they go over the wire."""
    draw, found = random.Random(7), []
    features = [f"view0:f{number}" for number in range(10)]
    for _ in range(500):
        keys = [str(draw.randrange(ENTITIES)) for _ in range(entities)]
        body = msgspec.json.encode({"features": features, "entities": {"airport": keys}})
        head = f"POST /get-online-features HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        found.append(head.encode() + body)
    return found


class FeastSide:
    """The process that reads by Feast's SDK."""

    def __init__(self, python: Path, home: Path, url: str) -> None:
        address = url.removeprefix("redis://").split("/")[0]
        command = [python, "-P", SIDE, home, address, str(ENTITIES)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_quiet()
        )

    def __enter__(self) -> Self:
        self._line(until="ready")
        return self

    def read(self, entities: int, times: int) -> list[float]:
        """Durations in µs of so many reads."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{entities} {times}\n")
        self._process.stdin.flush()
        return json.loads(self._line(until="["))

    def _line(self, *, until: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(until):
                return line
        raise SystemExit("Feast's process has ended")

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@contextmanager
def feast_server(python: Path, home: Path) -> Iterator[int]:
    """Feast's server with one worker that is never restarted and keeps no access log; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python.with_name("feast"), "-c", home, "serve", "-p", str(port), "-w", "1", "--no-access-log"]
    with ExitStack() as ending:
        log = ending.enter_context((home / "server.log").open("wb"))
        process = subprocess.Popen([*command, "--max-requests", "0"], stdout=log, stderr=log, env=_quiet())
        ending.callback(process.wait)
        ending.callback(process.terminate)
        for _ in range(300):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port


def _quiet() -> dict[str, str]:
    return os.environ | {"FEAST_USAGE": "False"}
