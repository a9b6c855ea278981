"""What every `EventLog` promises, asked of each implementation on a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_store.declare.log import KafkaBinding
from feature_store.embedded import HOST, EmbeddedValkey
from feature_store.errors import LogError, LogFull, LogGap, LogTailLost, UnknownNameError
from feature_store.log.epochs import Epochs
from feature_store.log.kafka import KafkaLog
from feature_store.log.protocol import EventLog, LogRecord, Record, pack_offset, partition_of, unpack_offset
from feature_store.log.redis_streams import CHUNK, RedisStreamLog

if TYPE_CHECKING:
    from kafka_broker import SharedBroker

Open = Callable[..., EventLog]
Drop = Callable[[EventLog, int], None]


@pytest.fixture
def open_redis(valkey: EmbeddedValkey, environment: str) -> Iterator[Open]:
    """Opens the log of one source; every call is another process's view of the same log."""
    clients: list[redis.Redis] = []

    def opened(*, source: str = "departures", **options: Any) -> EventLog:
        clients.append(redis.Redis.from_url(valkey.url))
        return RedisStreamLog(clients[-1], env=environment, source=source, **options)

    yield opened
    for client in clients:
        client.close()


@pytest.fixture
def open_kafka(valkey: EmbeddedValkey, environment: str, kafka: SharedBroker) -> Iterator[Open]:
    """The same over topics of a broker, each of them made when it is first named."""
    topics: dict[str, str] = {}
    with redis.Redis.from_url(valkey.url) as client:

        def opened(*, source: str = "departures", partitions: int = 1) -> EventLog:
            if source not in topics:
                topics[source] = kafka.topic(partitions=partitions)
            binding = KafkaBinding(topics[source], bootstrap_servers=kafka.servers, partitions=partitions)
            return KafkaLog(client, binding, env=environment)

        yield opened


@pytest.fixture(params=["redis", "kafka"])
def open_log(request: pytest.FixtureRequest) -> Open:
    """Opens the log of each implementation."""
    opened: Open = request.getfixturevalue(f"open_{request.param}")
    return opened


@pytest.fixture
def drop_before(request: pytest.FixtureRequest) -> Drop:
    """Removes what stands before a position, as retention does."""

    def drop(log: EventLog, position: int) -> None:
        if isinstance(log, KafkaLog):
            request.getfixturevalue("kafka").drop_before(log.source, unpack_offset(position)[1])
        else:
            log.register("lake")
            log.acknowledge("lake", {0: position})
            log.trim()

    return drop


def records(count: int, *, start: int = 0) -> list[Record]:
    return [
        Record(f"id-{n}", f"payload {n}".encode(), 1_700_000_000_000_000 + n * 1000)
        for n in range(start, start + count)
    ]


def read_all(log: EventLog, partition: int, position: int, *, max_records: int = 10_000) -> list[LogRecord]:
    found: list[LogRecord] = []
    while batch := log.read(partition, position, max_records=max_records):
        found += batch
        position = batch[-1].offset + 1
    return found


# --- publishing and reading


def test_what_was_published_is_read_in_order_with_dense_offsets(open_log: Open) -> None:
    log = open_log()
    published = records(5)

    positions = log.publish(published)

    begin = log.begin(0)
    assert [position.offset for position in positions] == [begin + n for n in range(5)]
    assert log.read(0, begin) == [
        LogRecord(begin + n, record.arrived_us, record.payload) for n, record in enumerate(published)
    ]
    assert log.end(0) == begin + 5


def test_the_first_offset_of_an_epoch_is_zero(open_log: Open) -> None:
    (position,) = open_log().publish(records(1))

    assert unpack_offset(position.offset)[1] == 0


def test_nothing_is_published_by_an_empty_call(open_log: Open) -> None:
    log = open_log()

    assert log.publish([]) == []
    assert log.begin(0) == log.end(0)


