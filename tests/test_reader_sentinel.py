"""Reads by a Sentinel's clients: a real primary, replica and Sentinel, and a failover that loses the last write.

primary  JFK=3, beat 9 ---- JFK=4, beat 10 | dies
replica  JFK=3, beat 9 --- (hears nothing) -------- is promoted -------- JFK=5, beat 11
reads    3 PRESENT        4 PRESENT        errors, then 3 STALE          5 PRESENT
"""

import threading
import time

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from online_world import SLA_US, World, departures, item, service, withdraw_shards
from reader_kinds import Awaited, Blocking, until
from redis.backoff import ConstantBackoff
from sentinel_world import watched

from chaos.failover import NOWHERE
from feature_store.embedded import HOST, free_port
from feature_store.errors import InputError, OnlineStoreError, StoreLost, StoreUnavailable
from feature_store.online.address import connect, disconnect, parse_sentinels
from feature_store.online.fence import Fence
from feature_store.online.owner import take_over
from feature_store.online.server import check_server
from feature_store.online.writer import OnlineWriter, Write
from feature_store.reader import FeatureReader
from feature_store.settings import Settings
from feature_store.time_rule import SECOND_US

VIEW = departures(features=["count_1h"])
ROWS = [{"origin": "JFK"}, {"origin": "LGA"}]
PROMPT = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
EITHER = pytest.mark.parametrize("kind", [Blocking, Awaited])


class Guarded:
    """A store on a primary, its replica and the Sentinel that watches both."""

    def __init__(self, servers):
        self.servers, self.primary, self.replica = servers, servers.primary, servers.replica
        self.url = servers.url
        self.world = World(self.primary.url, "dev")
        self.clock = self.world.clock
        self.world.publish(VIEW, services=[service(item("departures", "count_1h"))])
        self.give("JFK", 3, n=9)

    def give(self, origin, count, *, n):
        """A write as the flow's, and its beat behind it."""
        self.world.put(VIEW, origin, count)
        self.world.ready(n=n)

    def replicated(self):
        """Whether the replica has everything."""
        return self.world.client.wait(1, 5000) == 1

    def cut_off(self):
        """The replica hears nothing any more."""
        assert self.replicated()
        with redis.Redis.from_url(self.replica.url) as client:
            client.replicaof(HOST, NOWHERE)

    def promoted(self):
        """From here on the world writes to the replica, which was promoted."""
        self.world.client.close()
        self.servers.wait_until_promoted()
        self.world = World(self.replica.url, "dev")
        self.world.clock, self.world.views = self.clock, {VIEW.id: VIEW}

    def reads(self, kind, *, by="client", of_replicas=False):
        """A reader of the client that Sentinel's own client makes."""
        package = redis.asyncio if kind is Awaited else redis
        if by == "url":
            return kind(lambda _: self.url, self.clock, timeout_s=0.5)

        def connect(reads):
            retry = package.retry.Retry(ConstantBackoff(0.05), 3)
            found = reads.sentinel = package.sentinel.Sentinel([self.servers.at], **PROMPT, retry=retry)
            return found.slave_for("main") if of_replicas else found.master_for("main")

        return kind(connect, self.clock)

    @staticmethod
    def close(reads):
        """End a reader, its client and the Sentinel's."""
        for each in reads.sentinel.sentinels if hasattr(reads, "sentinel") else []:
            reads.loop.run_until_complete(each.aclose()) if isinstance(reads, Awaited) else each.close()
        reads.close()


@pytest.fixture
def shop(tmp_path):
    with watched(tmp_path) as servers:
        shop = Guarded(servers)
        yield shop
        shop.world.client.close()


def read_promptly(reads):
    began = time.monotonic()
    found = reads.read(ROWS)
    assert time.monotonic() - began < 2
    return found


@EITHER
@pytest.mark.parametrize("by", ["client", "url"])
def test_a_failover_that_loses_an_acknowledged_write_is_noticed_by_a_reader_that_did_not_look_meanwhile(shop, kind, by):
    reads = shop.reads(kind, by=by)
    assert read_promptly(reads) == [(3, "PRESENT"), (0, "EMPTY")]
    if by == "client":  # somebody else uses the connection, so the next read has one that was never lost
        held = reads.take(reads.client.connection_pool)

    shop.cut_off()
    for origin in ("JFK", "LGA"):
        shop.give(origin, 4, n=10)
    shop.primary.kill()
    shop.promoted()

    assert read_promptly(reads) == [(3, "STALE"), (None, "UNKNOWN")]
    shop.give("JFK", 5, n=11)
    shop.clock.move_to(shop.clock.at_us + SECOND_US)
    assert reads.read(ROWS) == [(5, "PRESENT"), (0, "EMPTY")]
    if by == "client":
        reads.give_back(reads.client.connection_pool, held)
    shop.close(reads)


