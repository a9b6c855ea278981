"""Starts, watches and ends everything that the Procfile names."""

from __future__ import annotations

import http
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import honcho.manager
import redis
from feature_store_deploy.stack.console import Console
from feature_store_deploy.stack.example import example_command
from feature_store_deploy.stack.family import end_with_parent
from feature_store_deploy.stack.guard import API, DAGSTER, EXPORTER, VALKEY, check_ports, one_stack
from feature_store_deploy.stack.procfile import Procfile
from feature_store_deploy.stack.valkey import end_orphan, running_server, server_directory
from honcho.process import Process

from feature_store.embedded import HOST
from feature_store.errors import FeatureStoreError
from feature_store.online.address import connected
from feature_store.online.ready import read_ready
from feature_store.settings import PREFIX, Settings
from feature_store.store import FeatureStore
from feature_store.time_rule import SECOND_US

LOG_FILE = "stack.log"
FLOW = "streams flow"
_ENDING_S = 60
"""Longer than a supervisor needs to end its process the hard way."""
_POLL_S = 0.25
_BEAT_US = 5 * SECOND_US


def run(procfile: Procfile, settings: Settings, *, verbose: bool = False) -> int:
    """Run the stack until SIGINT or SIGTERM; returns the exit code, 0 if it ended because it was told to.

    Raises:
        SettingsError: a port is in use, another stack runs in this home, or the home cannot be written.
        FeatureStoreError: what the release line had to say stands on the terminal already.
    """
    with one_stack(settings):
        check_ports(procfile, settings)
        environment = _environment(settings)
        if procfile.release is not None:
            _release(procfile, settings, environment)
        console = Console(settings.home.absolute() / LOG_FILE, verbose=verbose)
        manager = _manager(procfile, console, environment)
        console.say(f"Starting {', '.join(procfile.processes)} ...")
        threading.Thread(target=_announce, args=(procfile, settings, console), daemon=True).start()
        manager.loop()
        if procfile.has(VALKEY):
            end_orphan(server_directory(settings))  # its wrapper may have been killed
        told = manager.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        console.say(
            "The stack has ended." if told else f"The stack has ended by itself; see {settings.home / LOG_FILE}"
        )
        return 0 if told else 1


def _environment(settings: Settings) -> dict[str, str]:
    """What every process is told: this Python's programs, this folder's modules, the same home."""
    folder = str(Path.cwd())
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        f"{PREFIX}HOME": str(settings.home.absolute()),
    }


def _release(procfile: Procfile, settings: Settings, environment: Mapping[str, str]) -> None:
    """Run the release line, with the server up."""
    if procfile.release is None:
        return
    with running_server(settings) if procfile.has(VALKEY) else nullcontext():
        code = subprocess.run(procfile.release, shell=True, env=environment, check=False).returncode  # noqa: S602
    if code < 0 or code > 128:
        raise KeyboardInterrupt
    if code:
        raise FeatureStoreError(f"the stack does not start: `{procfile.release}` ended with exit code {code}")


class _Process(Process):
    """A process of the manager whose reader ends with the manager, also when that is killed."""

    def run(self, events: multiprocessing.Queue[object] | None = None, ignore_signals: bool = False) -> None:
        end_with_parent(signal.SIGKILL)
        super().run(events, ignore_signals)


def _manager(procfile: Procfile, console: Console, environment: Mapping[str, str]) -> honcho.manager.Manager:
    honcho.manager.KILL_WAIT = _ENDING_S
    manager = honcho.manager.Manager(console)
    manager._process_ctor = _Process  # noqa: SLF001 - there is no other way to choose it
    for name, command in procfile.processes.items():
        # `exec`: the supervisor itself, not a shell, is the child that gets the signals.
        manager.add_process(name, f"exec {command}", env=dict(environment))
    return manager


def _announce(procfile: Procfile, settings: Settings, console: Console) -> None:
    """Say where everything is, once it answers."""
    began, began_us = time.perf_counter(), settings.clock.now_us()
    while not _answers(procfile, settings, since_us=began_us):
        time.sleep(_POLL_S)
    try:
        with FeatureStore(settings=settings) as store:
            example = example_command(store)
    except (FeatureStoreError, redis.RedisError) as error:
        example = f"feature-store get ... ({error})"
    lines = [f"The stack is up ({time.perf_counter() - began:.0f} s). Ctrl-C ends it."]
    if procfile.has(DAGSTER):
        lines.append(f"  web UI     http://{HOST}:{settings.ui_port}")
    if procfile.has(API):
        lines.append(f"  catalog    http://{HOST}:{settings.api_port}/catalog")
        lines.append(f"  HTTP API   http://{HOST}:{settings.api_port}/openapi.json")
    if procfile.has(API) and settings.api_grpc_port:
        lines.append(f"  gRPC API   {HOST}:{settings.api_grpc_port}")
    if procfile.has(EXPORTER):
        lines.append(f"  metrics    http://{HOST}:{settings.metrics_port}/metrics")
    lines += [
        f"  Redis      {settings.redis_url}",
        f"  features   {example}",
        "  status     feature-store status",
        f"  log        {settings.home / LOG_FILE}",
    ]
    console.say("\n".join(lines))


def _answers(procfile: Procfile, settings: Settings, *, since_us: int) -> bool:
    """Whether Redis, the flow, the HTTP API and the web UI do, as far as they are in the Procfile.

    A heartbeat of before `since_us` is that of an earlier flow, which Redis has kept.
    """
    pages = [(DAGSTER, settings.ui_port, "server_info"), (API, settings.api_port, "ready")]
    if not all(_serves(port, page) for module, port, page in pages if procfile.has(module)):
        return False
    try:
        with connected(settings.redis_url) as client:
            client.ping()
            if not any(FLOW in command for command in procfile.processes.values()):
                return True
            fresh_us = max(settings.clock.now_us() - _BEAT_US, since_us)
            ready = read_ready(client, settings.environment)
    except (redis.RedisError, OSError):
        return False
    shards = [ready.get(str(shard)) for shard in range(settings.workers)]
    return all(record is not None and record.caught_up and record.beat_us > fresh_us for record in shards)


def _serves(port: int, page: str) -> bool:
    """Whether a page is answered: what listens may not be ready yet."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/{page}", timeout=5) as answer:
            return bool(answer.status == http.HTTPStatus.OK)
    except OSError:
        return False
