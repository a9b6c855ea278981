"""The blocking reader."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from feature_store.clock import Clock, SystemClock
from feature_store.computed.functions import Runs
from feature_store.online.address import SENTINEL, connect
from feature_store.reader.batch import FeatureBatch
from feature_store.reader.client_transport import ClientTransport
from feature_store.reader.commands import Command
from feature_store.reader.core import AsOf, Features, Read, ReaderCore, Row, as_of_each
from feature_store.reader.given import Declared, functions_of
from feature_store.reader.listed import named
from feature_store.reader.push import Pusher
from feature_store.reader.sample import Sampled, ServedSample
from feature_store.reader.servers import refuse_timeout, servers_of
from feature_store.reader.transport import Reply, SocketTransport, Transport
from feature_store.reader.vector import FeatureVector

if TYPE_CHECKING:
    from feature_store.reader.servers import Client

_T = TypeVar("_T")


class FeatureReader:
    """Reads the features of an environment; threads may share it.

    Args:
        url: of Redis (`redis://`, `rediss://`, `unix://`) or of Sentinels (`redis+sentinel://`), or a client of redis-py:
            `Redis`, also of a Sentinel's primary or its replicas, or `RedisCluster`.
        env: the environment.
        clock: what `now` is; a replay brings its own.
        timeout_s: how long to wait for Redis; a client of redis-py has its own.
        log_served: whether to log the sample that each service declares of what it served.
        functions: the on-demand features whose functions it may run, as they are declared, or a registry. Encodings of
            the catalogue need not be given; of any other function that is not here the value is ERROR.
    """

    def __init__(
        self,
        url: str | Client,
        *,
        env: str = "dev",
        clock: Clock | None = None,
        timeout_s: float = 2.0,
        log_served: bool = True,
        functions: Declared = (),
    ) -> None:
        self._sample = ServedSample(env)
        refuse_timeout(timeout_s)
        self._core = ReaderCore(
            env,
            clock or SystemClock(),
            self._sample if log_served else None,
            functions_of(functions),
            servers=servers_of(url),
        )
        self._transport = _transport_to(url, timeout_s=timeout_s, on_lost=self._core.connection_lost)
        self._pusher = Pusher(self._sample, self._transport)

    def get_online_features(self, features: Features, row: Row, *, as_of: AsOf = None) -> FeatureVector:
        """The features of one row, in one round trip.

        Args:
            features: a service (`name`, as it is rolled out, `name@version`, or its declaration), or a list of `view:feature`.
            row: the join keys of all entities of the service; other columns are ignored.
            as_of: the time asked: an aware datetime or microseconds. Without it each view answers for now.

        Raises:
            UnknownNameError: the service, a view or a feature is not published.
            InputError: a join key is missing, or `as_of` is naive.
            OnlineStoreError: Redis cannot be reached, or a value is STALE or AHEAD where the service forbids it.
        """
        return self.get_online_features_batch(features, [row], as_of=as_of)[0]

    def get_online_features_batch(
        self, features: Features, rows: Sequence[Row], *, as_of: AsOf | Sequence[AsOf] = None
    ) -> FeatureBatch:
        """The features of many rows, in their order, in one round trip; `as_of` is one time or one for each row."""
        reads = self._core.reads(features, rows, as_of_each(as_of, len(rows)))
        vectors = self._run(reads[0]) if len(reads) == 1 else self._run_each(reads)
        if self._sample:
            self._pusher.wake()
        return FeatureBatch(vectors)

    @property
    def sampled(self) -> Sampled:
        """What became of the vectors that were chosen for the log of served vectors."""
        return self._sample.counts

    @property
    def runs(self) -> Mapping[str, Runs]:
        """On-demand feature -> calls, rows, failed rows, seconds and the slowest call of its function so far."""
        return self._core.functions.runs

    def close(self) -> None:
        """Push what waits of the sample, and close the connections that this reader opened."""
        self._pusher.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def requested(self, features: Features) -> Mapping[str, str]:
        """What on-demand features of a service take from a request: column -> int, float, bool, str, timestamp or date."""
        return self._run(self._core.requested(features if isinstance(features, str) else named(features)))

    def _run_each(self, reads: Sequence[Read]) -> list[FeatureVector]:
        """The vectors of reads one after the other; Redis works on the next while its replies to one become vectors."""
        each = zip(reads, self._transport.exchange_each(map(next, reads)), strict=True)
        return [vector for read, replies in each for vector in self._run(read, replies)]

    def _run(self, read: Generator[Sequence[Command], list[Reply], _T], replies: list[Reply] | None = None) -> _T:
        """What a read returns; `replies` to its first commands, if they were asked already."""
        exchange = self._transport.exchange
        try:
            commands = next(read) if replies is None else read.send(replies)
            while True:
                replies = exchange(commands)
                del commands  # before the replies become vectors: fewer containers at once
                commands = read.send(replies)
        except StopIteration as done:
            found: _T = done.value
            return found


def _transport_to(url: str | Client, *, timeout_s: float, on_lost: Callable[[], None]) -> Transport:
    """Connections of our own to a URL, redis-py's where Sentinels are asked, or the client that is given."""
    if isinstance(url, str) and url.startswith(SENTINEL):
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once_more, waits = Retry(NoBackoff(), 1), {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        return ClientTransport(connect(url, retry=once_more, **waits), on_lost=on_lost, owned=True)
    if isinstance(url, str):
        return SocketTransport(url, timeout_s=timeout_s, on_lost=on_lost)
    return ClientTransport(url, on_lost=on_lost)
