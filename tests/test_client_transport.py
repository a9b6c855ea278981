"""A client of redis-py as a transport: what it says, what it does not, and how long it may take."""

import asyncio
import os
import signal
import time

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from feature_store.embedded import EmbeddedValkey, free_port
from feature_store.errors import InputError, OnlineStoreError
from feature_store.reader import AsyncFeatureReader, FeatureReader
from feature_store.reader.client_transport import AsyncClientTransport, ClientTransport


class Sync:
    """A transport over a client, and how often it lost its server."""

    def __init__(self, url, **options):
        self.lost, self.held = [], []
        self.client = redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 2), **options)
        self.transport = ClientTransport(self.client, on_lost=lambda: self.lost.append(1))

    def exchange(self, *commands):
        return self.transport.exchange(commands)

    def hold(self):
        """Take a connection out of the pool."""
        self.held.append(self.client.connection_pool.get_connection())

    def release(self):
        self.client.connection_pool.release(self.held.pop())

    def close(self):
        self.client.close()


class Async(Sync):
    """The same for asyncio."""

    def __init__(self, url, **options):
        self.lost, self.held, self.loop = [], [], asyncio.new_event_loop()
        self.client = redis.asyncio.Redis.from_url(url, retry=AsyncRetry(ConstantBackoff(0.05), 2), **options)
        self.transport = AsyncClientTransport(self.client, on_lost=lambda: self.lost.append(1))

    def exchange(self, *commands):
        return self.loop.run_until_complete(self.transport.exchange(commands))

    def hold(self):
        self.held.append(self.loop.run_until_complete(self.client.connection_pool.get_connection()))

    def release(self):
        self.loop.run_until_complete(self.client.connection_pool.release(self.held.pop()))

    def close(self):
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


@pytest.fixture(params=[Sync, Async])
def made(request, valkey):
    made = request.param(valkey.url)
    yield made
    made.close()


def end_connections(url):
    with redis.Redis.from_url(url) as other:
        other.client_kill_filter(_type="normal", skipme=True)


def test_a_client_that_connects_again_by_itself_has_lost_its_server(made, valkey):
    assert made.exchange(("ECHO", "a"), ("ECHO", "b")) == [b"a", b"b"]
    assert made.lost == []

    end_connections(valkey.url)

    assert made.exchange(("ECHO", "c")) == [b"c"]
    assert made.lost == [1]


def test_what_is_lost_with_a_whole_pool_is_lost_once(made, valkey):
    made.exchange(("PING",))
    made.hold()
    made.exchange(("PING",))  # on a second connection
    made.release()
    end_connections(valkey.url)

    made.exchange(("PING",))
    made.hold()
    made.exchange(("PING",))  # the second one is made anew, too
    made.release()
    assert made.lost == [1]

    end_connections(valkey.url)
    made.exchange(("PING",))
    assert made.lost == [1, 1]


def test_a_refused_command_is_named_and_the_connection_stays_of_use(made):
    with pytest.raises(OnlineStoreError, match=r"Redis at 127\.0\.0\.1:\d+ refused NOSUCH: "):
        made.exchange(("PING",), ("NOSUCH",), ("PING",))

    assert made.exchange(("ECHO", "still")) == [b"still"]
    assert made.lost == []


@pytest.mark.parametrize("kind", [Sync, Async])
def test_a_server_that_does_not_answer_is_asked_as_often_as_the_client_says(kind, tmp_path):
    with EmbeddedValkey(tmp_path) as server:
        made = kind(server.url, socket_timeout=0.2)
        made.exchange(("PING",))
        os.kill(server.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(OnlineStoreError, match="cannot be reached: Timeout"):
            made.exchange(("ECHO", "late"))
        waited = time.monotonic() - began
        os.kill(server.pid, signal.SIGCONT)
        assert made.exchange(("ECHO", "later")) == [b"later"]
        made.close()

    assert 0.6 <= waited < 5  # three times 0.2 s, and the pauses between
    assert made.lost


@pytest.mark.parametrize("kind", [Sync, Async])
def test_a_server_that_is_away_is_named_without_its_password(kind):
    made = kind(f"redis://:secret@127.0.0.1:{free_port()}")

    with pytest.raises(OnlineStoreError, match=r"Redis at 127\.0\.0\.1:\d+ cannot be reached") as error:
        made.exchange(("PING",))
    made.close()

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("reader", "client"),
    [
        (FeatureReader, redis.asyncio.Redis),
        (AsyncFeatureReader, redis.Redis),
        (FeatureReader, object),
        (FeatureReader, lambda: redis.sentinel.Sentinel([("127.0.0.1", 1)])),
    ],
)
def test_what_is_no_client_for_a_reader_is_refused(reader, client):
    with pytest.raises(InputError, match=r"`url` must be a URL or a client of redis.*, got "):
        reader(client())
