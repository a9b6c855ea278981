"""The connection that the tasks of an event loop share: replies go to whoever asked, whatever happens to the others."""

import asyncio
import gc
import re
import socket
import ssl
import threading
import time
import warnings
from contextlib import ExitStack, suppress

import pytest
import trustme
from redis import Redis

from feature_store.embedded import EmbeddedValkey
from feature_store.errors import OnlineStoreError
from feature_store.reader.async_transport import AsyncSocketTransport


def run(url, act, *, timeout_s=2.0):
    """What an act over a transport returns, and how often the connection was lost."""
    lost = []

    async def main():
        transport = AsyncSocketTransport(url, timeout_s=timeout_s, on_lost=lambda: lost.append(1))
        try:
            return await act(transport)
        finally:
            await transport.close()

    return asyncio.run(main()), len(lost)


@pytest.fixture
def server(tmp_path):
    made = EmbeddedValkey(tmp_path, port=0)
    made.start()
    yield made
    made.stop()


def test_tasks_share_a_connection_and_each_gets_its_own_replies(server):
    async def act(transport):
        async def echo(number):
            return await transport.exchange([("ECHO", f"{number}"), ("ECHO", "x" * number)])

        found = await asyncio.gather(*(echo(number) for number in range(300)))
        [listed] = await transport.exchange([("CLIENT", "LIST", "TYPE", "normal")])
        return found, listed.count(b"\n")

    (found, connections), lost = run(server.url, act)

    assert found == [[str(number).encode(), b"x" * number] for number in range(300)]
    assert (connections, lost) == (1, 0)


def test_what_is_asked_within_one_turn_of_the_loop_is_one_write(server):
    async def reads(transport):
        [info] = await transport.exchange([("INFO", "stats")])
        return int(re.search(rb"total_reads_processed:(\d+)", info)[1])

    async def act(transport):
        before = await reads(transport)
        await asyncio.gather(*(transport.exchange([("PING",)]) for _ in range(100)))
        return await reads(transport) - before

    taken, _ = run(server.url, act)

    assert taken == 2


def test_the_replies_to_whoever_has_gone_are_nobody_elses(server):
    async def act(transport):
        await transport.exchange([("PING",)])
        gone = asyncio.create_task(transport.exchange([("ECHO", "gone"), ("ECHO", "away")]))
        await asyncio.sleep(0)  # it has sent its commands
        gone.cancel()
        return await asyncio.gather(*(transport.exchange([("ECHO", str(number))]) for number in range(5)))

    found, lost = run(server.url, act)

    assert found == [[str(number).encode()] for number in range(5)]
    assert lost == 0


def test_a_server_that_was_started_again_is_asked_on_a_new_connection(server):
    async def act(transport):
        before = await transport.exchange([("ECHO", "a")])
        server.kill()
        with pytest.raises(OnlineStoreError, match="cannot be reached"):
            await transport.exchange([("ECHO", "b")])
        server.start()
        return before + await transport.exchange([("ECHO", "c")])

    found, lost = run(server.url, act)

    assert found == [b"a", b"c"]
    assert lost >= 1


def test_a_connection_that_the_server_has_closed_is_replaced_within_the_read(server):
    async def act(transport):
        await transport.exchange([("PING",)])
        with Redis.from_url(server.url) as other:
            other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return await transport.exchange([("ECHO", "again")])

    found, lost = run(server.url, act)

    assert (found, lost) == ([b"again"], 1)


def test_a_server_that_does_not_answer_holds_nobody_beyond_the_timeout(server):
    async def act(transport):
        await transport.exchange([("PING",)])
        await transport.exchange([("CLIENT", "PAUSE", "1500")])
        began = time.monotonic()
        with pytest.raises(OnlineStoreError, match=r"no answer within 0\.3 s"):
            await transport.exchange([("ECHO", "late")])
        waited = time.monotonic() - began
        await asyncio.sleep(1.5)
        return waited, await transport.exchange([("ECHO", "later")])

    (waited, found), lost = run(server.url, act, timeout_s=0.3)

    assert waited < 1.2
    assert (found, lost) == ([b"later"], 1)


