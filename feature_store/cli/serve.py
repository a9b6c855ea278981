"""`serve`: the HTTP API of a deployment."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from feature_store.cli.launch import needs
from feature_store.settings import Settings


def serve(
    *,
    host: Annotated[
        str | None, typer.Option(help="Instead of the setting; one that others can reach takes API keys")
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 for a free one, instead of the setting", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, instead of the setting", min=1, max=256)] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Serve over gRPC too; 0 for a free one, instead of the setting", min=0, max=65535)
    ] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds to answer still, once asked to stop; instead of the setting", min=0)
    ] = None,
) -> None:
    """Serve features over HTTP until SIGTERM or Ctrl-C: a path for each feature service, /openapi.json lists them."""
    needs("serve")
    from feature_store.serving.server import serve as run

    settings = Settings()
    run(
        settings,
        host=settings.api_host if host is None else host,
        port=settings.api_port if port is None else port,
        workers=settings.api_workers if workers is None else workers,
        drain_s=settings.api_drain_s if drain is None else drain,
        grpc_port=settings.api_grpc_port if grpc_port is None else grpc_port,
        said=_say,
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
