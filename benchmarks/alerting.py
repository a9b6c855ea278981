"""From a stream that hangs, or is killed, to the alert at a receiver: a real flow, Dagster's real daemon, an HTTP server."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from feature_store_deploy.assets.instance import prepare_dagster_home

from benchmarks.results import Result, row
from benchmarks.stream import deployment, environment, probed
from feature_store import Settings

ROOT = Path(__file__).parent.parent
LIMIT_S = 60.0
PATIENCE_S = 240.0

Messages = queue.Queue[tuple[float, dict[str, object]]]


def rows() -> list[Result]:
    """All measurements of this file."""
    with (
        deployment("benchmarks.stream:probed", probed) as (_, flow, settings),
        receiver() as (url, messages),
        daemon(settings, url) as home,
    ):
        watched(home)
        hangs_s = told_after(lambda: os.killpg(flow.pid, signal.SIGSTOP), "failed", messages)
        told_after(lambda: os.killpg(flow.pid, signal.SIGCONT), "recovered", messages)
        dies_s = told_after(lambda: os.killpg(flow.pid, signal.SIGKILL), "failed", messages)
    return [
        row("alerting: from a stream that hangs to the alert at the receiver", hangs_s, "s", limit=LIMIT_S),
        row("alerting: from a stream that is killed to the alert at the receiver", dies_s, "s", limit=LIMIT_S),
    ]


@contextmanager
def receiver() -> Iterator[tuple[str, Messages]]:
    """A webhook, and what arrives there with its time."""
    messages: Messages = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.put((time.monotonic(), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", messages
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def daemon(settings: Settings, webhook_url: str) -> Iterator[Path]:
    """Dagster's daemon of a deployment; yields its home."""
    home = prepare_dagster_home(settings)
    given = {"FEATURE_STORE_ALERT_WEBHOOK_URL": webhook_url, "PYTHONPATH": str(ROOT)}
    log = settings.home / "daemon.log"
    command = [sys.executable, "-m", "feature_store_deploy.stack.dagster", "daemon"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=settings.home, env=environment(settings) | given, stdout=out, stderr=out
        )
        try:
            yield home
        except Exception as error:
            raise RuntimeError(log.read_text()[-4000:]) from error
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def watched(home: Path) -> None:
    """Wait until Dagster has seen the stream alive."""
    import dagster as dg

    wanted = dg.AssetCheckKey(dg.AssetKey(["bench", "stream", "clicks"]), "stream")
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            seen = instance.event_log_storage.get_asset_check_execution_history(wanted, limit=1)
        if seen and seen[0].status.value == "SUCCEEDED":
            return
        time.sleep(1)
    raise TimeoutError("the stream was not observed")


def told_after(act: Callable[[], object], state: str, messages: Messages) -> float:
    """Seconds from an act to the message that the stream is in this state."""
    begun = time.monotonic()
    act()
    while True:
        at, message = messages.get(timeout=PATIENCE_S)
        if (message["check"], message["state"]) == ("stream", state):
            return at - begun