def test_payloads_are_bytes_as_they_came(open_log: Open) -> None:
    log = open_log()
    payloads = [b"", b"\x00\xff\r\n", "ü".encode(), b"x" * 100_000]

    log.publish([Record(f"id-{n}", payload, 1000 * n) for n, payload in enumerate(payloads)])

    assert [record.payload for record in log.read(0, log.begin(0))] == payloads


def test_a_read_takes_at_most_what_was_asked_for_and_goes_on_anywhere(open_log: Open) -> None:
    log = open_log()
    log.publish(records(10))
    begin = log.begin(0)

    assert [record.offset - begin for record in log.read(0, begin + 3, max_records=4)] == [3, 4, 5, 6]
    assert log.read(0, begin + 10) == []


def test_a_duplicate_meets_its_original_in_one_partition(open_log: Open) -> None:
    log = open_log(partitions=4)
    published = records(100)

    first = log.publish(published)
    second = log.publish(published)

    assert [position.partition for position in first] == [position.partition for position in second]
    assert [position.partition for position in first] == [partition_of(record.event_id, 4) for record in published]
    assert {position.partition for position in first} == {0, 1, 2, 3}


def test_call_order_is_kept_within_a_partition_across_chunks(open_log: Open) -> None:
    log = open_log(partitions=3)
    published = records(2 * CHUNK + 7)

    positions = log.publish(published)

    for partition in range(3):
        expected = [record for record in published if partition_of(record.event_id, 3) == partition]
        found = read_all(log, partition, log.begin(partition), max_records=100)
        assert [record.payload for record in found] == [record.payload for record in expected]
        assert [record.offset for record in found] == [p.offset for p in positions if p.partition == partition]


def test_two_sources_never_meet(open_log: Open) -> None:
    departures, arrivals = open_log(source="departures"), open_log(source="arrivals")

    departures.publish(records(3))

    assert arrivals.begin(0) == arrivals.end(0)


def test_concurrent_publishers_leave_offsets_dense_and_each_in_its_order(open_log: Open) -> None:
    publishers = [open_log(partitions=2) for _ in range(4)]

    def publish(number: int) -> None:
        for start in range(0, 300, 30):
            publishers[number].publish(
                [Record(f"{number}-{n}", f"{number} {n}".encode(), n) for n in range(start, start + 30)]
            )

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log, found = open_log(partitions=2), []
    for partition in range(2):
        found += read_all(log, partition, log.begin(partition))
    assert len(found) == 1200
    for number in range(4):
        for partition in range(2):
            mine = [int(record.payload.split()[1]) for record in found if record.payload.startswith(b"%d " % number)]
            in_partition = [n for n in mine if partition_of(f"{number}-{n}", 2) == partition]
            assert in_partition == sorted(in_partition)


def test_a_log_keeps_its_number_of_partitions(open_log: Open) -> None:
    open_log(partitions=2).publish(records(1))

    with pytest.raises(LogError, match=r"has 2 partitions, but .*3"):
        open_log(partitions=3).publish(records(1))
    with pytest.raises(LogError, match="has 2 partitions"):
        open_log(partitions=3).register("lake")


def test_a_log_has_at_least_one_partition(open_redis: Open) -> None:
    with pytest.raises(LogError, match="`partitions` must be at least 1, got 0"):
        open_redis(partitions=0)


# --- waiting and lag


def test_wait_returns_at_once_when_there_is_something_to_read(open_log: Open) -> None:
    log = open_log(partitions=2)
    log.publish(records(10))

    assert log.wait({0: log.end(0), 1: log.begin(1)}, timeout_s=10)


def test_wait_ends_when_a_record_comes(open_log: Open) -> None:
    log, publisher = open_log(), open_log()
    log.publish(records(1))
    later = threading.Timer(0.1, publisher.publish, [records(1, start=1)])
    later.start()
    started = time.perf_counter()

    assert log.wait({0: log.end(0)}, timeout_s=20)
    assert time.perf_counter() - started < 20
    later.join()


