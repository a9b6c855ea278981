"""`python -m feature_store_deploy.streams flow` and `python -m feature_store_deploy.streams archive`: the stream's two processes, by the settings."""

from __future__ import annotations

import argparse
import logging
import sys
from datetime import timedelta

from feature_store_deploy.streams.context import FlowContext
from feature_store_deploy.streams.failure import FORESEEN, in_words
from feature_store_deploy.streams.run import run_archiver, run_flow
from feature_store_deploy.streams.worker import run_among_others

from feature_store.lake import LakeLocation
from feature_store.registry import load_registry
from feature_store.settings import Settings
from feature_store.transforms.compiled import compile_registry


def main() -> int:
    """Run what the command line names; exit code 2 with one clear line if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m feature_store_deploy.streams", description=__doc__)
    parser.add_argument("process", choices=["flow", "archive", "worker"], help="worker: what `flow` starts several of")
    parser.add_argument("--workers", type=int, help="flow: how many processes, instead of the setting")
    parser.add_argument("--every", type=float, default=5.0, help="archive: seconds between commits")
    parser.add_argument("--tick", type=float, default=1.0, help="flow: seconds between ticks")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(process)d] %(levelname)s %(message)s")
    try:
        settings = Settings() if options.workers is None else Settings(workers=options.workers)
        context = FlowContext(
            compiled=compile_registry(load_registry(settings.declarations)),
            lake=LakeLocation.of(settings),
            redis_url=settings.redis_url,
            env=settings.environment,
            workers=settings.workers,
            clock=settings.clock,
        )
        if options.process == "flow":
            run_flow(context, tick=timedelta(seconds=options.tick))
        elif options.process == "worker":
            run_among_others(context)
        else:
            run_archiver(context, every_s=options.every)
    except FORESEEN as error:
        sys.stderr.write(f"error: {in_words(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
