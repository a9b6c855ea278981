"""One round trip to Redis: commands out, replies back.

A URL gets a connection of our own, on a socket and hiredis: importing redis-py alone would take longer than a first
read may, and its pipeline longer than Redis does. A client of redis-py is taken as it is: `client_transport`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from feature_store.errors import InputError, OnlineStoreError
from feature_store.reader.commands import Command, Pack, packed
from feature_store.reader.tls import OPTIONS, tls_context

if TYPE_CHECKING:
    import ssl

    import hiredis

Reply = object
"""bytes, int, None, or a list (of a hash: a flat list or a dict)."""

CHUNK_BYTES = 1 << 16


class Transport(Protocol):
    """Sends commands and returns their replies, in order."""

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip.

        Raises:
            OnlineStoreError: Redis cannot be reached or refuses a command.
        """

    def exchange_each(self, requests: Iterable[Sequence[Command]]) -> Iterator[list[Reply]]:
        """The replies to each of some requests, all of which are sent before the first is waited for.

        So whoever asks can work on some replies while Redis works on the rest.

        Raises:
            OnlineStoreError: as `exchange`.
        """

    def close(self) -> None:
        """Give connections back."""


class Address(NamedTuple):
    """Where a Redis listens and how it wants to be greeted."""

    shown: str
    """The URL without its password and options."""
    host: str
    port: int
    path: str | None
    """Of a Unix socket."""
    tls: ssl.SSLContext | None
    hello: tuple[Command, ...]


