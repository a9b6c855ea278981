"""What is Kafka's own about its log: elections, deleted topics, transactions, retention, time stamps, who may connect."""

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import kafka_broker
import pandas as pd
import pandera.pandas as pa
import pytest
import redis
from confluent_kafka import ConsumerGroupTopicPartitions, Producer

from feature_store import Entity, EventSource, FeatureStore, FeatureView, Registry, Settings, agg, kafka
from feature_store.clock import ManualClock
from feature_store.decoders import json
from feature_store.errors import (
    DeclarationError,
    InputError,
    LogError,
    LogGap,
    LogTailLost,
    LogUnavailable,
)
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.log.kafka import KafkaLog
from feature_store.log.protocol import Record, partition_of
from feature_store.status import Status
from feature_store.time_rule import HOUR_US, from_us, to_us

NOW_US = to_us(datetime(2026, 3, 2, 9, tzinfo=UTC))
SASL = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.username": kafka_broker.USER,
    "sasl.password": "env:TEST_KAFKA_PASSWORD",
}


@pytest.fixture
def client(valkey):
    with redis.Redis.from_url(valkey.url) as connected:
        yield connected


@pytest.fixture
def opened(kafka, client, environment):
    """Opens the log of a topic, another process's view with each call."""

    def open_topic(topic, *, servers=kafka.servers, **declared):
        return KafkaLog(client, kafka_binding(topic, servers, **declared), env=environment)

    return open_topic


def kafka_binding(topic, servers, **declared):
    return kafka(topic, bootstrap_servers=servers, **declared)


def records(count, *, start=0):
    return [Record(f"id-{n}", f"payload {n}".encode(), NOW_US + n * 1000) for n in range(start, start + count)]


def payloads(found):
    return [record.payload for record in found]


def foreign(servers, topic, values, *, key=b"k", **options):
    """Somebody else's producer."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 0} | options)
    failed = []
    for value in values:
        producer.produce(topic, value, key, on_delivery=lambda error, _: failed.append(error) if error else None)
    producer.flush()
    return failed


# --- losses


def test_a_tail_that_an_election_cut_off_and_others_filled_again_is_noticed(client, environment, tmp_path, kafka):
    #  read before the loss    0 .. 9 | 10 .. 19
    #  after it                0 .. 9 | 10 .. 39 under a later leader epoch
    broker = kafka_broker.KafkaBroker(tmp_path / "kafka")
    broker.start()
    try:
        topic = kafka_broker.SharedBroker(broker.servers, "", "").topic()
        log = KafkaLog(client, kafka_binding(topic, broker.servers), env=environment)
        begin = log.publish(records(10))[0].offset
        (file,) = (broker.logs / f"{topic}-0").glob("*.log")
        size = file.stat().st_size
        log.publish(records(10, start=10))
        reached = log.read(0, begin)[-1].offset + 1
        broker.kill()
        with file.open("r+b") as cut:
            cut.truncate(size)
        broker.start()
        with pytest.raises(LogTailLost) as before:
            again(lambda: log.read(0, reached))
        other = KafkaLog(client, kafka_binding(topic, broker.servers), env=environment)
        other.publish(records(30, start=20))
        with pytest.raises(LogTailLost) as after:
            other.read(0, reached)
        with pytest.raises(LogTailLost):
            other.lag(0, reached)

        assert before.value.resume == after.value.resume
        assert before.value.end == begin + 10
        found = other.read(0, after.value.resume)
        assert payloads(found) == [record.payload for record in records(30, start=20)]
        assert found[0].offset > reached
        assert payloads(other.read(0, begin)) == [record.payload for record in records(10) + records(30, start=20)]
        assert other.lag(0, found[0].offset) == 30
    finally:
        broker.kill()


def again(step, *, seconds=60):
    """Take a step until Kafka answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return step()
        except LogUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("filled", "forgotten"), [(3, False), (30, False), (3, True)], ids=["", "filled beyond", "and Redis was wiped"]
)
def test_a_topic_that_was_made_again_is_another_life(opened, kafka, client, environment, filled, forgotten):
    topic = kafka.topic()
    log = opened(topic)
    reached = log.publish(records(10))[-1].offset + 1
    kafka.delete(topic)
    again_made(kafka, topic)
    if forgotten:
        client.delete(f"logmeta:{environment}:{{{topic}}}")
    reader = opened(topic)
    reader.publish(records(filled, start=10))

    with pytest.raises(LogTailLost) as lost:
        reader.read(0, reached)

    assert lost.value.resume > reached
    found = opened(topic).read(0, lost.value.resume)
    assert payloads(found) == [record.payload for record in records(filled, start=10)]
    assert found[0].offset >= lost.value.resume
    assert reader.read(0, found[0].offset) == found


