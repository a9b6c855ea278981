"""`python -m feature_store_deploy.stack.healthy PROCESS`: whether a process of this deployment does its work; exit code 1 if not.

For health checks of containers, beside the process: a question takes at most five seconds, the daemon's a little more.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from redis.exceptions import RedisError

from feature_store.embedded import HOST
from feature_store.errors import FeatureStoreError, SettingsError
from feature_store.settings import PREFIX, Settings

TIMEOUT_S = 5.0
BEAT_S = 10.0
"""The age of a heartbeat of the flow that is believed; it beats each second."""

DAEMON_S = 120
"""Of the daemon's, which beats every 30 seconds, or 60 where it has much to do."""


def flow(settings: Settings) -> str | None:
    """What keeps readers from believing the streamed values: a shard that is silent or catches up."""
    from feature_store.online.address import connected
    from feature_store.online.ready import read_ready

    with connected(settings.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
        ready = read_ready(client, settings.environment)
    since_us = settings.clock.now_us() - BEAT_S * 1e6
    for shard in range(settings.workers):
        record = ready.get(str(shard))
        if record is None or not record.caught_up:
            return f"shard {shard} of {settings.workers} vouches for nothing yet"
        if record.beat_us < since_us:
            return f"shard {shard} of {settings.workers} has been silent for more than {BEAT_S:g} s"
    return None


def archive(settings: Settings) -> str | None:
    """Whether the archiver answers Prometheus."""
    if settings.archive_metrics_port is None:
        raise SettingsError(f"the archiver answers nobody without {PREFIX}ARCHIVE_METRICS_PORT")
    return _lacks(
        f"http://{_reached(settings.metrics_host)}:{settings.archive_metrics_port}/metrics", "archive_written"
    )


def exporter(settings: Settings) -> str | None:
    """Whether the exporter has looked at the books."""
    return _lacks(f"http://{_reached(settings.metrics_host)}:{settings.metrics_port}/metrics", "exporter_part_up{")


def api(settings: Settings) -> str | None:
    """Whether the HTTP API answers."""
    scheme = "http" if settings.api_tls_certificate is None else "https"
    return _lacks(f"{scheme}://{_reached(settings.api_host)}:{settings.api_port}/health", "ok")


def webserver(settings: Settings) -> str | None:
    """Whether Dagster's web UI answers."""
    return _lacks(f"http://{_reached(settings.ui_host)}:{settings.ui_port}/server_info", "dagster_version")


def daemon(settings: Settings) -> str | None:
    """Whether Dagster's daemon has shown itself of late: becomes Dagster's own check."""
    from feature_store_deploy.assets.instance import prepare_dagster_home

    program = str(Path(sys.executable).parent / "dagster-daemon")
    told = {"DAGSTER_HOME": str(prepare_dagster_home(settings)), "PYTHONWARNINGS": "ignore"}
    told["DAGSTER_DAEMON_HEARTBEAT_TOLERANCE"] = str(DAEMON_S)  # half an hour by default
    os.execve(program, [program, "liveness-check"], os.environ | told)  # noqa: S606 - no shell is wanted


CHECKS: Mapping[str, Callable[[Settings], str | None]] = {
    "api": api,
    "archive": archive,
    "daemon": daemon,
    "exporter": exporter,
    "flow": flow,
    "webserver": webserver,
}


def _lacks(url: str, what: str) -> str | None:
    """Why a page does not say something; None if it does."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # it is this machine that is asked
    with urllib.request.urlopen(  # noqa: S310 - http or https, from the settings
        url, timeout=TIMEOUT_S, context=trusting if url.startswith("https") else None
    ) as answer:
        found = answer.read().decode(errors="replace")
    return None if what in found else f"{url} answers, but says nothing of '{what}'"


def _reached(host: str) -> str:
    """Where this machine reaches what listens on a host."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what a setting may say
        return HOST
    return f"[{host}]" if ":" in host else host


def main(arguments: list[str]) -> int:
    """Ask about one process; exit code 1 and a line if it is not well, or cannot be asked."""
    if len(arguments) != 1 or arguments[0] not in CHECKS:
        sys.stderr.write(f"usage: python -m feature_store_deploy.stack.healthy {'|'.join(CHECKS)}\n")
        return 1  # 2 is not for health checks to give
    try:
        problem = CHECKS[arguments[0]](Settings())
    except (FeatureStoreError, RedisError, OSError) as error:
        problem = str(error)
    if problem is not None:
        sys.stderr.write(f"{arguments[0]}: {problem}\n")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