def test_wait_gives_up_when_nothing_comes(open_log: Open) -> None:
    log = open_log(partitions=2)

    assert not log.wait({p: log.end(p) for p in range(2)}, timeout_s=0.05)


def test_lag_is_the_number_of_records_still_to_read(open_log: Open) -> None:
    log = open_log()
    log.publish(records(10))
    log.publish(records(5))

    assert log.lag(0, log.begin(0)) == 15
    assert log.lag(0, log.begin(0) + 10) == 5
    assert log.lag(0, log.end(0)) == 0


def test_lag_counts_over_epochs(open_redis: Open) -> None:
    log = open_redis()
    log.publish(records(10))
    log.start_epoch()
    log.publish(records(5))

    assert log.lag(0, log.begin(0)) == 15
    assert log.lag(0, log.begin(0) + 10) == 5


# --- retention


def test_nothing_is_trimmed_that_a_registered_consumer_has_not_acknowledged(open_redis: Open) -> None:
    #  offsets  0 1 2 3 4 5 6 7 8 9
    #  lake           ^
    #  flow                   ^
    log = open_redis()
    log.register("lake")
    log.register("flow")
    log.publish(records(10))
    begin = log.begin(0)

    log.acknowledge("lake", {0: begin + 3})
    assert log.trim() == 0
    log.acknowledge("flow", {0: begin + 7})
    assert log.trim() == 3

    assert log.begin(0) == begin + 3
    assert [record.offset for record in log.read(0, begin + 3)] == [begin + n for n in range(3, 10)]


def test_nothing_is_trimmed_without_a_consumer(open_log: Open) -> None:
    log = open_log()
    log.publish(records(3))

    assert log.trim() == 0
    assert log.lag(0, log.begin(0)) == 3


def test_offsets_go_on_after_everything_was_removed(open_log: Open, drop_before: Drop) -> None:
    log = open_log()
    end = log.publish(records(5))[-1].offset + 1

    drop_before(log, end)

    assert (log.begin(0), log.end(0)) == (end, end)
    assert log.publish(records(1))[0].offset == end
    assert len(log.read(0, end)) == 1


def test_an_acknowledgement_never_goes_back(open_log: Open) -> None:
    log = open_log()
    log.register("lake")
    log.publish(records(5))
    begin = log.begin(0)

    log.acknowledge("lake", {0: begin + 4})
    log.acknowledge("lake", {0: begin + 2})

    assert log.consumers() == {"lake": {0: begin + 4}}


def test_registering_twice_keeps_what_was_acknowledged(open_log: Open) -> None:
    log = open_log(partitions=2)
    first = log.register("lake")
    log.publish(records(20))
    log.acknowledge("lake", {1: first[1] + 2})

    assert open_log(partitions=2).register("lake") == {0: first[0], 1: first[1] + 2}


def test_a_new_consumer_starts_at_the_first_record_kept_or_where_it_says(open_log: Open) -> None:
    log = open_log()
    log.publish(records(5))

    assert log.register("flow") == {0: log.begin(0)}
    assert log.register("replay", {0: log.begin(0) + 3}) == {0: log.begin(0) + 3}
    assert log.rejoin("lake", {0: log.begin(0) + 4}) == {0: log.begin(0) + 4}


def test_a_consumer_that_left_is_none_any_more(open_log: Open) -> None:
    log = open_log()
    log.register("lake")
    log.register("gone")

    log.unregister("gone")
    log.unregister("gone")

    assert list(log.consumers()) == ["lake"]


def test_a_consumer_that_left_holds_nothing_back(open_redis: Open) -> None:
    log = open_redis()
    log.register("lake")
    log.register("gone")
    log.publish(records(5))
    log.acknowledge("lake", {0: log.end(0)})

    log.unregister("gone")

    assert log.trim() == 5


