"""The gRPC server of one process: it shares the event loop, the reader and the counts of the HTTP API."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from feature_store.errors import FeatureStoreError
from feature_store.serving.grpc.servicer import FeatureStoreServicer
from feature_store.serving.grpc.v1 import features_pb2, features_pb2_grpc
from feature_store.serving.grpc.visit import visit

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable

    from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

    from feature_store.serving.about import State
    from feature_store.serving.certificate import Certificate
    from feature_store.serving.door import Door
    from feature_store.serving.reads import Reads

SERVICE = features_pb2.DESCRIPTOR.services_by_name["FeatureStore"].full_name
_LOOK_S = 1.0
"""How often those who watch its health are told of a change."""


class GrpcApi:
    """Serves the calls of `feature_store.v1`, health and reflection on one address.

    Args:
        reads: the reader and what it is limited to; whoever made it closes it.
        state: told when the server is about to stop.
        door: asks for keys, as that of the HTTP API.
        certificate: with which it speaks TLS alone.
    """

    def __init__(self, reads: Reads, state: State, *, door: Door, certificate: Certificate | None = None) -> None:
        self._reads, self._state, self._door, self._certificate = reads, state, door, certificate
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
        server = grpc.aio.server(options=options)
        self._health = _Health(self._reads, self._state, self._door)
        servicer = FeatureStoreServicer(self._reads, self._door)
        features_pb2_grpc.add_FeatureStoreServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(names, self._door), server)
        port = self._listen(server, address)
        await server.start()
        self._server, self._looking = server, asyncio.create_task(self._watch())
        return port

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        if self._certificate is None:
            return int(server.add_insecure_port(address))
        key, chain = (Path(file).read_bytes() for file in (self._certificate.key, self._certificate.file))
        return int(server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)])))

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
    """`grpc.health.v1`: what `/ready` says, of the server ('') and of its one service; to everybody, a balancer has no key."""

    def __init__(self, reads: Reads, state: State, door: Door) -> None:
        super().__init__()
        self._reads, self._state, self._door = reads, state, door

    async def look(self) -> None:
        """Look whether Redis answers, something is published and keys are known."""
        serving = health_pb2.HealthCheckResponse.NOT_SERVING
        if not self._state.draining:
            with suppress(FeatureStoreError):
                await self._reads.published.now()
                await self._door.guard.keyring()
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


class _Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """`grpc.reflection`, which takes a key and no grant, as the document of the HTTP API does."""

    def __init__(self, names: Iterable[str], door: Door) -> None:
        super().__init__(names)
        self._door = door

    async def ServerReflectionInfo(  # noqa: N802 - named as in its .proto
        self, request_iterator: AsyncIterable[ServerReflectionRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ServerReflectionResponse]:
        """What the messages and calls are."""
        async with visit(self._door, "ServerReflectionInfo", context):
            async for answer in super().ServerReflectionInfo(request_iterator, context):
                yield answer
