"""The floor of the gRPC API: a handler that fetches the same bytes and sends them as they are. `python -m benchmarks.bare_grpc URL ADDRESS`."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import grpc
import uvloop
from redis.asyncio import Redis

from benchmarks.reader import ENV
from feature_store.online.keys import features_key
from feature_store.serving.grpc.v1 import features_pb2, features_pb2_grpc


async def main(url: str, address: str) -> None:
    """Serve until SIGTERM."""
    client = Redis.from_url(url, socket_timeout=2)

    class Bare(features_pb2_grpc.FeatureStoreServicer):
        async def GetFeatures(self, request, context):  # noqa: ARG002, N802
            [found] = await client.hmget(
                features_key(ENV, "airport", request.keys["airport"].string_value), ["view0@1"]
            )
            answer = features_pb2.GetFeaturesResponse()
            answer.features.add().value.bytes_value = found
            return answer

    server = grpc.aio.server()
    features_pb2_grpc.add_FeatureStoreServicer_to_server(Bare(), server)
    server.add_insecure_port(address)
    await server.start()
    gc.collect()
    gc.freeze()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(1)
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
