"""Redis behind TLS: both readers, redis-py and the API's server say `rediss://` with the same options in the URL.

The embedded Valkey is built without TLS, so a proxy in this process ends it, as stunnel would.
"""

import asyncio
import gc
import re
import ssl
import threading
import time
import warnings
from contextlib import suppress

import pytest
import trustme
from online_world import World, departures, item, service

from feature_store.errors import InputError, OnlineStoreError
from feature_store.online.server import inspect_server
from feature_store.reader import AsyncFeatureReader, FeatureReader

JFK = {"origin": "JFK"}


class Proxy:
    """Takes TLS from clients that have a certificate of the authority, and passes on to a server without."""

    def __init__(self, folder, port):
        self.folder, self.authority, self._target = folder, trustme.CA(), port
        made, client = self.authority.issue_cert("localhost"), self.authority.issue_cert("reader@example.org")
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        client.cert_chain_pems[0].write_to_path(folder / "client.pem")
        client.private_key_pem.write_to_path(folder / "client.key")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.configure_cert(self._context)
        self.authority.configure_trust(self._context)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop, self._is_up = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        assert self._is_up.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def url(self, *, host="localhost", **files):
        options = "&".join(f"{name}={self.folder / file}" for name, file in files.items())
        return f"rediss://{host}:{self.port}/0?{options}"

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._loop.set_exception_handler(lambda *_: None)  # handshakes that are meant to fail
        self._is_up.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _pass_on(self, reader, writer):
        inner, outer = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source, sink):
            with suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, outer), pump(inner, writer))


@pytest.fixture(scope="module")
def proxy(valkey, tmp_path_factory):
    with Proxy(tmp_path_factory.mktemp("tls"), valkey.port) as running:
        yield running


FILES = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}


def test_both_readers_and_the_writer_speak_tls_with_a_certificate_of_their_own(proxy, valkey, environment):
    world = World(proxy.url(**FILES), environment)  # writes by redis-py, by the same URL
    view = departures()
    world.publish(view, services=[service(item("departures", "count_1h"))])
    world.put(view, "JFK", 3, 1.0)
    world.ready()

    async def asynchronously():
        async with AsyncFeatureReader(world.url, env=environment, clock=world.clock, timeout_s=10) as reader:
            return (await reader.get_online_features("delay", JFK)).values

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        began = time.monotonic()
        assert asyncio.run(asynchronously()) == [3]
        assert time.monotonic() - began < 5  # the server's farewell is heard: nothing waits for a timeout
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
    with FeatureReader(world.url, env=environment, clock=world.clock, timeout_s=10) as reader:
        assert reader.get_online_features("delay", JFK).values == [3]
    assert inspect_server(world.client).name == "Valkey"
    world.client.close()


@pytest.mark.parametrize(
    ("files", "host", "said"),
    [
        ({name: FILES[name] for name in ("ssl_certfile", "ssl_keyfile")}, "localhost", "certificate verify failed"),
        (FILES, "127.0.0.1", "certificate is not valid for '127.0.0.1'"),
        ({"ssl_ca_certs": "ca.pem"}, "localhost", "cannot be reached"),  # the server wants a certificate
    ],
)
def test_a_server_that_is_not_believed_or_does_not_believe_is_said_in_one_line(proxy, files, host, said):
    url = proxy.url(host=host, **files)

    async def ask():
        async with AsyncFeatureReader(url, timeout_s=10) as reader:
            await reader.get_online_features("delay", JFK)

    with pytest.raises(OnlineStoreError, match=said), FeatureReader(url, timeout_s=10) as reader:
        reader.get_online_features("delay", JFK)
    with pytest.raises(OnlineStoreError, match=said):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("ssl_certfile=a.pem", "`ssl_certfile` and `ssl_keyfile` of a URL are given together, got one of them"),
        (
            "ssl_ca_certs=/nowhere.pem",
            "`ssl_ca_certs` '/nowhere.pem' of 'rediss://:***@h/0' are of no use: No such file",
        ),
        (f"ssl_ca_certs={__file__}", "are of no use: NO_CERTIFICATE_OR_CRL_FOUND"),
        ("ssl_cert_reqs=none", "`url` takes no option but `db` and files of TLS, got `ssl_cert_reqs`"),
    ],
)
def test_options_of_tls_that_are_of_no_use_are_refused_before_anything_is_asked(options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        FeatureReader(f"rediss://:secret@h/0?{options}")
    with pytest.raises(InputError, match="`url` takes no option but `db`, got `ssl_ca_certs`"):
        FeatureReader("redis://h/0?ssl_ca_certs=a.pem")
