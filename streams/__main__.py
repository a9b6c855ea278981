"""`python -m feature_store_deploy.streams flow` and `python -m feature_store_deploy.streams archive`: the stream's two processes, by the settings."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from feature_store.errors import FeatureStoreError, FlowSuperseded

if TYPE_CHECKING:
    from feature_store.fold.observed import Observer
    from feature_store.registry import Registry
    from feature_store.settings import Settings


def main() -> int:
    """Run what the command line names; exit code 2 with one clear line if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m feature_store_deploy.streams", description=__doc__)
    parser.add_argument(
        "process",
        choices=["flow", "archive", "run", "worker"],
        help="run: what `flow` starts, and another one beside it when something has changed; "
        "worker: what `run` starts several of",
    )
    parser.add_argument("--workers", type=int, help="flow: how many processes, instead of the setting")
    parser.add_argument("--every", type=float, default=5.0, help="archive: seconds between commits")
    parser.add_argument("--tick", type=float, default=1.0, help="flow: seconds between ticks")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(process)d] %(levelname)s %(message)s")
    return _flow(options) if options.process == "flow" else _process(options)


def _flow(options: argparse.Namespace) -> int:
    from feature_store_deploy.streams.succession import Succession

    from feature_store.settings import Settings

    workers = [] if options.workers is None else [f"--workers={options.workers}"]
    try:
        with _counted_together(Settings()):
            return Succession([*workers, f"--tick={options.tick}"]).run()
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _counted_together(settings: Settings) -> AbstractContextManager[None]:
    """What the processes of the flow count is told by the one that outlives them."""
    if settings.flow_metrics_port is None:
        return nullcontext()
    from feature_store_deploy.streams.endpoint import counting_together

    return counting_together(host=settings.metrics_host, port=settings.flow_metrics_port)


def _process(options: argparse.Namespace) -> int:
    from feature_store_deploy.streams.failure import FORESEEN, in_words
    from feature_store_deploy.streams.succession import SUPERSEDED

    try:
        _run(options)
    except FlowSuperseded as error:
        sys.stderr.write(f"{error}\n")
        return SUPERSEDED
    except FORESEEN as error:
        sys.stderr.write(f"error: {in_words(error)}\n")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    from feature_store_deploy.streams.context import FlowContext
    from feature_store_deploy.streams.run import run_archiver, run_once
    from feature_store_deploy.streams.worker import end_with_parent, run_among_others

    from feature_store.lake import LakeLocation
    from feature_store.registry import load_registry
    from feature_store.settings import Settings
    from feature_store.transforms.compiled import compile_registry

    ask: Callable[[str], None] = end_with_parent() if options.process == "run" else print
    settings = Settings() if options.workers is None else Settings(workers=options.workers)
    registry = load_registry(settings.declarations)
    context = FlowContext(
        compiled=compile_registry(registry),
        lake=LakeLocation.of(settings),
        redis_url=settings.redis_url,
        env=settings.environment,
        workers=settings.workers,
        clock=settings.clock,
        observer=_observer(options.process, registry, settings),
    )
    if options.process == "run":
        run_once(context, tick=timedelta(seconds=options.tick), ask=ask)
    elif options.process == "worker":
        run_among_others(context)
    elif run_archiver(context, every_s=options.every):
        os.execv(sys.executable, [sys.executable, "-m", "feature_store_deploy.streams", *sys.argv[1:]])  # noqa: S606 - ourselves


def _observer(process: str, registry: Registry, settings: Settings) -> Observer:
    """Who counts what this process does: nobody, unless somebody can ask."""
    from feature_store.fold.observed import UNOBSERVED
    from feature_store.fold.run import live_sources

    port = settings.archive_metrics_port if process == "archive" else settings.flow_metrics_port
    if port is None:
        return UNOBSERVED
    from feature_store_deploy.streams.endpoint import serve_metrics
    from feature_store_deploy.streams.metrics import StreamMetrics
    from prometheus_client import CollectorRegistry

    if process != "archive":
        return StreamMetrics("stream", registry, live_sources(registry))
    counts = CollectorRegistry()
    serve_metrics(counts, host=settings.metrics_host, port=port)
    logged = [name for name, source in registry.sources.items() if source.log is not None]
    return StreamMetrics("archive", registry, logged, to=counts)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the engine may be anywhere, and would abort an orderly end