def test_an_unknown_consumer_cannot_acknowledge(open_log: Open) -> None:
    log = open_log()
    log.register("lake")

    with pytest.raises(UnknownNameError, match=r"unknown consumer 'lak'; did you mean 'lake'\? \(known: lake\)"):
        log.acknowledge("lak", {0: log.end(0)})


def test_at_the_limit_publishing_is_refused_and_names_the_slowest_consumer(open_redis: Open) -> None:
    log = open_redis(limit=10)
    log.register("lake")
    log.register("flow")
    log.publish(records(8))
    log.acknowledge("flow", {0: log.end(0)})

    with pytest.raises(LogFull) as refused:
        log.publish(records(3, start=8))

    full = refused.value
    assert (full.partition, full.limit, full.slowest, full.written) == (0, 10, "lake", 0)
    assert "until consumer 'lake' has read on" in str(full)
    assert log.lag(0, log.begin(0)) == 8


def test_a_refused_call_writes_nothing_to_any_partition_even_in_its_first_chunks(open_redis: Open) -> None:
    log = open_redis(partitions=2, limit=CHUNK)

    with pytest.raises(LogFull, match="until a consumer is registered and reads"):
        log.publish(records(4 * CHUNK))

    assert [log.lag(p, log.begin(p)) for p in range(2)] == [0, 0]


def test_a_rival_that_takes_the_room_in_between_leaves_whole_chunks_and_says_how_many(open_redis: Open) -> None:
    log, rival = open_redis(limit=2 * CHUNK), open_redis(limit=2 * CHUNK)

    class Overtaken(list[Record]):
        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, slice) and key.start == CHUNK:
                rival.publish(records(1))
            return super().__getitem__(key)

    with pytest.raises(LogFull) as refused:
        log.publish(Overtaken(records(2 * CHUNK)))

    assert refused.value.written == CHUNK
    assert log.lag(0, log.begin(0)) == CHUNK + 1


def test_publishing_goes_on_when_the_slowest_consumer_has_caught_up(open_redis: Open) -> None:
    log = open_redis(limit=10)
    log.register("lake")
    log.publish(records(10))

    log.acknowledge("lake", {0: log.begin(0) + 5})
    log.trim()

    assert len(log.publish(records(5, start=10))) == 5
    with pytest.raises(LogFull):
        log.publish(records(1, start=15))


# --- losses are noticed


def test_reading_behind_retention_is_a_gap(open_log: Open, drop_before: Drop) -> None:
    log = open_log()
    log.publish(records(10))
    begin = log.begin(0)
    drop_before(log, begin + 4)

    with pytest.raises(LogGap) as gap:
        log.read(0, begin + 2)

    assert (gap.value.partition, gap.value.wanted, gap.value.first) == (0, begin + 2, begin + 4)


def test_reading_behind_retention_is_a_gap_when_nothing_is_left(open_log: Open, drop_before: Drop) -> None:
    log = open_log()
    log.publish(records(10))
    begin = log.begin(0)
    drop_before(log, log.end(0))

    epoch, _ = unpack_offset(begin)
    with pytest.raises(LogGap, match=f"offset {epoch}-0 was asked for, but the next one kept is {epoch}-10"):
        log.read(0, begin)


def test_a_position_beyond_the_end_means_that_the_tail_was_lost(open_log: Open) -> None:
    #  read before the loss    0 1 2 3 4
    #  after it                0 1 2 | new epoch: 0 1
    log = open_log()
    log.publish(records(3))
    begin = log.begin(0)

    with pytest.raises(LogTailLost) as lost:
        log.read(0, begin + 5)

    assert (lost.value.reached, lost.value.end) == (begin + 5, begin + 3)
    epoch, _ = unpack_offset(begin)
    assert f"ended at {epoch}-3, but {epoch}-5 had been reached" in str(lost.value)
    resume_epoch, resume_n = unpack_offset(lost.value.resume)
    assert resume_epoch > epoch
    assert f"stands from {resume_epoch}-{resume_n} on" in str(lost.value)
    log.publish(records(2, start=3))
    assert [record.payload for record in log.read(0, lost.value.resume)][-2:] == [b"payload 3", b"payload 4"]


