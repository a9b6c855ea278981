"""What 500 views cost Dagster: `dagster definitions validate`, and a webserver until it answers what the asset graph asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.results import Result, row
from benchmarks.views_world import VIEWS
from feature_store.embedded import free_port

LIMIT_S, PATIENCE_S = 15.0, 300.0
GRAPH = """{ assetNodes { id assetKey { path } groupName description kinds owners { __typename } opVersion isPartitioned
    dependencyKeys { path } dependedByKeys { path } assetChecksOrError { ... on AssetChecks { checks { name } } } } }"""


def rows() -> Iterator[Result]:
    """All measurements of this file."""
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(Path(folder))
        yield row(f"{VIEWS} views: `dagster definitions validate`", _validated(environment), "s", limit=LIMIT_S)
        started, graph, assets = _answered(environment)
        yield row(
            f"{VIEWS} views: webserver until the asset graph is there ({assets} assets)", started, "s", limit=LIMIT_S
        )
        yield row(f"{VIEWS} views: the asset graph asked for again", graph, "s", limit=LIMIT_S)


def _environment(home: Path) -> Mapping[str, str]:
    from feature_store_deploy.stack.dagster import begin_books

    from feature_store import Settings

    return os.environ | {
        "DAGSTER_HOME": str(begin_books(Settings(home=home))),
        "FEATURE_STORE_HOME": str(home),
        "FEATURE_STORE_DECLARATIONS": "benchmarks.views_world:registry",
        "PYTHONWARNINGS": "ignore",
    }


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _validated(environment: Mapping[str, str]) -> float:
    begun = time.perf_counter()
    command = [_program("dagster"), "definitions", "validate", "-w", "workspace.yaml"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _answered(environment: Mapping[str, str]) -> tuple[float, float, int]:
    """Seconds from the start until the graph is there, seconds for it again, and how many assets it has."""
    port, begun = free_port(), time.perf_counter()
    command = [_program("dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (nodes := _asked(port)):
            if time.perf_counter() - begun > PATIENCE_S or process.poll() is not None:
                raise RuntimeError("the webserver does not answer")
            time.sleep(0.1)
        first, again = time.perf_counter() - begun, time.perf_counter()
        _asked(port)
        return first, time.perf_counter() - again, len(nodes)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _asked(port: int) -> list[object]:
    """The nodes of the graph; none before the code is loaded."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": GRAPH}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found = json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return []
    if "errors" in found:
        raise RuntimeError(found["errors"][0]["message"])
    nodes: list[object] = found["data"]["assetNodes"]
    return nodes
