"""A new project: seconds from `pip install` to the first vector that it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bare import EXTRAS, build_wheel, install
from benchmarks.results import Result, row
from feature_store.embedded import HOST, free_port
from feature_store.settings import PREFIX

PATIENCE_S = 180.0


def rows() -> list[Result]:
    """All measurements of this file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        took = walk(build_wheel(folder), folder)
    limits = {"install": 30.0, "init": 3.0, "up": 40.0, "publish": 5.0, "get": 5.0}
    steps = [row(f"new project: `{step}`", took[step], "s", limit=limit) for step, limit in limits.items()]
    return [row("`pip install` to the first served vector", sum(took.values()), "s", limit=60.0), *steps]


def walk(wheel: Path, folder: Path) -> Mapping[str, float]:
    """Step -> seconds, of the way that docs/project.md describes."""
    took, began = {}, time.perf_counter()
    install(folder / "bare", f"{wheel}[{EXTRAS}]")
    took["install"] = time.perf_counter() - began
    program, environment = folder / "bare" / "bin" / "feature-store", _environment()
    took["init"] = _timed([program, "init", "newcomer"], folder, environment)
    project, began = folder / "newcomer", time.perf_counter()
    with _stack(program, project, environment):
        took["up"] = time.perf_counter() - began
        took["publish"] = _timed([program, "publish", "payments", "-"], project, environment, given=_event())
        began = time.perf_counter()
        while not _served(program, project, environment):
            if time.perf_counter() - began > PATIENCE_S:
                raise RuntimeError("the event is not served")
        took["get"] = time.perf_counter() - began
    return took


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", PREFIX))}
    return kept | {
        f"{PREFIX}REDIS_URL": f"redis://{HOST}:{free_port()}/0",
        f"{PREFIX}UI_PORT": str(free_port()),
        f"{PREFIX}API_PORT": str(free_port()),
        f"{PREFIX}METRICS_PORT": str(free_port()),
    }


def _event() -> str:
    return json.dumps({"payment_id": "p9", "customer": "ada", "amount": 12.5, "paid_at": datetime.now(UTC).isoformat()})


def _timed(command: list[Path | str], folder: Path, environment: Mapping[str, str], given: str | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, input=given, text=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


@contextmanager
def _stack(program: Path, project: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """`feature-store up`, from its announcement on."""
    process = subprocess.Popen(
        [program, "up"], cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        if not any("The stack is up" in line for line in process.stdout or ()):
            raise RuntimeError("the stack does not come up")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def _served(program: Path, project: Path, environment: Mapping[str, str]) -> bool:
    """Whether the published event is in the vector."""
    command = [program, "get", "fraud", "customer=ada"]
    said = subprocess.run(command, cwd=project, env=environment, text=True, check=True, capture_output=True).stdout
    return any(line.split()[:3] == ["spending:count_1h", "1", "PRESENT"] for line in said.splitlines())
