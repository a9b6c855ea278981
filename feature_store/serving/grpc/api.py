"""The gRPC server of one process: it shares the event loop, the reader and the counts of the HTTP API."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from feature_store.errors import FeatureStoreError
from feature_store.serving.grpc.servicer import FeatureStoreServicer
from feature_store.serving.grpc.v1 import features_pb2, features_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feature_store.serving.app import State
    from feature_store.serving.reads import Reads

SERVICE = features_pb2.DESCRIPTOR.services_by_name["FeatureStore"].full_name
_LOOK_S = 1.0
"""How often those who watch its health are told of a change."""


class GrpcApi:
    """Serves the calls of `feature_store.v1`, health and reflection on one address.

    Args:
        reads: the reader and what it is limited to; whoever made it closes it.
        state: told when the server is about to stop.
        interceptors: see every call before it is answered.
    """

    def __init__(self, reads: Reads, state: State, *, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._reads, self._state, self._interceptors = reads, state, interceptors
        self._server: grpc.aio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self, address: str) -> int:
        """Listen on `host:port`, which other processes of the same user may listen on, too; returns the port."""
        limits = self._reads.limits
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        server = grpc.aio.server(interceptors=self._interceptors, options=options)
        self._health = _Health(self._reads, self._state)
        features_pb2_grpc.add_FeatureStoreServicer_to_server(FeatureStoreServicer(self._reads), server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        port: int = server.add_insecure_port(address)
        await server.start()
        self._server, self._looking = server, asyncio.create_task(self._watch())
        return port

    async def stop(self) -> None:
        """Take no more calls, and end when those under way are answered; all reads are within their deadline."""
        if self._server is None or self._looking is None:
            return
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking
        await self._server.stop(self._reads.limits.deadline_s + 1)
        self._server = None

    async def _watch(self) -> None:
        while True:
            await self._health.look()
            await asyncio.sleep(_LOOK_S)


class _Health(health.HealthServicer):  # type: ignore[misc]
    """`grpc.health.v1`: what `/ready` says, of the server ('') and of its one service."""

    def __init__(self, reads: Reads, state: State) -> None:
        super().__init__()
        self._reads, self._state = reads, state

    async def look(self) -> None:
        """Look whether Redis answers and something is published."""
        serving = health_pb2.HealthCheckResponse.NOT_SERVING
        if not self._state.draining:
            with suppress(FeatureStoreError):
                await self._reads.published.now()
                await self._reads.published.ask()
                serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", SERVICE):
            await self.set(name, serving)

    async def Check(  # noqa: N802 - named as in its .proto
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """As it is now."""
        await self.look()
        return await super().Check(request, context)