def read_on(log, offset):
    """Read for ten seconds: the broker answers a deletion before all of it has forgotten the topic."""
    for _ in range(100):
        log._check_at = 0.0
        log.read(0, offset)
        time.sleep(0.1)


def again_made(kafka, topic):
    """Make a topic that is still being deleted."""
    for _ in range(100):
        try:
            return kafka.topic(name=topic)
        except Exception as error:
            if "already exists" not in str(error) and "marked for deletion" not in str(error):
                raise
            time.sleep(0.05)
    raise AssertionError(topic)


def test_a_topic_that_is_deleted_under_a_reader_is_named(opened, kafka):
    topic = kafka.topic()
    log = opened(topic)
    end = log.publish(records(3))[-1].offset + 1
    assert log.read(0, end) == []
    kafka.delete(topic)

    with pytest.raises(LogError, match=f"topic '{topic}' does not exist at Kafka {kafka.servers}"):
        read_on(log, end)


def test_retention_that_passes_a_reader_is_a_gap(opened, kafka):
    topic = kafka.topic()
    log = opened(topic)
    begin = log.publish(records(10))[0].offset
    assert len(log.read(0, begin, max_records=2)) == 2
    kafka.drop_before(topic, 6)

    with pytest.raises(
        LogGap, match=r"the next one kept is 0-6; .* go on where the log begins with `feature-store res"
    ):
        opened(topic).read(0, begin + 2)


# --- numbers that Kafka leaves out


def test_aborted_transactions_and_markers_are_no_loss_and_nothing_to_wait_for(opened, kafka):
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.servers, "transactional.id": topic})
    producer.init_transactions()
    for value, keep in ((b"one", True), (b"never", False), (b"two", True)):
        producer.begin_transaction()
        producer.produce(topic, value, b"k")
        producer.flush()
        producer.commit_transaction() if keep else producer.abort_transaction()
    log = opened(topic)

    found = log.read(0, log.begin(0))

    assert payloads(found) == [b"one", b"two"]
    assert [record.offset - found[0].offset for record in found] == [0, 4]
    assert log.read(0, found[-1].offset + 1) == []
    assert log.lag(0, found[-1].offset + 1) == 1


def test_a_compacted_topic_is_refused(opened, kafka):
    log = opened(kafka.topic(cleanup_policy="compact"))

    with pytest.raises(LogError, match=r"is compacted, and forgets events; set its cleanup.policy to 'delete'"):
        log.begin(0)


# --- partitions


def test_the_number_of_partitions_is_the_topics_own_unless_it_is_declared(opened, kafka):
    topic = kafka.topic(partitions=3)

    assert opened(topic).partitions == 3
    with pytest.raises(LogError, match=r"has 3 partitions, but `partitions=2` was declared"):
        _ = opened(topic, partitions=2).partitions


def test_a_topic_that_grows_asks_for_a_new_start(opened, kafka):
    from confluent_kafka.admin import NewPartitions

    topic = kafka.topic()
    log = opened(topic)
    end = log.end(0)
    assert log.read(0, end) == []
    kafka.admin().create_partitions([NewPartitions(topic, 2)])[topic].result()

    with pytest.raises(LogError, match="has 2 partitions now, 1 when this process began; start it again"):  # noqa: PT012
        for _ in range(300):  # the broker tells of it a moment later
            log._check_at = 0.0
            log.read(0, end)
            time.sleep(0.1)


def test_producers_of_librdkafka_that_key_by_event_id_meet_our_partitions(opened, kafka):
    log = opened(kafka.topic(partitions=4))
    ids = [f"event-{n}" for n in range(40)]
    for event_id in ids:
        foreign(kafka.servers, log.source, [event_id.encode()], key=event_id.encode())

    for partition in range(4):
        found = {payload.decode() for payload in payloads(log.read(partition, log.begin(partition)))}
        assert found == {event_id for event_id in ids if partition_of(event_id, 4) == partition}


