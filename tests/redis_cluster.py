"""A real Redis Cluster: three primaries, of which the first has a replica, and copies of what a server holds."""

from contextlib import ExitStack, contextmanager

import redis
from reader_kinds import until
from redis.crc import key_slot

from feature_store.embedded import HOST, EmbeddedValkey, free_port

PRIMARIES = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 500


class Cluster:
    """Its nodes; the last is the replica of the first."""

    def __init__(self, servers):
        self.servers = servers
        self.nodes = [redis.Redis(HOST, server.port) for server in servers]
        self.ids = [node.cluster("MYID") for node in self.nodes]

    @property
    def startup(self):
        """Where a client begins: the second and the third node."""
        return [(HOST, server.port) for server in self.servers[1:PRIMARIES]]

    def client(self, **options):
        nodes = [redis.cluster.ClusterNode(*at) for at in self.startup]
        return redis.cluster.RedisCluster(startup_nodes=nodes, **options)

    def owner(self, key):
        """The number of the primary whose slots hold a key."""
        return key_slot(key.encode()) * PRIMARIES // SLOTS

    def join(self):
        """Make single servers a cluster."""
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            first = -(-number * SLOTS // PRIMARIES)
            node.cluster("ADDSLOTSRANGE", first, -(-(number + 1) * SLOTS // PRIMARIES) - 1)
            node.cluster("SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            port, bus = str(server.port), server._options["cluster-port"]
            self.nodes[0].execute_command("CLUSTER", "MEET", HOST, port, bus)
        until(lambda: all(len(node.cluster("NODES")) == len(self.nodes) for node in self.nodes))
        self.nodes[PRIMARIES].cluster("REPLICATE", self.ids[0])
        until(lambda: all(node.cluster("INFO")["cluster_state"] == "ok" for node in self.nodes))
        until(lambda: self.nodes[PRIMARIES].info("replication").get("master_link_status") == "up")

    def fail_over(self):
        """Kill the primary of the first slots when its replica has everything; returns once that has taken its place."""
        pair = (0, PRIMARIES)
        for number in pair:
            self.servers[number].start()
        until(lambda: {self._role(number) for number in pair} == {b"master", b"connected"})
        primary = next(number for number in pair if self._role(number) == b"master")
        assert self.nodes[primary].wait(1, 5000) == 1
        self.servers[primary].kill()
        [other] = set(pair) - {primary}
        until(lambda: self._role(other) == b"master")

    def _role(self, number):
        """`master`, or how a replica's link is."""
        role = self.nodes[number].execute_command("ROLE")
        return role[0] if role[0] == b"master" else role[3]

    def copy(self, source, *patterns):
        """Copy the keys of a server, byte for byte."""
        with self.client() as client:
            for pattern in patterns:
                for key in source.scan_iter(pattern):
                    client.restore(key, 0, source.dump(key), replace=True)

    def close(self):
        for node in self.nodes:
            node.close()


@contextmanager
def running_cluster(folder):
    """Start one; it ends with the block."""
    with ExitStack() as stack:
        servers = []
        for number in range(PRIMARIES + 1):
            options = {
                "appendonly": "no",
                "cluster-enabled": "yes",
                "cluster-port": str(free_port()),
                "cluster-node-timeout": str(NODE_TIMEOUT_MS),
                "cluster-replica-validity-factor": "0",
                "repl-diskless-sync-delay": "0",
            }
            servers.append(stack.enter_context(EmbeddedValkey(folder / f"node-{number}", options=options)))
        cluster = Cluster(servers)
        stack.callback(cluster.close)
        cluster.join()
        yield cluster