def test_what_is_no_redis_is_said():
    async def main():
        async def greet(reader, writer):
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        other = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        transport = AsyncSocketTransport(f"redis://127.0.0.1:{port}/0", timeout_s=1.0)
        async with other:
            with pytest.raises(OnlineStoreError, match="what came is no reply of a Redis"):
                await transport.exchange([("PING",)])
            await transport.close()

    asyncio.run(main())


def test_a_wrong_password_and_a_refused_command_are_said(server):
    secured = server.url.replace("redis://", "redis://somebody:wrong@")

    async def refused(transport):
        with pytest.raises(OnlineStoreError, match="refused AUTH: WRONGPASS"):
            await transport.exchange([("PING",)])

    async def unknown(transport):
        with pytest.raises(OnlineStoreError, match="refused NOSUCH: ERR unknown command"):
            await transport.exchange([("NOSUCH",)])
        return await transport.exchange([("ECHO", "still")])

    run(secured, refused)
    assert run(server.url, unknown) == ([b"still"], 0)


def test_a_transport_may_be_used_in_one_event_loop_after_another(server):
    transport = AsyncSocketTransport(server.url, timeout_s=2.0)

    async def ask(text):
        found = await transport.exchange([("ECHO", text)])
        await transport.close()
        return found

    assert [asyncio.run(ask(text)) for text in ("a", "b")] == [[b"a"], [b"b"]]


class Hanging:
    """Answers so many times, over TLS or plainly, then hangs: it neither reads nor writes nor says farewell.

    With `answers=None` it does not even shake hands.
    """

    def __init__(self, folder, scheme, *, answers):
        self._answers, self._listening = answers, socket.create_server(("127.0.0.1", 0))
        self._context = None
        if scheme == "rediss":
            authority, self._context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("localhost").configure_cert(self._context)
            authority.cert_pem.write_to_path(folder / "ca.pem")
        options = f"?ssl_ca_certs={folder / 'ca.pem'}" if self._context else ""
        self.url = f"{scheme}://user:secret@localhost:{self._listening.getsockname()[1]}/0{options}"
        self._thread, self._kept = threading.Thread(target=self._serve), ExitStack()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._kept.close()

    def _serve(self):
        with self._listening, suppress(OSError):
            while True:
                connection = self._kept.enter_context(self._listening.accept()[0])
                if self._answers is None:
                    continue
                if self._context:
                    connection = self._kept.enter_context(self._context.wrap_socket(connection, server_side=True))
                for _ in range(self._answers):
                    connection.recv(1 << 16)
                    connection.sendall(b"+OK\r\n")


async def answered(transport):
    await transport.exchange([("PING",)])


async def late(transport, size=1):
    await transport.exchange([("PING",)])
    with pytest.raises(OnlineStoreError, match=r"no answer within 0\.2 s"):
        await transport.exchange([("ECHO", "x" * size)])


async def unsent(transport):
    await late(transport, size=32 << 20)


async def unopened(transport):
    with pytest.raises(OnlineStoreError, match=r"no connection within 0\.2 s"):
        await transport.exchange([("PING",)])


async def left(transport):
    reading = asyncio.create_task(transport.exchange([("PING",)]))
    await asyncio.sleep(0.02)
    reading.cancel()


async def half_sent(transport):
    reading = asyncio.create_task(transport.exchange([("ECHO", "x" * (32 << 20))]))
    await asyncio.sleep(0.05)
    await transport.close()
    reading.cancel()


HANGS = [(answered, 2), (late, 2), (unsent, 2), (half_sent, 1), (unopened, 0), (left, 0), (left, 1)]


@pytest.mark.parametrize(
    ("scheme", "act", "answers"),
    [*(("redis", *hang) for hang in HANGS), *(("rediss", *hang) for hang in HANGS), ("rediss", unopened, None)],
)
def test_no_socket_is_left_and_a_server_that_hangs_holds_nobody(tmp_path, scheme, act, answers):
    with Hanging(tmp_path, scheme, answers=answers) as hanging, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        began = time.monotonic()
        run(hanging.url, act, timeout_s=0.2)
        took = time.monotonic() - began
        gc.collect()

    assert [str(warning.message) for warning in warned] == []
    assert took < 2
