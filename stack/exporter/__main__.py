"""`python -m feature_store_deploy.stack.exporter`: what is seen from outside, for Prometheus, until it is stopped."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

from prometheus_client import CollectorRegistry, start_http_server

from feature_store.errors import FeatureStoreError, SettingsError
from feature_store.registry import load_registry
from feature_store.settings import PREFIX, Settings
from feature_store.stop import stop_on_signal

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until stopped; exit code 2 with one clear line if it cannot."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    try:
        serve(Settings())
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def serve(settings: Settings) -> None:
    """Answer Prometheus until SIGTERM or SIGINT.

    Raises:
        SettingsError: the port cannot be had, or the home cannot be written.
        DeclarationError: the declarations are wrong.
    """
    stop, registry = stop_on_signal(), CollectorRegistry()
    listen(settings, registry)  # before what takes seconds to import
    from feature_store_deploy.assets.instance import dagster_instance
    from feature_store_deploy.stack.dagster import begin_books
    from feature_store_deploy.stack.definitions import build_definitions
    from feature_store_deploy.stack.exporter.alerts import alert_families
    from feature_store_deploy.stack.exporter.books import Books
    from feature_store_deploy.stack.exporter.cached import Cached
    from feature_store_deploy.stack.exporter.declared import declared_families
    from feature_store_deploy.stack.exporter.stream import Stream

    from feature_store.online.address import connected

    env, views = settings.environment, load_registry(settings.declarations)
    begin_books(settings)
    with dagster_instance(settings) as instance, connected(settings.redis_url, socket_timeout=2) as client:
        books = Books(build_definitions(views, settings), instance)
        stream = Stream(views, client, env=env, clock=settings.clock)
        registry.register(
            Cached(
                {
                    "declared": partial(declared_families, views, env=env),
                    "dagster": books.families,
                    "alerts": partial(alert_families, instance, env=env, posted=settings.alert_webhook_url is not None),
                    "stream": stream.families,
                }
            )
        )
        stop.wait()


def listen(settings: Settings, registry: CollectorRegistry) -> None:
    """Answer with what a registry has.

    Raises:
        SettingsError: the port cannot be had.
    """
    host, port = settings.metrics_host, settings.metrics_port
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"setting `metrics_port`: {port} of {host} cannot be had ({error.strerror or error}); "
            f"choose another with {PREFIX}METRICS_PORT"
        ) from error
    logger.info("metrics at http://%s:%d/metrics", host, port)


if __name__ == "__main__":
    sys.exit(main())
