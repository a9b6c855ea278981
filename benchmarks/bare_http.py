"""The floor of the HTTP API: an ASGI handler that fetches the same bytes and sends them as they are. `python -m benchmarks.bare_http URL FD`."""

from __future__ import annotations

import base64
import gc
import socket
import sys

import msgspec
import uvicorn
from redis.asyncio import Redis

from benchmarks.reader import ENV
from feature_store.online.keys import features_key


def main(url: str, descriptor: int) -> None:
    """Serve until SIGTERM."""
    client = Redis.from_url(url, socket_timeout=2)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        asked = msgspec.json.decode(body)
        rows = asked["rows"] if "rows" in asked else [asked["keys"]]
        pipeline = client.pipeline(transaction=False)
        for row in rows:
            pipeline.hmget(features_key(ENV, "airport", row["airport"]), ["view0@1"])
        found = [base64.b64encode(values[0] or b"").decode() for values in await pipeline.execute()]
        content = msgspec.json.encode(found)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    gc.freeze()
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