def test_threads_that_read_through_a_failover_never_see_an_older_value_as_a_right_one(shop):
    reads, answers, ended = shop.reads(Blocking), [], threading.Event()

    def read_on():
        while not ended.wait(0.005):
            began = time.monotonic()
            try:
                answers.append((began, reads.read(ROWS[:1])[0]))
            except OnlineStoreError as error:
                answers.append((began, error))

    threads = [threading.Thread(target=read_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    shop.cut_off()
    shop.give("JFK", 4, n=10)
    acknowledged = time.monotonic()
    time.sleep(0.1)
    shop.primary.kill()
    shop.promoted()
    until(lambda: answers[-1][1] == (3, "STALE"))
    shop.give("JFK", 5, n=11)
    shop.clock.move_to(shop.clock.at_us + SECOND_US)
    until(lambda: all(answer == (5, "PRESENT") for _, answer in answers[-30:]))
    ended.set()
    for thread in threads:
        thread.join()
    shop.close(reads)

    later = {answer for began, answer in answers if began > acknowledged and not isinstance(answer, OnlineStoreError)}
    assert {answer for answer in later if answer[1] != "STALE"} == {(4, "PRESENT"), (5, "PRESENT")}
    assert (3, "STALE") in later


@EITHER
def test_a_replica_is_believed_as_far_as_its_own_record_says_and_no_other_record_is(shop, kind):
    reads, trips = shop.reads(kind, of_replicas=True), []
    assert reads.read(ROWS) == [(3, "PRESENT"), (0, "EMPTY")]
    exchange = reads.transport.exchange
    reads.transport.exchange = lambda commands: trips.append(1) or exchange(commands)

    shop.give("JFK", 2, n=8)  # as if this were another replica, which is behind
    assert shop.replicated()
    assert reads.read(ROWS) == [(2, "PRESENT"), (0, "EMPTY")]
    withdraw_shards(shop.world.client, "dev")
    assert shop.replicated()
    assert reads.read(ROWS) == [(2, "STALE"), (None, "UNKNOWN")]
    assert len(trips) == 2  # a round trip each, what vouches included

    shop.give("JFK", 3, n=9)
    shop.cut_off()
    shop.give("JFK", 4, n=10)
    assert reads.read(ROWS) == [(3, "PRESENT"), (0, "EMPTY")]
    shop.clock.move_to(shop.clock.at_us + SLA_US + 1)
    assert reads.read(ROWS) == [(3, "STALE"), (None, "UNKNOWN")]
    shop.close(reads)


def test_a_writer_by_the_url_follows_the_failover_and_finds_that_a_write_was_lost(shop):
    client = connect(shop.url, socket_timeout=0.5)
    assert check_server(client).name == "Valkey"
    owner = take_over(client, "dev", 1, shards=1)
    writer = OnlineWriter(client, "dev", fence=Fence("dev", owner, 0))

    def write(number):
        writer.write([Write(f"features:dev:{{airport:X{number}}}", VIEW.id, b"x", 60_000)])

    write(1)
    shop.cut_off()
    write(2)
    shop.primary.kill()
    errors, deadline = [], time.monotonic() + 20
    while not any(isinstance(error, StoreLost) for error in errors):
        assert time.monotonic() < deadline, errors
        try:
            write(3)
        except OnlineStoreError as error:
            errors.append(error)
        time.sleep(0.05)
    disconnect(client)

    assert all(isinstance(error, StoreUnavailable) for error in errors[:-1])
    shop.promoted()
    assert sorted(shop.world.client.keys("*X*")) == [b"features:dev:{airport:X1}"]


@EITHER
def test_sentinels_that_are_away_are_said_in_one_line(kind):
    reads = kind(lambda _: f"redis+sentinel://u:secret@{HOST}:{free_port()}/main", None, timeout_s=0.5)
    with pytest.raises(OnlineStoreError) as error:
        reads.read(ROWS)
    reads.close()

    said = "Redis at the primary of Sentinel's 'main' cannot be reached: No master found for 'main'; start it, or"
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("url", "sentinels", "options"),
    [
        ("redis+sentinel://a:1,b/main", [("a", 1), ("b", 26379)], {"db": 0}),
        ("redis+sentinel://:p%40@[::1]:3/main?db=2", [("::1", 3)], {"db": 2, "password": "p@"}),
        ("redis+sentinel://u:p@a/main", [("a", 26379)], {"db": 0, "username": "u", "password": "p"}),
    ],
)
def test_a_url_of_sentinels_names_them_the_primary_and_how_it_is_greeted(url, sentinels, options):
    assert parse_sentinels(url) == (sentinels, "main", options)
    assert Settings(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "rest", ["a:x/main", "a:99999/main", "a", "a/", "a/b/c", "/main", "a,/main", "[::1/main", "a/main?ssl=1"]
)
def test_another_url_of_sentinels_is_refused_without_its_password(rest):
    with pytest.raises(InputError, match=r"must be like redis\+sentinel://user:password@host:26379,.*, got '") as error:
        FeatureReader(f"redis+sentinel://u:secret@{rest}")

    assert "secret" not in str(error.value)
