"""A model service may run any newer Python: the wheel, with nothing but what it needs, reads under each that is here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absent import NO_OTHER_PYTHON
from online_world import World, departures, item, service

from benchmarks.bare import install

READ = """
import asyncio, importlib.metadata, json, sys
from feature_store import AsyncFeatureReader, FeatureReader
import redis, redis.asyncio

url, env = sys.argv[1:]
rows = [{"origin": "JFK"}, {"origin": "LGA"}]

def shown(vectors):
    return [[vector.to_dict(), [status.name for status in vector.statuses]] for vector in vectors]

async def awaited(given):
    async with AsyncFeatureReader(given, env=env) as reader:
        return shown(await reader.get_online_features_batch("delay", rows))

async def by_client():
    async with redis.asyncio.Redis.from_url(url) as client:
        return await awaited(client)

def blocking(given):
    with FeatureReader(given, env=env) as reader:
        return shown(reader.get_online_features_batch("delay", rows))

with redis.Redis.from_url(url) as client:
    read = [blocking(url), blocking(client), asyncio.run(awaited(url)), asyncio.run(by_client())]
installed = {found.name: found.metadata["Requires-Python"] for found in importlib.metadata.distributions()}
print(json.dumps([sys.version_info[:2], installed, read]))
"""


def others() -> dict[str, list[Path]]:
    """Version -> the programs of that name, of every newer Python that is somewhere on this machine."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    for managed in (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"):
        folders += sorted(managed.glob("*/bin"))
    found: dict[str, list[Path]] = {}
    for minor in range(11, 30):
        programs = [folder / f"python3.{minor}" for folder in folders if (folder / f"python3.{minor}").is_file()]
        if programs and minor != sys.version_info.minor:
            found[f"3.{minor}"] = programs
    return found


def runs(program: Path) -> bool:
    """Whether it is a Python, and no stand-in for one that is switched off."""
    return subprocess.run([program, "-c", "import venv"], capture_output=True, check=False).returncode == 0


NONE = pytest.param(
    "none", marks=pytest.mark.skip(reason=f"{NO_OTHER_PYTHON}: there is none from 3.11 on this machine")
)


@pytest.mark.parametrize("version", sorted(others()) or [NONE])
def test_the_wheel_is_installed_and_read_with_under_another_python(version, wheel, valkey, environment, tmp_path):
    program = next(filter(runs, others()[version]), None)
    if program is None:
        pytest.skip(f"{NO_OTHER_PYTHON}: no Python {version} on this machine runs")
    world = World(valkey.url, environment)
    world.clock.move_to(time.time_ns() // 1000)
    view = departures()
    world.publish(view, services=[service(item("departures", "count_1h"), item("departures", "mean_1h"))])
    world.put(view, "JFK", 3, 12.5, from_us=world.clock.at_us - 1_000_000)
    world.ready()

    install(tmp_path / "bare", str(wheel), python=program)
    command = [tmp_path / "bare" / "bin" / "python", "-W", "error", "-I", "-c", READ, world.url, world.env]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    world.client.close()

    assert done.returncode == 0, done.stderr
    said, installed, read = json.loads(done.stdout)
    assert f"{said[0]}.{said[1]}" == version
    assert sorted(installed) == ["feature-store", "hiredis", "msgspec", "redis"]
    assert not any("<" in wanted for wanted in installed.values())  # uv does not heed an upper bound, pip does
    right = [
        [{"departures:count_1h": 3, "departures:mean_1h": 12.5}, ["PRESENT", "PRESENT"]],
        [{"departures:count_1h": 0, "departures:mean_1h": None}, ["EMPTY", "EMPTY"]],
    ]
    assert read == [right] * 4
