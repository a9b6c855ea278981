"""A failover as it happens: a real replica, a real Sentinel, and acknowledged writes that had not reached the replica."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import redis

from feature_store.embedded import HOST, EmbeddedValkey, free_port, server_binary

PATIENCE_S = 30.0
NOWHERE = 1
"""A port at which no server listens."""
SENTINEL = """\
port {port}
bind {host}
dir {folder}
sentinel monitor main {host} {server} 1
sentinel down-after-milliseconds main 300
sentinel failover-timeout main 3000
"""


def fail_over(server: EmbeddedValkey, replica: EmbeddedValkey, *, missing_s: float) -> None:
    """Let a server die and its replica take its place, which has not heard of it for so many seconds.

    The replica takes over the server's address as well, as with a virtual address.
    """
    replica.start()
    client = redis.Redis.from_url(replica.url)
    client.replicaof(HOST, server.port)
    _wait(lambda: _replication(client)["master_link_status"] == "up")
    with running_sentinel(replica.directory / "sentinel", server.port) as sentinel:
        _wait(lambda: sentinel.sentinel_slaves("main"))
        client.replicaof(HOST, NOWHERE)
        time.sleep(missing_s)
        server.kill()
        _wait(lambda: _replication(client)["role"] == "master")
    client.replicaof("NO", "ONE")  # whatever Sentinel was about to say when it ended
    _wait(lambda: _takes_port(client, server.port))
    replica.port = server.port


@contextmanager
def running_sentinel(folder: Path, port: int) -> Iterator[redis.Redis]:
    """A running Sentinel that watches the server on a port."""
    folder.mkdir(parents=True)
    own, file = free_port(), folder / "sentinel.conf"
    file.write_text(SENTINEL.format(port=own, host=HOST, folder=folder, server=port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(server_binary()), str(file), "--sentinel"], stdout=log, stderr=log)
    client = redis.Redis(HOST, own)
    try:
        _wait(lambda: _answers(client))
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()


def _takes_port(client: redis.Redis, port: int) -> bool:
    """Whether the server listens at another port from now on; it cannot for as long as the system keeps it for the dead one."""
    try:
        return bool(client.config_set("port", port))
    except redis.ResponseError:
        return False


def _replication(client: redis.Redis) -> dict[str, object]:
    return cast("dict[str, object]", client.info("replication"))


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the failover did not happen")
        time.sleep(0.02)
