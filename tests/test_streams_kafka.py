"""The real flow and archiver over Kafka: several partitions, a broker that is killed, one that is not there."""

import kafka_broker
import pytest
from stream_world import SOURCE, rows
from test_streams_flow import PATIENCE_S, Deployment, equal_where_both_hold, without_bytewax

from feature_store import kafka
from feature_store.log.kafka import KafkaLog
from feature_store.log.protocol import unpack_offset
from feature_store.online.ready import read_ready

PARTITIONS = 3


class KafkaDeployment(Deployment):
    """The stream's world over a topic."""

    def over(self, servers, topic):
        self.log = KafkaLog(self.client, kafka(topic, bootstrap_servers=servers), env=self.env)
        return self

    def wait_until_caught_up(self, process, *, shards=1):
        ends = [unpack_offset(self.log.end(partition))[1] for partition in range(PARTITIONS)]

        def caught_up():
            records = read_ready(self.client, self.env)
            known = [records[str(n)].positions.get(SOURCE, {}) for n in range(shards) if str(n) in records]
            return [[unpack_offset(at)[1] for _, at in sorted(one.items())] for one in known] == [ends] * shards

        self.wait(caught_up, process)


@pytest.fixture
def deployment(valkey, tmp_path, environment, monkeypatch):
    made = KafkaDeployment(valkey.url, tmp_path, environment)

    def over(servers, topic):
        monkeypatch.setenv("STREAM_WORLD_SERVERS", servers)
        monkeypatch.setenv("STREAM_WORLD_TOPIC", topic)
        return made.over(servers, topic)

    yield over
    made.close()


def test_flow_and_archiver_wait_while_the_broker_is_away_and_lose_nothing(deployment, kafka, tmp_path):
    broker = kafka_broker.KafkaBroker(tmp_path / "kafka")
    broker.start()
    try:
        topic = kafka_broker.SharedBroker(broker.servers, "", "").topic(partitions=PARTITIONS)
        world = deployment(broker.servers, topic)
        some = rows(400, seed=21)
        with world.process("archive", "--every", "0.3") as archiver, world.process("flow", workers=2) as flow:
            world.wait(lambda: read_ready(world.client, world.env), flow)
            world.trickle(some[:250])
            world.wait_until_caught_up(flow, shards=2)
            broker.kill()
            world.wait(lambda: "values grow stale: Kafka at" in world.said("flow"), flow)
            world.wait(lambda: "archiving waits: Kafka at" in world.said("archive"), archiver)
            world.wait(lambda: all(r.oldest_unread_us for r in read_ready(world.client, world.env).values()), flow)
            broker.start()
            world.trickle(some[250:])
            world.wait_until_caught_up(flow, shards=2)
            found = world.values()
            world.wait(lambda: len(world.lake_ids()) == len(some), archiver)
        assert world.lake_ids() == {row["uid"] for row in some}
        assert equal_where_both_hold(found, without_bytewax(world, some, tmp_path), world.clock.now_us())
    finally:
        broker.kill()


@pytest.mark.parametrize("absent", ["broker", "topic"])
def test_a_flow_without_its_broker_or_topic_ends_with_one_clear_line(deployment, kafka, absent):
    servers = "127.0.0.1:1" if absent == "broker" else kafka.servers
    world = deployment(servers, "nowhere")
    with world.process("flow") as flow:
        assert flow.wait(timeout=PATIENCE_S) == 2

    [line] = world.said("flow").strip().splitlines()
    said = "does not answer for topic 'nowhere'" if absent == "broker" else "topic 'nowhere' does not exist at Kafka"
    assert line.startswith("error: ")
    assert said in line
    assert servers in line
