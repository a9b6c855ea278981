"""A primary, its replica and a Sentinel that promotes it, all real."""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from reader_kinds import until

from chaos.failover import running_sentinel
from feature_store.embedded import HOST, EmbeddedValkey


@dataclass
class Watched:
    """What runs, and where."""

    primary: EmbeddedValkey
    replica: EmbeddedValkey
    sentinel: redis.Redis

    @property
    def at(self):
        """Where the Sentinel listens."""
        return HOST, self.sentinel.get_connection_kwargs()["port"]

    @property
    def url(self):
        """Of the Sentinel, and of one that is away."""
        return f"redis+sentinel://{HOST}:1,{HOST}:{self.at[1]}/main"

    def wait_until_promoted(self):
        """Ask the Sentinel alone: it ends all connections to the replica when it promotes it."""
        until(lambda: self.sentinel.sentinel_masters()["main"]["port"] == self.replica.port)


@contextmanager
def watched(folder: Path):
    """Start them; they end with the block."""
    quick = {"repl-diskless-sync-delay": "0"}
    with EmbeddedValkey(folder / "primary", options=quick) as primary:
        follows = {"replicaof": (HOST, str(primary.port))}
        with EmbeddedValkey(folder / "replica", options={**quick, **follows}) as replica:
            with redis.Redis.from_url(replica.url) as client:
                until(lambda: client.info("replication").get("master_link_status") == "up")
            with running_sentinel(folder / "sentinel", primary.port) as sentinel:
                until(lambda: sentinel.sentinel_slaves("main"))
                yield Watched(primary, replica, sentinel)