# --- when a record arrived


def test_arrival_is_the_brokers_time_where_the_topic_has_it_and_the_producers_elsewhere(opened, kafka):
    before_us = time.time_ns() // 1000
    for kind, ours in (("CreateTime", True), ("LogAppendTime", False)):
        log = opened(kafka.topic(message_timestamp_type=kind))
        log.publish(records(1))

        (found,) = log.read(0, log.begin(0))

        assert (found.arrived_us == NOW_US) is ours
        assert ours or found.arrived_us >= before_us - 1_000_000


# --- who may connect, and how


def test_sasl_over_tls_with_the_password_of_the_environment(opened, kafka, monkeypatch):
    monkeypatch.setenv("TEST_KAFKA_PASSWORD", kafka_broker.PASSWORD)
    options = SASL | {"ssl.ca.location": kafka.authority}
    log = opened(kafka.topic(), servers=kafka.sasl_servers, options=options)

    log.publish(records(3))

    assert payloads(log.read(0, log.begin(0))) == [record.payload for record in records(3)]
    assert log.register("lake") == {0: log.begin(0)}


def test_a_wrong_password_is_said_once_and_not_shown(opened, kafka, monkeypatch):
    monkeypatch.setenv("TEST_KAFKA_PASSWORD", "guessed-wrong")
    log = opened(kafka.topic(), servers=kafka.sasl_servers, options=SASL | {"ssl.ca.location": kafka.authority})

    with pytest.raises(LogError, match=r"refuses the connection .*[Aa]uthentication.*; correct `options`") as refused:
        log.begin(0)

    assert "guessed-wrong" not in str(refused.value)
    assert not isinstance(refused.value, LogUnavailable)


def test_a_certificate_that_nobody_vouches_for_is_refused(opened, kafka, monkeypatch):
    monkeypatch.setenv("TEST_KAFKA_PASSWORD", kafka_broker.PASSWORD)
    log = opened(kafka.topic(), servers=kafka.sasl_servers, options=SASL)

    with pytest.raises(LogError, match=r"refuses the connection .*certificate verify failed"):
        log.begin(0)


def test_a_secret_that_is_not_set_is_named(opened, kafka):
    with pytest.raises(LogError, match=r"'TEST_KAFKA_PASSWORD', named by option 'sasl.password' of .* is not set"):
        opened("t", options=SASL)


def test_what_a_declaration_may_not_say_is_said_at_once():
    with pytest.raises(DeclarationError) as wrong:
        kafka(
            "a topic",
            bootstrap_servers="",
            partitions=0,
            options={"sasl.password": "river-stone", "acks": 1, "fetch.min.bytes": 1},
        )

    said = str(wrong.value)
    assert len(wrong.value.problems) == 5
    assert "option 'sasl.password' must not stand in the declaration" in said
    assert "option 'acks' cannot be chosen" in said
    assert "river-stone" not in said


def test_an_option_that_librdkafka_does_not_know_is_named(opened, kafka):
    with pytest.raises(LogError, match=r"`options` are wrong: No such configuration property: \"fetch.minimum\""):
        opened(kafka.topic(), options={"fetch.minimum": 1}).begin(0)


def test_a_missing_topic_is_named(opened, kafka):
    with pytest.raises(LogError, match=f"topic 'nowhere' does not exist at Kafka {kafka.servers}; create it, or corr"):
        opened("nowhere").publish(records(1))


def test_a_broker_that_is_away_is_named(opened, monkeypatch):
    monkeypatch.setattr("feature_store.log.kafka.clients.ANSWER_S", 1.0)
    log = opened("t", servers="127.0.0.1:1")

    with pytest.raises(
        LogUnavailable, match=r"Kafka at 127.0.0.1:1 does not answer for topic 't' \(.*; is it running\?"
    ):
        log.begin(0)


