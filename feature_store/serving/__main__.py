"""`python -m feature_store.serving`: the HTTP API as the settings say, as a line of a Procfile."""

from __future__ import annotations

import sys

from feature_store.errors import FeatureStoreError
from feature_store.serving.server import serve
from feature_store.settings import Settings


def main() -> int:
    """Serve until stopped; exit code 2 with one clear line if it cannot."""
    try:
        settings = Settings()
        serve(
            settings,
            host=settings.api_host,
            port=settings.api_port,
            workers=settings.api_workers,
            drain_s=settings.api_drain_s,
            grpc_port=settings.api_grpc_port,
            said=lambda line: print(line, flush=True),  # noqa: T201 - for who started it
        )
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