def test_a_tail_that_was_lost_and_filled_again_is_noticed(open_redis: Open) -> None:
    log = open_redis()
    log.publish(records(3))
    begin = log.begin(0)
    log.start_epoch()
    log.publish(records(10, start=3))

    with pytest.raises(LogTailLost) as lost:
        log.read(0, begin + 5)
    with pytest.raises(LogTailLost):
        log.lag(0, begin + 5)

    assert len(log.read(0, lost.value.resume)) == 10


def test_a_reader_steps_over_ended_epochs_without_losing_a_record(open_redis: Open) -> None:
    log = open_redis()
    start = log.end(0)
    log.publish(records(3))
    log.start_epoch()
    log.start_epoch()
    log.publish(records(3, start=3))

    for step in (1, 2, 100):
        assert [r.payload for r in read_all(log, 0, start, max_records=step)] == [r.payload for r in records(6)]


def test_a_gap_at_the_start_of_an_epoch_is_a_gap(open_redis: Open) -> None:
    log = open_redis()
    log.register("lake")
    end = log.publish(records(3))[-1].offset + 1
    log.start_epoch()
    later = log.publish(records(3, start=3))[0].offset
    log.acknowledge("lake", {0: later + 1})
    log.trim()

    with pytest.raises(LogGap):
        log.read(0, end)


def test_epochs_only_grow(open_redis: Open) -> None:
    log = open_redis()
    epoch = log.start_epoch()

    assert log.start_epoch() > epoch
    assert log.start_epoch(above=epoch + 100) > epoch + 101, "as many are left out as a wiped log may have begun"


# --- Redis: crashes and hands other than ours


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as connected:
        yield connected


def redis_log(client: redis.Redis, *, partitions: int = 1) -> RedisStreamLog:
    return RedisStreamLog(client, env="test", source="departures", partitions=partitions)


STREAM = "log:test:{departures}:0"


def test_acknowledged_publishes_survive_a_kill_and_the_next_ones_begin_an_epoch(
    server: EmbeddedValkey, client: redis.Redis
) -> None:
    log = redis_log(client)
    start = log.register("lake")[0]
    before = log.publish(records(500))[-1].offset

    server.kill()
    server.start()
    after = log.publish(records(500, start=500))[0].offset

    assert unpack_offset(after) == (unpack_offset(before)[0] + 1, 0)
    assert [record.payload for record in read_all(log, 0, start)] == [record.payload for record in records(1000)]
    assert log.consumers() == {"lake": {0: start}}


def test_a_publisher_that_outlives_the_server_goes_on_while_another_one_does_too(
    server: EmbeddedValkey, client: redis.Redis
) -> None:
    with redis.Redis.from_url(server.url) as another:
        logs = [redis_log(client), redis_log(another)]
        start = logs[0].end(0)
        for log, connection in zip(logs, (client, another), strict=True):
            log.publish(records(3))
            assert connection.waitaof(1, 0, 60_000)[0] == 1  # a server whose disk is busy answers before it has written
        server.kill()
        server.start()
        for log in logs:
            log.publish(records(3))

    assert len(read_all(logs[0], 0, start)) == 12


