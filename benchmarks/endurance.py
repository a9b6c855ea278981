"""Ten minutes of the HTTP API at seven tenths of what it can: an answer that is no 200 ends the measurement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.http import PATHS, TURN_S, Server, asking_for_keys, load, made_requests, running
from benchmarks.reader import at, served
from benchmarks.results import Result, median, row

MINUTES, MINUTE_S = 10, 60.0
SHARE = 0.7


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        served() as (client, url),
        asking_for_keys(client),
        running("feature_store.serving.worker", "{fd}", "0", "keys-required", url=url) as server,
    ):
        return list(_rows(server))


def _rows(server: Server) -> Iterator[Result]:
    asking = load(server.port, made_requests(PATHS[1], 1))
    per_s = SHARE * median([asking.rate(TURN_S) for _ in range(5)])
    p99s, resident = list[float](), list[float]()
    for _ in range(MINUTES):
        p99s.append(at(asking.paced(per_s, MINUTE_S), 0.99) / 1000)
        resident.append(resident_mb(server.pid))
    name = f"HTTP: {MINUTES} minutes at {per_s:,.0f} requests/s, p99 of the slowest minute over that of the median one"
    yield row(name, max(p99s), "ms", floor=median(p99s), limit=2.0)
    yield row("HTTP: resident after the last minute, beyond the first", resident[-1] - resident[0], "MB", limit=5.0)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