def test_a_record_that_the_topic_does_not_take_is_named_and_the_next_ones_go_on(opened, kafka):
    log = opened(kafka.topic(), options={"compression.type": "zstd"})

    with pytest.raises(InputError, match=r"does not take event 'big' .*publishing all of them again is safe"):
        log.publish([Record("big", b"x" * 5_000_000, NOW_US)])

    log.publish([Record("small", b"x" * 500_000, NOW_US)])
    assert len(log.read(0, log.begin(0))) == 1


def test_what_is_acknowledged_is_the_lag_of_a_consumer_group(opened, kafka, environment):
    log = opened(kafka.topic(partitions=2))
    log.publish(records(20))
    begins = log.register("lake")

    log.acknowledge("lake", {0: begins[0] + 3})

    group = f"feature-store.{environment}.{log.source}.lake"
    asked = kafka.admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
    assert {at.partition: at.offset for at in asked.topic_partitions} == {0: 3, 1: 0}


# --- from topic to features, lake and back from a gap


class Payment(pa.DataFrameModel):
    payment_id: str
    customer: str
    amount: float
    paid_at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


def spending(topic, servers, **declared):
    payments = EventSource(
        "payments",
        schema=Payment,
        event_time="paid_at",
        event_id="payment_id",
        log=kafka_binding(topic, servers, **declared),
    )
    features = [agg.count(over="1h"), agg.sum("amount", over="24h")]
    view = FeatureView(
        "spending", entity=Entity("customer", join_keys=["customer"]), source=payments, features=features
    )
    return Registry(views=[view])


@contextmanager
def store_of(topic, servers, valkey, environment, home, **declared):
    settings = Settings(home=home, redis_url=valkey.url, environment=environment)
    with FeatureStore(spending(topic, servers, **declared), settings=settings, clock=ManualClock(NOW_US)) as store:
        store.apply()
        yield store