def test_a_tail_missing_from_the_append_only_file_is_noticed_before_and_after_new_records(
    server: EmbeddedValkey, client: redis.Redis
) -> None:
    log = redis_log(client)
    log.publish(records(10))
    # A server whose disk is busy answers before it has written to the file.
    assert client.waitaof(1, 0, 60_000)[0] == 1
    kept = server.directory / "appendonlydir"
    file = next(kept.glob("*.incr.aof"))
    size = file.stat().st_size
    reached = log.publish(records(10, start=10))[-1].offset + 1
    server.kill()
    with file.open("r+b") as appended:
        appended.truncate(size)
    server.start()

    with pytest.raises(LogTailLost) as before:
        log.read(0, reached)
    log.publish(records(30, start=20))
    with pytest.raises(LogTailLost) as after:
        log.read(0, reached)

    assert before.value.end == reached - 10
    resumed = read_all(log, 0, after.value.resume)
    assert before.value.resume == after.value.resume
    # A log that still begins with its first record may have been wiped and filled again: copies come first, and are dropped.
    assert [r.payload for r in resumed] == [r.payload for r in (*records(10), *records(30, start=20))]


def test_records_published_to_a_log_that_was_wiped_on_the_same_day_wait_as_well(client: redis.Redis) -> None:
    log = redis_log(client)
    reached = log.publish(records(10))[-1].offset + 1
    client.flushall()
    log.publish(records(5, start=20))

    with pytest.raises(LogTailLost) as lost:
        log.read(0, reached)

    assert [r.payload for r in read_all(log, 0, lost.value.resume)] == [r.payload for r in records(5, start=20)]


def test_a_log_that_was_wiped_and_filled_beyond_its_readers_comes_again_whole(client: redis.Redis) -> None:
    log = redis_log(client)
    reached = log.publish(records(10))[-1].offset + 1
    log.register("lake")
    client.flushall()
    log.publish(records(15, start=20))
    assert [r.payload for r in log.read(0, reached)] == [r.payload for r in records(5, start=30)]
    with pytest.raises(UnknownNameError):
        log.acknowledge("lake", {0: reached + 5})

    assert log.rejoin("lake", {0: reached + 5}) == {0: reached + 5}

    assert [r.payload for r in read_all(log, 0, reached + 5)] == [r.payload for r in records(15, start=20)]
    assert log.trim() == 15
    assert log.rejoin("lake", {0: reached + 5}) == {0: reached + 5}
    assert len(read_all(log, 0, reached + 5)) == 15


def test_a_log_that_has_forgotten_whom_it_is_kept_for_keeps_everything(client: redis.Redis) -> None:
    log = redis_log(client)
    reached = log.publish(records(10))[-1].offset + 1
    log.register("flow", {0: reached})

    assert log.trim(behind="lake") == 0
    log.register("lake", {0: reached - 3})
    assert log.trim(behind="lake") == 7


def test_records_published_to_a_wiped_log_wait_for_the_reader_that_outlived_it(client: redis.Redis) -> None:
    log = redis_log(client)
    log.start_epoch()
    log.publish(records(10))
    log.start_epoch()
    reached = log.publish(records(10, start=10))[-1].offset + 1
    client.flushall()
    log.publish(records(5, start=20))

    with pytest.raises(LogTailLost) as lost:
        log.read(0, reached)

    assert [r.payload for r in read_all(log, 0, lost.value.resume)] == [r.payload for r in records(5, start=20)]
    assert log.publish(records(1, start=25))[0].offset == lost.value.resume + 5


def test_a_deleted_stream_begins_an_epoch(client: redis.Redis) -> None:
    log = redis_log(client)
    reached = log.publish(records(10))[-1].offset + 1
    client.delete(STREAM)

    log.publish(records(20, start=10))

    with pytest.raises(LogTailLost) as lost:
        log.read(0, reached)
    assert len(log.read(0, lost.value.resume)) == 20


def test_a_stream_that_is_deleted_after_its_epoch_has_ended_has_lost_its_tail(client: redis.Redis) -> None:
    log = redis_log(client)
    begin = log.end(0)
    log.publish(records(10))
    log.start_epoch()
    client.delete(STREAM)
    log.publish(records(20, start=10))

    with pytest.raises(LogTailLost) as lost:  # nobody can load the rest, as for a gap: it has to be sent again
        log.read(0, begin + 7)

    assert [r.payload for r in read_all(log, 0, lost.value.resume)] == [r.payload for r in records(20, start=10)]