def parse_url(url: str) -> Address:
    """The address in `redis://`, `rediss://` or `unix://`, as redis-py spells it.

    Raises:
        InputError: for another scheme, a wrong port or database, or an option but `db` and, of TLS, files.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    database = options.pop("db", "" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
    try:
        port = parts.port or 6379
    except ValueError:
        port = 0
    shown = urlunsplit(parts._replace(query=""))  # an option may hold a password too
    if parts.password:
        shown = shown.replace(f":{parts.password}@", ":***@")
    if parts.scheme not in ("redis", "rediss", "unix") or not port or not database.isdigit():
        raise InputError(
            f"`url` must be like redis://user:password@host:6379/0, rediss://... or unix://..., got '{shown}'"
        )
    files = {name: options.pop(name) for name in OPTIONS if name in options and parts.scheme == "rediss"}
    if options:
        raise InputError(
            f"`url` takes no option but `db`{' and files of TLS' if parts.scheme == 'rediss' else ''}, "
            f"got {', '.join(f'`{name}`' for name in options)} in '{shown}'; "
            "for others pass a client of redis-py instead of a URL"
        )
    tls = tls_context(files, shown=shown) if parts.scheme == "rediss" else None
    hello: list[Command] = []
    if parts.password:
        user = (unquote(parts.username),) if parts.username else ()
        hello.append(("AUTH", *user, unquote(parts.password)))
    if database != "0":
        hello.append(("SELECT", database))
    path = unquote(parts.path) if parts.scheme == "unix" else None
    return Address(shown, parts.hostname or "localhost", port, path, tls, tuple(hello))


class SocketTransport:
    """Connections of our own, kept open and shared by threads; each is used by one thread at a time."""

    def __init__(self, url: str, *, timeout_s: float, on_lost: Callable[[], None] = lambda: None) -> None:
        """`on_lost` is called when a connection turns out to be of no use, before another one is asked."""
        self.address = parse_url(url)
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._pid = os.getpid()

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """One round trip; tried again once on a new connection if an old one turns out to be closed."""
        if not commands:
            return []
        connection = self._take()
        try:
            replies = connection.exchange(commands)
        except TimeoutError as error:
            self._on_lost()
            raise self._away(f"no answer within {self._timeout_s:g} s") from error
        except OSError:
            self.close()  # the others are as old
            self._on_lost()
            connection = self._connect()
            try:
                replies = connection.exchange(commands)
            except OSError as error:
                raise self._away(error) from error
        self._idle.append(connection)
        return checked(replies, commands, self.address.shown)

    def exchange_each(self, requests: Iterable[Sequence[Command]]) -> Iterator[list[Reply]]:
        """As `Transport.exchange_each`, on one connection; what an old one leaves without an answer is asked anew."""
        connection, sent, answered = self._take(), list[Sequence[Command]](), 0
        rest = iter(requests)
        try:
            for commands in rest:
                sent.append(commands)
                connection.send(commands)
            for commands in sent:
                replies = connection.receive(len(commands))
                answered += 1
                yield checked(replies, commands, self.address.shown)
        except TimeoutError as error:
            self._on_lost()
            raise self._away(f"no answer within {self._timeout_s:g} s") from error
        except OSError:
            self.close()
            self._on_lost()
            yield from map(self.exchange, chain(sent[answered:], rest))
        finally:
            if answered == len(sent):
                self._idle.append(connection)
            else:  # the replies that are still to come would answer the next request
                connection.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection:
        if self._pid != os.getpid():  # a fork: these connections belong to the parent
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> _Connection:
        try:
            connection = _Connection(self.address, self._timeout_s)
            greeted = connection.exchange(self.address.hello)
        except OSError as error:
            raise self._away(error) from error
        try:
            checked(greeted, self.address.hello, self.address.shown)
        except OnlineStoreError:
            connection.close()
            raise
        return connection

    def _away(self, why: object) -> OnlineStoreError:
        return away(self.address.shown, why)


class _Connection:
    """A socket and the parser of what comes from it."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        import hiredis

        self._pack = cast("Pack", hiredis.pack_command)
        self._reader: hiredis.Reader = hiredis.Reader()
        self._socket = _open(address, timeout_s)

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all, then read as many replies; an error reply is an exception among them."""
        try:
            self.send(commands)
            return self.receive(len(commands))
        except BaseException:
            # Interrupted half way: the replies that are still to come would answer the next request.
            self.close()
            raise

    def send(self, commands: Sequence[Command]) -> None:
        """Send all; whoever does not receive as many replies afterwards closes the connection."""
        self._socket.sendall(packed(commands, self._pack))

    def receive(self, missing: int) -> list[Reply]:
        """So many replies to what was sent, in its order."""
        reader = self._reader
        replies: list[Reply] = []
        while True:
            while missing and (reply := reader.gets()) is not False:
                replies.append(reply)
                missing -= 1
            if not missing:
                return replies
            reader.feed(self._received())

    def close(self) -> None:
        self._socket.close()

    def _received(self) -> bytes:
        data = self._socket.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data


def _open(address: Address, timeout_s: float) -> socket.socket:
    if address.path is not None:
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(timeout_s)
        local.connect(address.path)
        return local
    connected = socket.create_connection((address.host, address.port), timeout=timeout_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected if address.tls is None else address.tls.wrap_socket(connected, server_hostname=address.host)


def checked(replies: list[Reply], commands: Sequence[Command], shown: str) -> list[Reply]:
    """The replies, if none is a refusal."""
    if not any(issubclass(kind, Exception) for kind in set(map(type, replies))):
        return replies
    for reply, command in zip(replies, commands, strict=True):
        if isinstance(reply, Exception):
            if str(reply).startswith("MOVED "):
                raise OnlineStoreError(
                    f"Redis at {shown} is a node of a cluster and lacks keys of {command[0]!s}; "
                    "pass a client, redis.cluster.RedisCluster, instead of a URL"
                )
            raise OnlineStoreError(f"Redis at {shown} refused {command[0]!s}: {reply}")
    return replies


def as_hash(reply: Reply) -> dict[bytes, bytes]:
    """A hash, whichever way the protocol spells it."""
    if isinstance(reply, dict):
        return reply
    flat = iter(cast("list[bytes]", reply))
    return dict(zip(flat, flat, strict=True))


def away(shown: str, why: object) -> OnlineStoreError:
    """The error for a Redis that does not answer."""
    return OnlineStoreError(f"Redis at {shown} cannot be reached: {why}; start it, or set the URL of one that runs")