def payment(number, *, at_us=NOW_US - HOUR_US // 2, customer="ada"):
    return {"payment_id": f"p{number}", "customer": customer, "amount": 2.0, "paid_at": from_us(at_us)}


def archive(store):
    archiver = Archiver(store.compiled, store.lake, store.log("payments"), source="payments")
    while archiver.step():
        pass


def stream(store):
    env = store.settings.environment
    return LocalStream(store.compiled, store.lake, store.redis, env=env, clock=store.clock)


def count_of(store, customer="ada"):
    return store.get_online_features(["spending:count_1h"], {"customer": customer})["spending:count_1h"]


def test_events_of_three_partitions_reach_lake_and_features_and_a_duplicate_counts_once(
    kafka, valkey, environment, tmp_path
):
    topic = kafka.topic(partitions=3)
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        flow = stream(store)
        store.publish("payments", [payment(n) for n in range(20)])
        store.publish("payments", [payment(3)])
        flow.step()
        archive(store)

        assert count_of(store).value == 20
        with store.lake.cursor() as cursor:
            kinds = cursor.execute("SELECT kind, count(*) FROM rejected_events GROUP BY 1").fetchall()
        assert kinds == [("duplicate", 1)]
        assert sum(store.status().sources[0].lag.values()) == 0


def test_stream_and_lake_go_on_with_a_topic_that_was_made_again(kafka, valkey, environment, tmp_path):
    topic = kafka.topic()
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        store.publish("payments", [payment(n) for n in range(5)])
        archive(store)
        before = store.lake.positions("payments")[0]
    kafka.delete(topic)
    again_made(kafka, topic)
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        store.publish("payments", [payment(n) for n in range(3, 7)])
        stream(store).step()
        archive(store)

        assert count_of(store).value == 7
        assert store.lake.positions("payments")[0] > before
        with store.lake.cursor() as cursor:
            offsets = cursor.execute(f"SELECT _offset FROM ({store.lake.events_sql('payments')})").fetchall()
        assert len(set(offsets)) == len(offsets) == 7


def test_a_second_copy_in_another_partition_is_rejected_by_flow_and_archiver(kafka, valkey, environment, tmp_path):
    topic = kafka.topic(partitions=2)
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        store.publish("payments", [payment(1)])
        (record,) = [r for p in range(2) for r in store.log("payments").read(p, store.log("payments").begin(p))]
        other = Producer({"bootstrap.servers": kafka.servers})
        other.produce(topic, record.payload, partition=1 - partition_of("p1", 2), timestamp=NOW_US // 1000)
        other.flush()
        flow = stream(store)
        assert flow.step() == 2
        archive(store)

        with store.lake.cursor() as cursor:
            [(kind, reason)] = cursor.execute("SELECT kind, reason FROM rejected_events").fetchall()
        assert (kind, reason[:41]) == ("rejected", f"event id 'p1' belongs in partition {partition_of('p1', 2)} of 2")
        assert count_of(store).value == 1
        assert stream(store).step() == 0
        assert count_of(store).value == 1


def test_a_topic_that_its_producers_partition_by_customer_is_read_where_that_is_declared(
    kafka, valkey, environment, tmp_path
):
    topic = kafka.topic(partitions=2)
    with store_of(topic, kafka.servers, valkey, environment, tmp_path, partitioned_by="producer") as store:
        flow, other = stream(store), Producer({"bootstrap.servers": kafka.servers})
        for payload in json().encode([payment(1), payment(2), payment(1)]):
            other.produce(topic, payload, partition=1, timestamp=NOW_US // 1000)
        other.flush()
        assert flow.step() == 3
        archive(store)

        assert count_of(store).value == 2
        assert stream(store).step() == 0
        assert count_of(store).value == 2


def test_a_producer_whose_clock_is_wrong_is_judged_by_its_records_alone(kafka, valkey, environment, tmp_path):
    #  clock of 1970   its events lie in the future of their arrival: dead letters, with the reason
    #  clock of 2100   the broker refuses it by default; where it does not, its events are late
    topic = kafka.topic(message_timestamp_after_max_ms=str(2**62))
    strict = kafka.topic()
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        log = store.log("payments")
        flow = stream(store)
        for number, arrived_us in enumerate([1_000_000, NOW_US, NOW_US + 74 * 365 * 24 * HOUR_US]):
            (body,) = [replace_id(number)]
            log.publish([Record(f"p{number}", body, arrived_us)])
        flow.step()
        archive(store)

        assert count_of(store).value == 2
        with store.lake.cursor() as cursor:
            ((kind, reason),) = cursor.execute("SELECT kind, reason FROM rejected_events").fetchall()
        assert kind == "rejected"
        assert "later than its arrival, more than the tolerance of 1m" in reason
    refused = KafkaLog(store.redis, kafka_binding(strict, kafka.servers), env=environment)
    far_us = time.time_ns() // 1000 + 100 * 24 * HOUR_US
    with pytest.raises(InputError, match=r"does not take event 'p' .*[Tt]imestamp"):
        refused.publish([Record("p", b"{}", far_us)])


def replace_id(number):
    from feature_store.decoders import json

    return json().encode([payment(number)])[0]


def test_the_way_out_of_a_gap(kafka, valkey, environment, tmp_path):
    topic = kafka.topic()
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        store.publish("payments", [payment(n) for n in range(4)])
        archive(store)
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        store.publish("payments", [payment(n) for n in range(4, 10)])
        kafka.drop_before(topic, 7)
        with pytest.raises(LogGap):
            archive(store)
        with pytest.raises(LogGap):
            stream(store).step()
        assert "is 0-7" in store.status().sources[0].problem

        (gap,) = store.resume("payments").values()

        assert (gap.records, gap.arrived_us) == (3, NOW_US)
        archive(store)
        stream(store).step()
        assert count_of(store).value == 7
        assert store.resume("payments") == {}


def test_an_empty_customer_is_known_to_be_empty_also_behind_a_transactions_marker(kafka, valkey, environment, tmp_path):
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.servers, "transactional.id": topic})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, replace_id(1), b"p1", timestamp=NOW_US // 1000)
    producer.commit_transaction()
    with store_of(topic, kafka.servers, valkey, environment, tmp_path) as store:
        stream(store).step()

        assert count_of(store).value == 1
        assert count_of(store, "bob").status is Status.EMPTY


def test_options_are_part_of_the_declaration_and_hashable():
    one = kafka("t", bootstrap_servers="a:1", options={"b": 1, "a": True})

    assert one == kafka("t", bootstrap_servers="a:1", options={"a": True, "b": 1})
    assert one.options == (("a", "true"), ("b", "1"))
    assert hash(one) != hash(replace(one, topic="u"))