def test_a_deleted_stream_takes_nothing_from_the_other_partitions(client: redis.Redis) -> None:
    log = redis_log(client, partitions=2)
    begin = log.begin(1)
    log.publish(records(40))
    before = log.read(1, begin)
    log.start_epoch()
    client.delete(STREAM)
    log.publish(records(40, start=40))

    found = read_all(log, 1, before[3].offset)

    assert [r.payload for r in found[: len(before) - 3]] == [r.payload for r in before[3:]]
    assert log.lag(1, before[3].offset) == len(found)


def test_a_record_missing_from_the_middle_is_a_gap_after_what_stands_before_it(client: redis.Redis) -> None:
    log = redis_log(client)
    log.publish(records(10))
    begin = log.begin(0)
    epoch, _ = unpack_offset(begin)
    client.xdel(STREAM, f"{epoch}-4")

    assert [record.offset - begin for record in log.read(0, begin)] == [0, 1, 2, 3]
    with pytest.raises(LogGap) as gap:
        log.read(0, begin + 4)
    assert (gap.value.wanted, gap.value.first) == (begin + 4, begin + 5)


class LosesOneReply(redis.Connection):
    """A connection that breaks after the server has done what it was asked to, once `armed`."""

    armed = False

    def read_response(self, *args: Any, **options: Any) -> Any:
        reply = super().read_response(*args, **options)
        if type(self).armed:
            type(self).armed = False
            raise redis.ConnectionError("the reply was lost")
        return reply


def test_a_call_whose_reply_was_lost_is_tried_again_and_leaves_offsets_dense(server: EmbeddedValkey) -> None:
    once_more = Retry(NoBackoff(), 1)
    pool = redis.ConnectionPool(connection_class=LosesOneReply, host=HOST, port=server.port, retry=once_more)
    with redis.Redis(connection_pool=pool) as client:
        log = redis_log(client)
        log.publish(records(1))
        LosesOneReply.armed = True
        positions = log.publish(records(3))
        found = log.read(0, log.begin(0))
    pool.disconnect()

    assert [record.offset - found[0].offset for record in found] == list(range(1 + 3 + 3))
    assert [position.offset for position in positions] == [record.offset for record in found[-3:]]


def test_an_idle_read_takes_two_round_trips_and_a_busy_one_takes_one(client: redis.Redis) -> None:
    log = redis_log(client)
    log.publish(records(3))
    begin, end = log.begin(0), log.end(0)

    def calls(position: int) -> int:
        client.config_resetstat()
        log.read(0, position)
        commands = client.info("commandstats")
        return sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("xrange", "exec"))

    assert calls(begin) == 1
    assert calls(end) == 2 + 1  # the second one is XRANGE again, with the log's state, in one EXEC


# --- stepping over epochs, without a log


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=6), numbers=st.data())
def test_every_position_has_one_next_record(counts: list[int], numbers: st.DataObject) -> None:
    first = numbers.draw(st.integers(1, 20_000))
    gaps = numbers.draw(st.lists(st.integers(1, 3), min_size=len(counts), max_size=len(counts)))
    epochs = Epochs(ends={first + sum(gaps[:n]): count for n, count in enumerate(counts)})
    offsets = [pack_offset(epoch, n) for epoch, count in epochs.ends.items() for n in range(count)]

    for epoch, count in epochs.ends.items():
        for n in range(count + 1):
            position = pack_offset(epoch, n)
            later = [offset for offset in offsets if offset >= position]
            assert epochs.next_offset(position) == min(later, default=epochs.end)
            assert epochs.lag(position) == len(later)
        assert epochs.next_offset(pack_offset(epoch, count + 1)) is None
        assert epochs.lag(pack_offset(epoch, count + 1)) is None
