"""One process of the server, on a socket that listens already.

`python -m feature_store.serving.worker FD DRAIN_S KEYS [GRPC]`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, cast

import uvicorn

from feature_store.access.audit import AuditLog
from feature_store.reader.given import Declared, load_functions
from feature_store.registry import load_registry
from feature_store.serving.about import State
from feature_store.serving.app import build_app
from feature_store.serving.certificate import CIPHERS, Certificate, certificate_of
from feature_store.serving.connection import within
from feature_store.serving.limits import Limits
from feature_store.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette

    from feature_store.serving.grpc.api import GrpcApi
    from feature_store.serving.publishing import Publishing

KEYS_REQUIRED, KEYS_AS_MADE = "keys-required", "keys-as-made"
_ENDING_S = 10
"""How long requests under way may take once the server takes no more."""
_CONTAINERS = 20_000
"""So many more than before wake the collector; of Python's 700 a batch of a hundred rows has most, and no cycles."""


def work(listening: socket.socket, *, drain_s: float, keys_required: bool, grpc: str | None = None) -> None:
    """Serve this deployment's API until SIGTERM or SIGINT.

    Args:
        listening: the socket.
        drain_s: for how long, after SIGTERM, `/ready` says no while all else is answered still, so that a balancer can
            take this server out before it is gone.
        keys_required: whether a key is asked for even if nobody ever made one.
        grpc: `host:port` of the gRPC API, which all workers listen on; None: there is none.
    """
    settings, state = Settings(), State()
    limits = Limits()
    app = build_app(
        settings.redis_url,
        env=settings.environment,
        clock=settings.clock,
        limits=limits,
        state=state,
        publishing=_publishing(settings, limits) if settings.api_publish else None,
        functions=_functions(settings),
        keys_required=keys_required,
        audit=AuditLog(settings.audit_log),
        dagster_url=settings.dagster_url,
    )
    certificate = certificate_of(settings)
    config = uvicorn.Config(
        app,
        http=within(limits),
        ssl_certfile=certificate and certificate.file,
        ssl_keyfile=certificate and certificate.key,
        ssl_ciphers=CIPHERS,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_ENDING_S,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # which the server raises again when it has ended
        signal.signal(number, lambda *_: sys.exit(0))
    DrainingServer(config, state, drain_s=drain_s, grpc=grpc, certificate=certificate).run(sockets=[listening])


def _functions(settings: Settings) -> Declared:
    """The on-demand functions that the settings name; those of the declarations if they are loaded anyway."""
    named = settings.functions or (settings.declarations if settings.api_publish else None)
    if named is None:
        return ()
    return load_registry(named) if settings.functions is None else load_functions(named)


def _publishing(settings: Settings, limits: Limits) -> Publishing:
    """What takes events: it needs the declarations, and loads what they need."""
    from feature_store.online.address import connect
    from feature_store.serving.publishing import Publishing
    from feature_store.transforms.compiled import compile_registry

    return Publishing(
        compiled=compile_registry(load_registry(settings.declarations)),
        client=connect(settings.redis_url, socket_timeout=limits.deadline_s),
        env=settings.environment,
        clock=settings.clock,
        limits=limits,
    )


class DrainingServer(uvicorn.Server):
    """A server that, asked to stop, says so for a while before it takes no more connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: State,
        *,
        drain_s: float,
        grpc: str | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(config)
        self._state, self._drain_s, self._grpc, self._certificate = state, drain_s, grpc, certificate
        self._beside: GrpcApi | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start. What was made until here lives as long as the process: the collector need not look through it again."""
        await super().startup(sockets)
        if self._grpc is not None and self.started:
            from feature_store.serving.grpc.api import GrpcApi

            shared = cast("Starlette", self.config.app).state
            self._beside = GrpcApi(shared.reads, self._state, door=shared.door, certificate=self._certificate)
            await self._beside.start(self._grpc)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_CONTAINERS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way; the gRPC API first, as it has the reader of the application."""
        if self._beside is not None:
            await self._beside.stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain first; a second signal, or Ctrl-C, ends at once."""
        if self._state.draining or self._drain_s <= 0 or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self._state.draining = True
        asyncio.get_running_loop().call_later(self._drain_s, super().handle_exit, sig, frame)


def _end_with_parent() -> None:
    """End when whoever started this process ends, however that comes about: its end of our standard input closes."""

    def watch() -> None:
        while os.read(0, 1):  # not `sys.stdin`, whose lock this thread would hold when the interpreter ends
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Serve on an inherited socket."""
    _end_with_parent()
    number, drain_s, keys, *grpc = arguments
    required = keys == KEYS_REQUIRED
    work(
        socket.socket(fileno=int(number)),
        drain_s=float(drain_s),
        keys_required=required,
        grpc=grpc[0] if grpc else None,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
