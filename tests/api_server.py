"""Both APIs of a world on real ports, in a thread of the test's process."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from stream_world import compiled

from feature_store.clock import ManualClock
from feature_store.serving.about import State
from feature_store.serving.app import build_app
from feature_store.serving.connection import within
from feature_store.serving.grpc.api import GrpcApi
from feature_store.serving.limits import Limits
from feature_store.serving.publishing import Publishing


@dataclass(frozen=True)
class Running:
    """Where it answers."""

    url: str
    grpc: str
    app: Starlette


@contextmanager
def running(world, *, limits=None):
    """The APIs of a world, with publishing."""
    limits, clock = limits or Limits(), ManualClock(world.clock.at_us)
    publishing = Publishing(compiled=compiled, client=world.client, env=world.env, clock=clock, limits=limits)
    app = build_app(world.url, env=world.env, clock=world.clock, publishing=publishing, limits=limits)
    beside = GrpcApi(app.state.reads, State(), door=app.state.door)
    server = uvicorn.Server(uvicorn.Config(app, http=within(limits), port=0, log_level="critical"))
    ports = []

    async def serve():
        ports.append(await beside.start("127.0.0.1:0"))
        await server.serve()
        await beside.stop()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", f"127.0.0.1:{ports[0]}", app)
    finally:
        server.should_exit = True
        thread.join()
